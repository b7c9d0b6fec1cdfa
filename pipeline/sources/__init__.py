"""Where images and backbones come from: the only place that knows Flowers-102 or a network address.

A source of images is a module with a function ``read``; it gives raw data as pipeline/data/raw.py
defines them, for the stage images:

    read(images: Images, scratch: Path, note: Callable[[str], None]) -> RawData

``images`` is that section of params.yaml, ``scratch`` a path where it may write an archive, and
``note`` takes one line about anything unexpected.
"""
