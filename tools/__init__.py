"""Programs that people start through the Makefile."""
