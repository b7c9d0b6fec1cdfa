"""Other backbones go the whole way: from a file of (random) weights to metrics, predictions and an ONNX file.

The stages run one after another in this process, which spares the start of a hundred. Names are those that
docs/backbones.md tells people to write.
"""

from importlib import import_module
from pathlib import Path

import pandas as pd
import pytest
import torch
from torchvision.models import get_model

from pipeline.data.raw import read_archive, read_index
from pipeline.models.networks import head_name
from pipeline.models.storage import load_model
from pipeline.params import Params, load_params
from pipeline.predict import predictions
from tools.sandbox import PROJECT, merge

SLOW = (
    "resnet18",
    "resnet34",
    "resnet50",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "convnext_tiny",
    "vit_b_16",
    "swin_t",
)
NETWORKS = ["mobilenet_v3_small", *(pytest.param(network, marks=pytest.mark.slow) for network in SLOW)]


def documented(network: str) -> tuple[str, list[str], int]:
    """What docs/backbones.md says: the module before the last block, the modules to train, the smallest crop."""
    for line in (PROJECT / "docs" / "backbones.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == 7 and network in cells[1].split(", "):
            return cells[3], cells[4].split(", "), int(cells[5].split()[0])
    raise AssertionError(f"{network} is not in the table")


@pytest.mark.parametrize("network", NETWORKS)
def test_a_whole_run(network: str, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block, trained, crop = documented(network)
    rates = dict.fromkeys(trained, 1e-4)
    changes = {
        "backbone": {"network": network, "path": "backbone.pth"},
        "transforms": {"resize": max(crop, 32), "crop": max(crop, 32)},
        "train": {"epochs": 1, "batch_size": 8},
        "features": {"layer3": None, "avgpool": None, "head": "pixels", block: "pixels"},
        "approaches": {
            "feature_extraction": {"input": "head", "learning_rates": {"fc": None, "head": 1e-3}},
            "fine_tuning": {"input": block, "learning_rates": {"layer4": None, "fc": None} | rates},
        },
    }
    params = Params.model_validate(merge(load_params(project / "params.yaml").model_dump(), changes))
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("data/raw").symlink_to(project / "data" / "raw")
    state = get_model(network, weights=None).state_dict()
    torch.save(state, "backbone.pth")

    stages = ["prepare", "features head", f"features {block}"]
    stages += [f"{stage} {name}" for name in params.approaches for stage in ("train", "evaluate")]
    for stage in [*stages, "export fine_tuning", "compare"]:
        name, *arguments = stage.split()
        import_module(f"stages.{name}").main(params, *arguments)

    index = read_index(project / "data" / "raw")
    test = index[index["split"] == "test"]
    ids = dict(zip(test["member"], test["id"], strict=True))
    for number, _, content in read_archive(project / "data" / "raw" / "images.tar", ids):
        Path(f"{number}.jpg").write_bytes(content)
    for name, approach in params.approaches.items():
        model, _ = load_model(Path(f"models/{name}.safetensors"))
        names = tuple(f"{head_name(model) if module == 'head' else module}." for module in approach.learning_rates)
        moved = {key for key, value in model.state_dict().items() if not torch.equal(value, state[key])}
        assert moved
        assert all(key.startswith(names) for key in moved), name
        table = pd.read_csv(f"predictions/{name}.csv").set_index("id")
        files = [Path(f"{number}.jpg") for number in table.index]
        for file, top in predictions(Path(f"models/{name}.safetensors"), files):
            assert not isinstance(top, str)
            row = table.loc[int(file.stem)]
            assert top[0]["probability"] == pytest.approx(row["confidence"], abs=1e-4)
            assert top[0]["class"] == f"species {row['prediction'] + 1:.0f}"
