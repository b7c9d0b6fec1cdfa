"""Tables and values are the same bytes on every platform."""

from pathlib import Path

import pandas as pd
import pytest

from pipeline.data.tables import write_csv, write_json


def test_a_table_has_six_decimals_unless_all_are_wanted(tmp_path: Path) -> None:
    table = pd.DataFrame({"name": ["ü"], "value": [1 / 3]})
    write_csv(tmp_path / "x.csv", table)
    assert (tmp_path / "x.csv").read_bytes() == "name,value\nü,0.333333\n".encode()
    write_csv(tmp_path / "x.csv", table, float_format=None)
    assert pd.read_csv(tmp_path / "x.csv")["value"][0] == 1 / 3


def test_json_keeps_the_order_of_keys_and_has_no_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"b": 1, "a": [0.5]})
    assert (tmp_path / "x.json").read_text() == '{\n  "b": 1,\n  "a": [\n    0.5\n  ]\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"loss": float("nan")})
