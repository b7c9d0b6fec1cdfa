"""The images of train and test that are most alike: of one object, perhaps, which makes test accuracy too good."""

from pathlib import Path

from pipeline.base.arrays import ArrayReader
from pipeline.base.device import torch_device
from pipeline.base.files import atomic, write_csv
from pipeline.data.pixels import Split
from pipeline.data.raw import read_index
from pipeline.models.features import most_alike
from pipeline.params import Params

DATA, PAIRS = Path("data"), 100


def main(params: Params, features: str) -> None:
    torch_device("cpu", params.threads)
    names = read_index(DATA / "raw").set_index("id")["member"]
    train, test = (Split(DATA / features, split) for split in ("train", "test"))
    # Views of the first epoch, and central crops: the first rows of both files.
    first, second = (ArrayReader(DATA / features / f"{split.name}.npy").read(0, len(split)) for split in (train, test))
    pairs = most_alike(first, second, PAIRS)
    columns = {"train": names[train.ids[pairs["train"]]].to_numpy(), "test": names[test.ids[pairs["test"]]].to_numpy()}
    table = pairs.assign(**columns, same_class=train.labels[pairs["train"]] == test.labels[pairs["test"]])
    with atomic(f"report/alike_{features}.csv") as (path,):
        write_csv(path, table)
    print(
        f"most alike images of train and test, by the cosine of {features}:",
        table.head(5).to_string(index=False),
        sep="\n",
    )
