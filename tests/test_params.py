"""params.yaml: the published experiment by default, and no value that is not understood."""

import copy
import datetime
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.serialize import parse_yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.ablation import variants
from pipeline.base.device import torch_device
from pipeline.base.errors import UserError
from pipeline.params import load_params, read_yaml
from tools.sandbox import PROJECT, merge

DEFAULTS = read_yaml(PROJECT / "params.yaml")


def load(tmp_path: Path, changes: dict[str, Any]) -> Any:
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(merge(DEFAULTS, changes)))
    return load_params(path)


def test_defaults_are_the_published_experiment() -> None:
    params = load_params(PROJECT / "params.yaml")
    assert params.images.source == "flowers102"
    assert params.backbone.network == "resnet18"
    assert (params.transforms.resize, params.transforms.crop, params.transforms.flip) == (256, 224, 0.5)
    assert params.transforms.mean == [0.485, 0.456, 0.406]
    assert params.transforms.std == [0.229, 0.224, 0.225]
    assert (params.train.epochs, params.train.batch_size) == (15, 32)
    rates = {name: approach.learning_rates for name, approach in params.approaches.items()}
    assert rates == {"feature_extraction": {"fc": 1e-3}, "fine_tuning": {"layer4": 1e-4, "fc": 1e-3}}


def test_the_strong_recipe_and_each_variant_of_its_ablation_are_allowed(tmp_path: Path) -> None:
    strong = read_yaml(PROJECT / "tools" / "strong.yaml")
    approaches = ["feature_extraction", "fine_tuning", "strong_features", "strong_fine_tuning"]
    assert list(load(tmp_path, strong).approaches) == approaches
    every = variants(strong["approaches"]["strong_fine_tuning"])
    assert len({str(approach) for _, _, approach in every}) == len(every) == 16
    for _, _, approach in every:
        load(tmp_path, strong | {"approaches": {"variant": approach}})


def test_every_value_in_params_yaml_is_explained() -> None:
    """A comment beside each line that holds a value, or, for the files and figures listed in blocks, above them."""
    lines = (PROJECT / "params.yaml").read_text().splitlines()
    start = lines.index(next(line for line in lines if line.startswith("draw:")))
    for line in lines[start:]:
        if re.match(r"\s*\w+: \S", line) and not re.match(r"\s+(fc|layer4|feature_extraction|fine_tuning): ", line):
            assert "#" in line, f"no comment: {line}"


def test_scientific_notation_without_a_dot_is_a_number(tmp_path: Path) -> None:
    """As for DVC (YAML 1.2); PyYAML (1.1) reads 1e-3 as text."""
    text = (PROJECT / "params.yaml").read_text().replace("1.0e-3", "1e-3")
    (tmp_path / "params.yaml").write_text(text)
    assert load_params(tmp_path / "params.yaml").approaches["feature_extraction"].learning_rates == {"fc": 0.001}


def test_numbers_mean_what_they_mean_to_dvc(tmp_path: Path) -> None:
    text = (PROJECT / "params.yaml").read_text().replace("  seed: 0 ", "  seed: 010 ")
    (tmp_path / "params.yaml").write_text(text)
    assert load_params(tmp_path / "params.yaml").train.seed == 10 == parse_yaml(text, "params.yaml")["train"]["seed"]


