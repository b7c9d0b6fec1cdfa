"""Labels in a table beside the images: CSV, TSV, JSON lines, as Kaggle, Hugging Face and others.

Columns are found by what is in them and by their usual names; images.columns in params.yaml names
them otherwise. An image is known by its path, by the end of its path, or by its name with or
without suffix.
"""

import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from pipeline.base.errors import UserError, listed
from pipeline.params import Columns
from pipeline.sources.files import composed
from pipeline.sources.layout import UNLABELLED, Layout, Place, split_of

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")
LARGEST = 1 << 28  # bytes of a table
# Usual names of columns, without what is neither letter nor digit, the clearest first.
IMAGE_NAMES = "filename filepath imagepath imagename imageid imagefile image file path img id name"
LABEL_NAMES = (
    "classname labelname label class category species breed target diagnosis dx variety genus "
    "labels classes tag y classid labelid"
)
SPLIT_NAMES = "split subset set partition phase usage isvalid"
GROUP_NAMES = "group groupid patient patientid subject subjectid lesionid individual plant session"
SEPARATORS = ("|", ";", ",", "/", " ")  # between several labels in one cell
ONE_LABEL = "one label an image is what this project does"
NOT_A_TABLE = "submission"  # in its name: what a contest wants back


@dataclass(frozen=True)
class Table:
    """A table as it was found, all cells as text.

    Attributes:
        name: path of the file in the data.
        cells: columns and rows.
    """

    name: str
    cells: pd.DataFrame

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(map(str, self.cells))


class Finder:
    """Finds the image that a cell of a table means."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = set(names)
        self._by_key: dict[str, list[str]] = {}
        for name in sorted(self._names):
            path = PurePosixPath(name)
            for key in {path.name, path.stem}:
                self._by_key.setdefault(key, []).append(name)

    def find(self, cell: str, folder: str) -> str | None:
        """The image of ``cell`` in a table that lies in ``folder``; None if there is none, or more.

        Its path from there; else the one whose path has the longest end in common with the cell.
        """
        path = PurePosixPath(composed(cell.strip().replace("\\", "/")))
        whole = (PurePosixPath(folder) / path).as_posix()
        if whole in self._names:
            return whole
        found = self._by_key.get(path.name, [])
        if len(found) < 2:
            return found[0] if found else None
        scores = {name: _common_end(PurePosixPath(folder, path), name) for name in found}
        best = max(scores.values())
        nearest = [name for name, score in scores.items() if score == best]
        if len(nearest) == 1:
            return nearest[0]
        inside = [name for name in nearest if name.startswith(f"{folder}/")]
        return inside[0] if len(inside) == 1 else None


def _common_end(path: PurePosixPath, name: str) -> int:
    """How many parts of two paths are the same, from the end, whatever the suffix."""
    ours = path.with_suffix("").parts if path.suffix else path.parts
    theirs = PurePosixPath(name).with_suffix("").parts
    count = 0
    for one, other in zip(reversed(ours), reversed(theirs), strict=False):
        if one != other:
            break
        count += 1
    return count


def read_table(name: str, content: bytes) -> Table | None:
    """A file as a table; None if it is none, such as JSON of another form.

    Raises:
        UserError: it has the suffix of a table, and cannot be read as one.
    """
    suffix = PurePosixPath(name).suffix.lower()
    try:
        if suffix in (".jsonl", ".ndjson", ".json"):
            lines = suffix != ".json"
            cells = pd.read_json(io.BytesIO(content), lines=lines, dtype=False)
            if any(isinstance(value, dict) for value in cells.to_numpy().ravel()):
                return None
            cells = cells.map(_text)
        else:
            cells = _read_csv(content, "\t" if suffix == ".tsv" else None)
    except Exception as error:  # pandas raises all kinds of errors, depending on the text
        if suffix == ".json":
            return None
        raise UserError(
            f"{name}: cannot be read as a table ({' '.join(str(error).split())[:200]})"
        ) from None
    cells.columns = [composed(str(column).strip()) for column in cells.columns]
    return Table(name, cells.apply(lambda column: column.map(lambda cell: composed(cell.strip()))))


def _read_csv(content: bytes, separator: str | None) -> pd.DataFrame:
    text = _decoded(content)
    if separator is None:
        first = text.partition("\n")[0]
        separator = max(",;\t|", key=lambda mark: (first.count(mark), mark == ","))
    return pd.read_csv(
        io.StringIO(text),
        sep=separator,
        dtype=str,
        keep_default_na=False,
        index_col=False,
        skipinitialspace=True,
    )


def _decoded(content: bytes) -> str:
    """Text in UTF-8, in UTF-16 with its mark, or else in Windows' Latin letters."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def _text(value: object) -> str:
    """A cell of JSON as text; several labels as one text."""
    if isinstance(value, list):
        return "|".join(map(str, value))
    return "" if value is None or value != value else str(value)


