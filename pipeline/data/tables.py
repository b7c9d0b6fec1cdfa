"""Tables and values as CSV and JSON: the same bytes on every platform."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.base.files import write_text

# A class may be called 007, and a file too.
ARE_TEXT = dict.fromkeys(("class", "mistaken_for", "file", "first", "second"), str)


def read_table(path: str | Path) -> pd.DataFrame:
    """A table that :func:`write_csv` wrote; an empty cell is empty text."""
    return pd.read_csv(path, keep_default_na=False, dtype=ARE_TEXT)


def read_json(path: str | Path) -> Any:
    """What :func:`write_json` wrote."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def write_csv(path: Path, table: pd.DataFrame, float_format: str | None = "%.6f") -> None:
    """Write ``table`` as CSV without its index. Not atomic by itself: see ``base.files.atomic``.

    Args:
        float_format: six decimals by default; None for all digits.
    """
    table.to_csv(
        path,
        index=False,
        lineterminator="\n",
        float_format=float_format,
        encoding="utf-8",
    )


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` atomically as indented JSON, keys in the order given.

    Raises:
        ValueError: it contains NaN or infinity, which JSON does not have and plots cannot read.
    """
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")
