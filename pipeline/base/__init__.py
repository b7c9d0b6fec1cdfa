"""Files, errors, arrays, threads, devices: what is about neither images nor networks."""
