"""What the data look like before any training."""
