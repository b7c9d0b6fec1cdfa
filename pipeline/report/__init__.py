"""Tables, intervals and figures."""
