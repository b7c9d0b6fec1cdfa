"""Tables, intervals, figures and explanations."""
