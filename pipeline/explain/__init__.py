"""Explanations of predictions: Grad-CAM, and the panels that show it."""