def is_candidate(name: str) -> bool:
    """Whether a file may be a table of labels, by its name."""
    path = PurePosixPath(name)
    return path.suffix.lower() in SUFFIXES and NOT_A_TABLE not in path.stem.casefold()


@dataclass(frozen=True)
class Meaning:
    """What the columns of a table are.

    Attributes:
        image: the column that names the image.
        labels: of each row, empty where there is none.
        split, group: columns; None if there is none.
    """

    image: str
    labels: pd.Series
    split: str | None
    group: str | None

    def __str__(self) -> str:
        label = "a column for each class" if self.labels.name is None else repr(self.labels.name)
        text = f"image is {self.image!r}, label is {label}"
        text += f", split is {self.split!r}" if self.split else ""
        return text + (f", group is {self.group!r}" if self.group else "")


def read_places(
    tables: Sequence[Table], names: Sequence[str], path: Path, columns: Columns
) -> Layout | None:
    """What tables say of images; None if none of them has a column of images and one of labels.

    Args:
        tables: that may be tables of labels; each says the split of its images by its column or, if
            there are several, by its own name or folder, such as test.csv or valid/_classes.csv.
        names: of all images.
        path: of the data, for messages.

    Raises:
        UserError: a column of ``columns`` is missing, an image has several labels, or it is not
            clear which column has the labels.
    """
    layout = Layout()
    finder = Finder(names)
    absent: list[str] = []
    is_any = False
    for found in tables:
        table = _with_header(found, finder)
        where = f"images.path = {path}, {table.name}"
        meaning = _meaning(table, finder, columns, where)
        if meaning is None:
            continue
        is_any = True
        split = _split_of_table(table.name) if len(tables) > 1 else None
        absent += _add_rows(table, meaning, split, finder, layout)
        layout.tables.append(table.name)
        layout.notes.append(f"{table.name}: {meaning} (images.columns in params.yaml names others)")
    if not is_any:
        return None
    if absent:
        layout.notes.append(f"named in a table, but not there ({len(absent):,}): {listed(absent)}")
    missing = [name for name in names if name not in layout.places]
    if missing:
        layout.notes.append(
            f"images that no table names, which are only predicted ({len(missing):,}): "
            f"{listed(missing)}"
        )
        layout.places.update(dict.fromkeys(missing, Place(None)))
    return layout


def _with_header(table: Table, finder: Finder) -> Table:
    """A table whose first line is an image already has no names of columns: they get numbers."""
    first = table.columns
    if not any(finder.find(cell, _folder(table.name)) for cell in first):
        return table
    numbers = [str(number + 1) for number in range(len(first))]
    below = table.cells.set_axis(numbers, axis=1)
    cells = pd.concat([pd.DataFrame([first], columns=numbers), below], ignore_index=True)
    return Table(table.name, cells)


