"""Where raw data and backbones come from."""