def test_a_repeated_key_is_refused(tmp_path: Path) -> None:
    text = (PROJECT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text + "threads: 1\n")
    with pytest.raises(UserError, match=r"not valid YAML: .*duplicate key .threads."):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": {"epocs": 3}}, r"train\.epocs: unknown key; did you mean epochs\?"),
        ({"train": {"epochs": None}}, r"train\.epochs: missing"),
        ({"train": {"epochs": -1}}, r"train\.epochs = -1: .*greater than or equal to 1"),
        ({"train": {"epochs": 2.5}}, r"train\.epochs = 2\.5: .*integer"),
        ({"train": {"epochs": True}}, r"train\.epochs = True: .*integer"),
        ({"train": {"seed": "zero"}}, r"train\.seed = 'zero': .*integer"),
        ({"transforms": {"flip": 1.5}}, r"transforms\.flip = 1\.5: .*less than or equal to 1"),
        ({"transforms": {"crop": 300}}, r"transforms: crop = 300 must not be larger than resize = 256"),
        ({"transforms": {"std": [0.2, 0.2]}}, r"transforms\.std = \[0\.2, 0\.2\]: .*at least 3"),
        ({"images": {"source": "internet"}}, r"images\.source = 'internet': .*'flowers102', 'indexed' or 'folder'"),
        ({"images": {"split": {"val": 0.6}}}, r"images\.split\.val = 0\.6: .*less than 0\.5"),
        (
            {"export": ["nobody"]},
            r"export = \['nobody'\]: approaches has no 'nobody'; it has feature_extraction, ",
        ),
        ({"features": {"features.9": "pixels"}}, r"features\.features\.9\.\[key\] = 'features\.9': .*pattern"),
        ({"explain": {"typical": 17}}, r"explain\.typical = 17: .*less than or equal to 16"),
        ({"runtime": {"device": "tpu"}}, r"runtime\.device = 'tpu': .*'auto', 'cuda', 'mps' or 'cpu'"),
        ({"runtime": {"workers": 0}}, r"runtime\.workers = 0: .*'auto'; or .*greater than or equal to 1"),
        (
            {"approaches": {"fine_tuning": {"learning_rates": {"fc": 0}}}},
            r"approaches\.fine_tuning\.learning_rates\.fc = 0: ",
        ),
        ({"approaches": {"fine_tuning": {"learning_rates": {"fc": ".nan"}}}}, r"learning_rates\.fc = '\.nan': "),
        ({"approaches": {"fine_tuning": None}}, r"published = .*: approaches has no 'fine_tuning'; it has feature_"),
        ({"export": ["fine_tuning"] * 2}, r"export = \['fine_tuning', 'fine_tuning'\]: a name stands twice"),
        ({"train": 5}, r"train = 5: must be a section, with keys of its own"),
        ({"train": datetime.date(2026, 1, 1)}, r"train = datetime\.date\(2026, 1, 1\): must be a section"),
        ({"features": {"avgpool": "avgpool"}}, r"features\.avgpool = 'avgpool': leads round in a circle"),
        (
            {"approaches": {"fine_tuning": {"learning_rates": {"layer3": 1e-4}}}},
            r"fine_tuning\.input = 'layer3': layer3 is trained, so its features change",
        ),
        ({"features": {"layer3": "layer2"}}, r"features\.layer3 = 'layer2': one of pixels, "),
        (
            {"approaches": {"fine_tuning": {"input": "layer5"}}},
            r"fine_tuning\.input = 'layer5': one of pixels, ",
        ),
        (
            {"approaches": {"fine_tuning": {"initial": "random"}}},
            r"input = 'layer3': with initial = random only pixels",
        ),
        ({"download": {"backbone": {"checksum": "f37072fd"}}}, r"download\.backbone\.checksum = 'f37072fd': "),
        ({"download": {"backbone": {"path": "data/../../x"}}}, r"download\.backbone\.path = 'data/\.\./\.\./x': "),
        ({"transforms": {"mean": [float("nan"), 0, 0]}}, r"transforms\.mean\.0 = nan: .*finite"),
        ({"transforms": {"std": [1e-50, 1, 1]}}, r"transforms\.std\.0 = 1e-50: .*greater than or equal to 0\.001"),
        ({"transforms": {"flip": True}}, r"transforms\.flip = True: .*valid number"),
        ({"sizes": {"pixels_x": {"resize": 32, "crop": 64}}}, r"sizes\.pixels_x: crop = 64 must not be larger than"),
        ({"sizes": {"large": {"resize": 64, "crop": 64}}}, r"sizes\.large\.\[key\] = 'large': .*pattern"),
        (
            {"approaches": {"fine_tuning": {"warm_up": 15}}},
            r"approaches\.fine_tuning: warm_up = 15 must be less than epochs = 15",
        ),
        ({"train": {"schedule": "linear"}}, r"train\.schedule = 'linear': .*'constant' or 'cosine'"),
        (
            {"approaches": {"fine_tuning": {"epochs": 16}}},
            r"fine_tuning\.epochs = 16: features are stored for train\.epochs = 15; take pixels",
        ),
        (
            {"approaches": {"fine_tuning": {"resized_crop": {"size": 224, "scale": 0.5}}}},
            r"fine_tuning\.resized_crop: features hold the random crops of transforms; take input = pixels",
        ),
        (
            {"approaches": {"fine_tuning": {"input": "pixels", "resized_crop": {"size": 257, "scale": 0.5}}}},
            r"fine_tuning\.resized_crop\.size = 257: the images have only 256 pixels",
        ),
        (
            {"approaches": {"fine_tuning": {"flip_averaging": True}}},
            r"fine_tuning\.flip_averaging: needs the whole network, and so input = pixels",
        ),
        ({"runtime": {"workers": 1_000_000}}, r"runtime\.workers = 1000000: .*less than or equal to 256"),
    ],
)
def test_bad_values_are_named_with_what_is_allowed(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        load(tmp_path, changes)
    assert "\n" not in str(error.value)


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    sections = {"approaches": {"fine_tuning": {"input": "layr3"}}, "alike": ["layr4"], "export": ["nobody"]}
    for changes, keys in (
        ({"train": {"epocs": 3, "epochs": None}, "threads": "two"}, ["threads", "train.epochs", "train.epocs"]),
        (sections, ["alike", "approaches.fine_tuning.input", "export"]),
        ({"features": {"a": "b", "b": "a"}}, ["features.a", "features.b"]),
    ):
        with pytest.raises(UserError) as error:
            load(tmp_path, changes)
        found = re.findall(r"^ *\S*params\.yaml: ([\w.]+)", str(error.value), re.MULTILINE)
        assert sorted(found) == keys


def test_broken_yaml_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("train: [1, 2")
    with pytest.raises(UserError, match="not valid YAML") as error:
        load_params(tmp_path / "params.yaml")
    assert "\n" not in str(error.value)


def test_a_device_that_is_named_but_absent_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match=r"runtime\.device = cuda, but this machine has only"):
        torch_device("cuda", 2)
    assert torch_device("cpu", 2).type == "cpu"


def places(value: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every section and key of params.yaml."""
    parts = value.items() if isinstance(value, dict) else []
    return [path, *(place for key, part in parts for place in places(part, (*path, key)))]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(places(DEFAULTS)), ANYTHING)
def test_whatever_stands_somewhere_is_params_or_an_error_for_people(place: tuple[str, ...], value: Any) -> None:
    changed = copy.deepcopy(DEFAULTS)
    section = changed
    for key in place[:-1]:
        section = section[key]
    if place:
        section[place[-1]] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "params.yaml"
        path.write_text(yaml.safe_dump(changed if place else value, allow_unicode=True), encoding="utf-8")
        try:
            answer = ""
            load_params(path)
        except UserError as error:
            answer = str(error)
        assert all(line.strip().startswith(str(path)) for line in answer.splitlines())