def _meaning(table: Table, finder: Finder, columns: Columns, where: str) -> Meaning | None:
    """What the columns of a table are; None if it is no table of labels."""
    cells = table.cells
    image = columns.image or _image_column(table, finder)
    if image is None:
        return None
    for key, column in columns.model_dump(exclude_none=True).items():
        if column not in cells:
            raise UserError(
                f"{where}: images.columns.{key} = {column}: there are only {listed([*cells])}"
            )
    others = [column for column in table.columns if column not in (image, columns.label)]
    split = columns.split or _usual(others, SPLIT_NAMES)
    if split and _splits_in(cells[split]) is None:
        if columns.split:
            raise UserError(
                f"{where}: images.columns.split = {split}: "
                f"{listed(sorted(set(cells[split])))} are no splits (train, val, test)"
            )
        split = None
    group = columns.group or _usual([name for name in others if name != split], GROUP_NAMES)
    rest = [column for column in others if column not in (split, group)]
    labels = _labels(cells, image, columns.label or _usual(rest, LABEL_NAMES), rest, where)
    return None if labels is None else Meaning(image, labels, split, group)


def _image_column(table: Table, finder: Finder) -> str | None:
    """The column in whose cells most images are found, or one that has a usual name."""
    cells = table.cells
    folder = _folder(table.name)
    sample = cells.sample(min(len(cells), 2000), random_state=0)
    shares = {
        column: sum(finder.find(cell, folder) is not None for cell in sample[column])
        / max(1, len(sample))
        for column in table.columns
    }
    likely = [column for column, share in shares.items() if share >= 0.2]
    return min(
        likely,
        key=lambda column: (-round(shares[column], 1), _rank(column, IMAGE_NAMES)),
        default=None,
    )


def _folder(name: str) -> str:
    parent = PurePosixPath(name).parent.as_posix()
    return "" if parent == "." else parent


def _rank(column: str, usual: str) -> int:
    """The place of a column's name among the ``usual`` ones.

    A name that ends in a usual one comes behind them (Finding Labels), any other behind those.
    """
    simple = "".join(letter for letter in column.casefold() if letter.isalnum())
    names = usual.split()
    if simple in names:
        return names.index(simple)
    ends = [len(name) > 4 and simple.endswith(name) for name in names]
    return len(names) + (ends.index(True) if any(ends) else len(names))


def _usual(columns: Iterable[str], usual: str) -> str | None:
    """The column with the clearest of the ``usual`` names; None if none has one."""
    count = 2 * len(usual.split())
    ranks = {column: _rank(column, usual) for column in columns}
    known = [column for column, rank in ranks.items() if rank < count]
    return min(known, key=lambda column: ranks[column], default=None)


def _labels(
    cells: pd.DataFrame, image: str, column: str | None, rest: list[str], where: str
) -> pd.Series | None:
    """The label of each row, empty where there is none; None if the table has no labels.

    Args:
        column: with the labels, if that is known already.
        rest: columns that may have them.
    """
    if column is None:
        if (labels := _one_hot(cells, rest, where)) is not None:
            return labels
        able = [name for name in rest if _can_be_label(cells[name])]
        if not able:
            return None
        if len(able) > 1:
            raise UserError(
                f"{where}: which column has the labels? {listed(able)} could; name it in "
                "images.columns.label"
            )
        column = able[0]
    _refuse_several(cells, image, column, where)
    return cells[column]


