"""What people start, through the Makefile."""
