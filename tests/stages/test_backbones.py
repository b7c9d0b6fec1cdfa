"""Other backbones go the whole way: from a file of weights to metrics, predictions, an ONNX file.

Networks with random weights, whose head is trained; test_networks.py cuts those of every family.
"""

from pathlib import Path

import pandas as pd
import pytest
import torch
from torchvision.models import get_model

from pipeline.data.archive import Archive
from pipeline.data.raw import ARCHIVE, read_index
from pipeline.models.files import load_model
from pipeline.models.networks import head_name
from pipeline.params import Params, read_yaml
from pipeline.predict import Predictor
from tests.small import CPU
from tests.stages.in_process import run_stages
from tools.merge import merge

CROPS = {  # pixels: about the smallest that the network takes
    "alexnet": 64,
    "convnext_tiny": 32,
    "densenet121": 32,
    "efficientnet_b0": 32,
    "mobilenet_v3_small": 32,
    "regnet_y_400mf": 32,
    "resnet18": 32,
    "swin_t": 32,
}


@pytest.mark.slow
@pytest.mark.parametrize("network", CROPS)
def test_a_whole_run(
    network: str, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crop = CROPS[network]
    changes = {
        "backbone": {"network": network, "path": "backbone.pth"},
        "train": {"epochs": 1, "resize": crop, "crop": crop},
        "approaches": {
            "feature_extraction": {"learning_rates": {"fc": None, "head": 1.0e-3}},
            "fine_tuning": None,
        },
    }
    params = read_yaml(project / "params.yaml")
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("data/raw").symlink_to(project / "data" / "raw")
    Path("report").symlink_to(project / "report")  # of another network, for the model's card
    state = get_model(network, weights=None).state_dict()
    torch.save(state, "backbone.pth")
    commands = [f"{stage} feature_extraction" for stage in ("train", "evaluate", "export")]
    run_stages(Params.model_validate(merge(params, changes)), commands)

    model = load_model(Path("models/feature_extraction.safetensors"))
    weights = model.network.state_dict()
    moved = {name for name, value in weights.items() if not torch.equal(value, state[name])}
    head = head_name(model.network)
    assert moved == {f"{head}.weight", f"{head}.bias"}

    index = read_index(project / "data" / "raw")
    test = index[index["split"] == "test"]
    table = pd.read_csv("predictions/feature_extraction.csv").set_index("id")
    files = [Path(f"{image_id}.jpg") for image_id in test["id"]]
    with Archive(project / "data" / "raw" / ARCHIVE, test["member"].tolist()) as archive:
        for file, member in zip(files, test["member"], strict=True):
            file.write_bytes(archive.read(member))
    for answer in Predictor(model, CPU).answers(files):
        row = table.loc[int(answer.file.stem)]
        assert answer.classes[0]["probability"] == pytest.approx(row["confidence"], abs=1e-4)
        assert answer.classes[0]["class"] == f"species {row['prediction'] + 1:.0f}"