def _can_be_label(column: pd.Series) -> bool:
    """Whether the cells of a column repeat, as names of classes do."""
    filled = column[column != ""]
    return 2 <= filled.nunique() <= max(2, len(filled) // 2)


def _one_hot(cells: pd.DataFrame, columns: list[str], where: str) -> pd.Series | None:
    """Labels of a table with a column of 0 and 1 for each class; None if it is not one."""
    numbers = cells[columns].apply(pd.to_numeric, errors="coerce")
    flags = numbers.loc[:, numbers.isin([0, 1]).all()]
    if flags.shape[1] < 2:
        return None
    counts = flags.sum(axis=1)
    if (counts > 1).any():
        raise UserError(
            f"{where}: rows with several labels ({int((counts > 1).sum()):,}), such as row "
            f"{int(counts.argmax()) + 1}; {ONE_LABEL}"
        )
    return flags.idxmax(axis=1).where(counts == 1, "")


def _refuse_several(cells: pd.DataFrame, image: str, column: str, where: str) -> None:
    """Refuse images with several labels: in one cell, or in several rows."""
    labels = cells[column]
    known = set(labels) - {""}
    for mark in SEPARATORS:
        parts = {label: {part.strip() for part in label.split(mark)} for label in known}
        several = sorted(
            label for label in known if len(parts[label]) > 1 and parts[label] <= known
        )
        if several:
            raise UserError(
                f"{where}: column {column!r} has several labels in one cell: {listed(several)}; "
                f"{ONE_LABEL}"
            )
    pairs = cells.loc[labels != "", [image, column]].drop_duplicates()
    repeated = sorted(set(pairs[image][pairs[image].duplicated()]))
    if repeated:
        raise UserError(
            f"{where}: images with several labels in several rows ({len(repeated):,}): "
            f"{listed(repeated)}; {ONE_LABEL}"
        )


def _split_of_table(name: str) -> str | None:
    """The split that the name of a table says, or else the folder that it is in."""
    path = PurePosixPath(name)
    return split_of(path.stem) or split_of(path.parent.name)


def _add_rows(
    table: Table, meaning: Meaning, split: str | None, finder: Finder, layout: Layout
) -> list[str]:
    """Add what each row says to ``layout``.

    Args:
        split: of all rows, if no column says it.

    Returns:
        Cells that name no image, or more than one.
    """
    cells = table.cells
    splits = _splits_in(cells[meaning.split]) if meaning.split else None
    absent = []
    folder = _folder(table.name)
    for row, (cell, label) in enumerate(zip(cells[meaning.image], meaning.labels, strict=True)):
        name = finder.find(cell, folder)
        if name is None:
            absent.append(cell)
            continue
        said = splits[row] if splits else split
        group = cells[meaning.group].iloc[row] if meaning.group else ""
        is_unlabelled = not label or said == UNLABELLED
        layout.places[name] = Place(None) if is_unlabelled else Place(label, said, group or None)
    return absent


def _splits_in(column: pd.Series) -> list[str | None] | None:
    """The split that each cell says; None if some say others."""
    said = {cell: split_of(cell) if cell else None for cell in set(column)}
    if _rank(str(column.name), "isvalid") == 0:  # as in fastai's tables
        said = {cell: "val" if cell.casefold() in ("1", "true") else "train" for cell in said}
    if any(cell and split is None for cell, split in said.items()):
        return None
    return [said[cell] for cell in column]


# Names for classes.


def read_names(files: Mapping[str, bytes], classes: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Names that people read, for classes that are called by numbers or codes.

    Args:
        files: JSON and CSV files of the data, by name.
        classes: as folders or a table call them.

    Returns:
        The file, and the name of each class; both empty if no file has a name for all of them.
    """
    for name in sorted(files, key=lambda name: (name.count("/"), name)):
        for mapping in _mappings(name, files[name]):
            names = {key: mapping[key] for key in classes if mapping.get(key)}
            is_name = any(not text.isdecimal() for text in names.values())
            if len(names) == len(classes) and is_name and names != {key: key for key in classes}:
                counts = Counter(names.values())
                unique = {
                    key: text if counts[text] == 1 else f"{text} ({key})"
                    for key, text in names.items()
                }
                return name, unique
    return "", {}


def _mappings(name: str, content: bytes) -> Iterable[dict[str, str]]:
    """The maps from text to text that a file may be."""
    if PurePosixPath(name).suffix.lower() == ".json":
        try:
            value = json.loads(_decoded(content))
        except (ValueError, RecursionError):
            return
        if isinstance(value, dict) and all(isinstance(text, str | int) for text in value.values()):
            yield {composed(key): composed(str(text)) for key, text in value.items()}
            yield {composed(str(text)): composed(key) for key, text in value.items()}
        return
    try:
        table = read_table(name, content)
    except UserError:
        return
    if table is None or not 2 <= table.cells.shape[1] <= 3:
        return
    cells = table.cells
    for key in cells:
        for text in cells:
            if key != text and cells[key].is_unique:
                yield dict(zip(cells[key], cells[text], strict=True))
