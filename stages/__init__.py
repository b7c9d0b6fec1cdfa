"""One short script a stage: values in, outs written. `python -m stages STAGE` runs them (__main__.py)."""
