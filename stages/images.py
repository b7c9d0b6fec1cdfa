"""The images in one form, whatever their source."""

from importlib import import_module
from pathlib import Path

import pandas as pd

from pipeline.base.errors import UserError, print_note
from pipeline.base.files import atomic, scratch
from pipeline.data.raw import write_raw
from pipeline.data.tables import write_csv
from pipeline.params import Params
from pipeline.sources.files import LeftOutError

RAW = Path("data/raw")
LEFT_OUT = Path("report/left_out.csv")


def main(params: Params) -> None:
    source = import_module(f"pipeline.sources.{params.images.source}")
    with scratch(RAW.with_name("images.tar")) as archive:  # not in RAW, which is an out
        try:
            raw = source.read(params.images, archive, print_note)
        except LeftOutError as error:
            write_left_out(error.left_out)
            raise UserError(f"{error}; {LEFT_OUT} names each file") from None
        write_raw(RAW, raw)
    write_left_out(raw.left_out)
    if len(raw.left_out):
        print_note(f"{LEFT_OUT} names the {len(raw.left_out):,} files that are not used, and why")


def write_left_out(table: pd.DataFrame) -> None:
    with atomic(LEFT_OUT) as (path,):
        write_csv(path, table)
