"""Figures: how they look, and a function for each."""
