"""Networks, what of them is frozen, stored features, model files."""
