"""Files, cache, errors, threads, launchers: nothing about images or networks, and no torch."""
