"""One short script a stage, which `python -m stages STAGE` runs (__main__.py)."""
