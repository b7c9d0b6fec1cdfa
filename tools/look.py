"""A look at one's own images before any training: a page of what to check, in the folder own/.

Usage: python -m tools.look IMAGES [BACKBONE]

The arguments are those of tools.own. It runs the same pipeline with the same params, up to the
stage explore, so `make own` begins where this ends.
"""

import argparse
import sys

from pipeline.base.errors import UserError, for_people
from pipeline.base.files import write_text
from pipeline.report.data import data_page, read_data
from tools.commands import DVC, run
from tools.own import OWN, prepare, rows_of
from tools.sandbox import PROJECT

TABLES = {
    "suspects.csv": "labels to check",
    "alike.csv": "images that are the same, or nearly",
    "odd.csv": "unusual images",
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.look", description="see tools/look.py")
    parser.add_argument("images", nargs="?", default="")
    parser.add_argument("backbone", nargs="?", default="")
    arguments = parser.parse_args()
    if not arguments.images:
        raise UserError("name your images: make look IMAGES=path/to/folder")
    place = prepare(arguments)
    if code := run(OWN, *DVC, "repro", "explore").returncode:
        if not arguments.backbone:
            print(
                "If the backbone could not be downloaded: "
                "make look IMAGES=… BACKBONE=file of ImageNet weights of a ResNet18"
            )
        return code

    report = OWN / "report"
    write_text(report / "data.html", data_page(read_data(OWN / "data" / "raw", report), place.name))
    name = report.relative_to(PROJECT)
    print(f"\nThe data: {name}/data.html, for a browser")
    for table, words in TABLES.items():
        print(f"          {name}/{table}: {words}")
    if count := rows_of(report / "left_out.csv"):
        print(f"Left out: {count:,} files; {name}/left_out.csv says which, and why.")
    return 0


if __name__ == "__main__":
    with for_people():
        sys.exit(main())
