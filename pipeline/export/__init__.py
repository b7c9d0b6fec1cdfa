"""Trained models in formats for other programs."""
