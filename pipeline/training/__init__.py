"""The training loop, its checkpoints, evaluation."""
