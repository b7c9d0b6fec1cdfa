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

from pipeline.base.errors import UserError
from pipeline.params import Approach, Params, load_params, read_yaml
from tests.conftest import TINY
from tools.merge import merge
from tools.sandbox import PROJECT

DEFAULTS = read_yaml(PROJECT / "params.yaml")
STRONG = read_yaml(PROJECT / "tools" / "strong.yaml")


def load(tmp_path: Path, changes: dict[str, Any]) -> Params:
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(merge(DEFAULTS, changes)))
    return load_params(path)


def test_defaults_are_the_published_experiment() -> None:
    params = load_params(PROJECT / "params.yaml")
    assert params.images.source == "flowers102"
    assert params.backbone.network == "resnet18"
    assert params.backbone.mean == [0.485, 0.456, 0.406]
    assert params.backbone.std == [0.229, 0.224, 0.225]
    train = params.train
    assert (train.resize, train.crop, train.train_crop, train.flip) == (256, 224, None, 0.5)
    assert (train.epochs, train.batch_size, train.schedule) == (15, 32, "constant")
    assert (train.label_smoothing, train.warm_up) == (0, 0)
    assert (train.fit, train.class_weights) == ("crop", "none")
    rates = {name: approach.learning_rates for name, approach in params.approaches.items()}
    assert rates == {
        "feature_extraction": {"fc": 1e-3},
        "fine_tuning": {"layer4": 1e-4, "fc": 1e-3},
    }


@pytest.mark.parametrize("changes", [STRONG, TINY], ids=["strong", "tests"])
def test_what_the_tools_change_is_allowed(tmp_path: Path, changes: dict[str, Any]) -> None:
    params = load(tmp_path, changes)
    assert len(params.approaches) >= 2


def test_the_demo_is_the_same_pipeline_with_other_params() -> None:
    demo = PROJECT / "demo"
    assert (demo / "dvc.yaml").read_bytes() == (PROJECT / "dvc.yaml").read_bytes()
    assert (demo / ".dvc" / "config").read_bytes() == (PROJECT / ".dvc" / "config").read_bytes()
    for name in ("Makefile", "pipeline", "stages", "tools"):
        assert (demo / name).resolve() == PROJECT / name
    params = load_params(demo / "params.yaml")
    experiment = load_params(PROJECT / "params.yaml")
    assert params.train == experiment.train.model_copy(
        update={"resize": 64, "crop": 56, "epochs": 10}
    )
    for name, approach in experiment.approaches.items():
        assert params.approaches[name] == approach


def test_every_value_in_params_yaml_is_explained() -> None:
    """By a comment beside it; files, approaches and published figures by one above them."""
    text = (PROJECT / "params.yaml").read_text(encoding="utf-8")
    lines = text[text.index("\ndraw:") :].splitlines()
    own = re.compile(r"\s+(learning_rates|feature_extraction|fine_tuning|std): ")
    for line in lines:
        if re.match(r"\s*\w+: \S", line) and not own.match(line):
            assert "#" in line, f"no comment: {line}"


def test_an_approach_says_what_differs_and_train_the_rest(tmp_path: Path) -> None:
    params = load(tmp_path, STRONG)
    same = params.approaches["fine_tuning"].recipe(params.train)
    assert same.model_dump(exclude={"learning_rates"}) == params.train.model_dump()
    assert same.learning_rates == {"layer4": 1e-4, "fc": 1e-3}
    strong = params.approaches["strong_fine_tuning"].recipe(params.train)
    assert (strong.resize, strong.crop, strong.epochs, strong.precision) == (320, 320, 40, "bf16")
    assert (strong.training_side, same.training_side) == (256, 224)
    assert (strong.seed, strong.flip, strong.batch_size) == (0, 0.5, 32)
    zero = Approach(learning_rates={"fc": 1e-3}, flip=0.0, label_smoothing=0.0)
    train = params.train.model_copy(update={"label_smoothing": 0.5})
    assert (zero.recipe(train).flip, zero.recipe(train).label_smoothing) == (0, 0)


def test_an_approach_may_say_null_where_train_may(tmp_path: Path) -> None:
    def load_with(line: str) -> Params:
        text = (PROJECT / "params.yaml").read_text().replace("train_crop: null", "train_crop: 192")
        text = text.replace("fine_tuning:  ", f"fine_tuning:\n    {line}\n   ", 1)
        (tmp_path / "params.yaml").write_text(text)
        return load_params(tmp_path / "params.yaml")

    params = load_with("train_crop: null")
    recipes = {name: approach.recipe(params.train) for name, approach in params.approaches.items()}
    assert recipes["feature_extraction"].training_side == 192
    assert recipes["fine_tuning"].training_side == 224
    with pytest.raises(UserError, match=r"approaches\.fine_tuning\.epochs: .*valid integer"):
        load_with("epochs: null")


@pytest.mark.parametrize(
    ("change", "is_shared"),
    [
        ({"learning_rates": {"fc": 1.0}}, True),
        ({"epochs": 3, "batch_size": 8, "schedule": "cosine", "warm_up": 1}, True),
        ({"initial": "random"}, False),
        ({"resize": 300}, False),
        ({"crop": 200}, False),
        ({"fit": "pad"}, False),
        ({"class_weights": "balanced"}, True),
        ({"flip": 0.25}, False),
        ({"train_crop": 200}, False),
        ({"train_crop": 224}, True),  # as crop
        ({"precision": "bf16"}, False),
    ],
)
def test_recipes_with_the_same_views_can_share_a_frozen_beginning(
    change: dict[str, Any], is_shared: bool
) -> None:
    train = load_params(PROJECT / "params.yaml").train
    first = Approach(learning_rates={"fc": 1e-3}).recipe(train)
    other = Approach(**({"learning_rates": {"fc": 1e-3}} | change)).recipe(train)
    assert first.has_views_of(other) == other.has_views_of(first) == is_shared


def test_scientific_notation_without_a_dot_is_a_number(tmp_path: Path) -> None:
    """As for DVC (YAML 1.2); PyYAML (1.1) reads 1e-3 as text."""
    text = (PROJECT / "params.yaml").read_text().replace("1.0e-3", "1e-3")
    (tmp_path / "params.yaml").write_text(text)
    params = load_params(tmp_path / "params.yaml")
    assert params.approaches["feature_extraction"].learning_rates == {"fc": 0.001}


def test_numbers_mean_what_they_mean_to_dvc(tmp_path: Path) -> None:
    text = (PROJECT / "params.yaml").read_text().replace("  seed: 0 ", "  seed: 010 ")
    (tmp_path / "params.yaml").write_text(text)
    dvc = parse_yaml(text, "params.yaml")
    assert load_params(tmp_path / "params.yaml").train.seed == dvc["train"]["seed"] == 10


def test_a_repeated_key_is_refused(tmp_path: Path) -> None:
    text = (PROJECT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text + "threads: 1\n")
    with pytest.raises(UserError, match=r"not valid YAML: .*duplicate key .threads."):
        load_params(tmp_path / "params.yaml")


def approach(**changes: Any) -> dict[str, Any]:
    return {"approaches": {"fine_tuning": changes}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        # Keys.
        ({"train": {"epocs": 3}}, r"train\.epocs: unknown key; did you mean epochs\?"),
        ({"train": {"epochs": None}}, r"train\.epochs: missing"),
        ({"features": {}}, r"features: unknown key; params\.yaml's comments list the keys"),
        (approach(input="pixels"), r"approaches\.fine_tuning\.input: unknown key"),
        (approach(seed=1), r"approaches\.fine_tuning\.seed: unknown key"),
        (approach(images_per_class=5), r"approaches\.fine_tuning\.images_per_class: unknown key"),
        ({"train": 5}, r"train = 5: must be a section, with keys of its own"),
        (
            {"train": datetime.date(2026, 1, 1)},
            r"train = datetime\.date\(2026, 1, 1\): must be a section",
        ),
        # Types: text and true are not numbers.
        ({"train": {"epochs": 2.5}}, r"train\.epochs = 2\.5: .*integer"),
        ({"train": {"epochs": True}}, r"train\.epochs = True: .*integer"),
        ({"train": {"seed": "zero"}}, r"train\.seed = 'zero': .*integer"),
        ({"train": {"flip": True}}, r"train\.flip = True: .*valid number"),
        ({"train": {"flip_averaging": 1}}, r"train\.flip_averaging = 1: .*valid boolean"),
        # Ranges.
        ({"train": {"epochs": 0}}, r"train\.epochs = 0: .*greater than or equal to 1"),
        ({"train": {"batch_size": 1}}, r"train\.batch_size = 1: .*greater than or equal to 2"),
        ({"train": {"flip": 1.5}}, r"train\.flip = 1\.5: .*less than or equal to 1"),
        ({"train": {"crop": 15}}, r"train\.crop = 15: .*greater than or equal to 16"),
        (
            {"train": {"schedule": "linear"}},
            r"train\.schedule = 'linear': .*'constant' or 'cosine'",
        ),
        (
            {"train": {"precision": "fp16"}},
            r"train\.precision = 'fp16': .*'fp32', 'tf32' or 'bf16'",
        ),
        ({"train": {"fit": "stretch"}}, r"train\.fit = 'stretch': .*'crop' or 'pad'"),
        (
            approach(class_weights="sqrt"),
            r"fine_tuning\.class_weights = 'sqrt': .*'none' or 'balanced'",
        ),
        ({"train": {"images_per_class": 0}}, r"images_per_class = 0: .*'all'; or .*equal to 1"),
        ({"train": {"seed": 2**32}}, r"train\.seed = 4294967296: .*less than 4294967296"),
        (approach(learning_rates={"fc": 0}), r"fine_tuning\.learning_rates\.fc = 0: "),
        (approach(learning_rates={"fc": ".nan"}), r"learning_rates\.fc = '\.nan': "),
        (
            {"approaches": {"x": {"learning_rates": {}}}},
            r"approaches\.x\.learning_rates = \{\}: .*at least 1",
        ),
        ({"approaches": {"a b": {}}}, r"approaches\.a b\.\[key\] = 'a b': .*pattern"),
        ({"backbone": {"std": [0.2, 0.2]}}, r"backbone\.std = \[0\.2, 0\.2\]: .*at least 3"),
        ({"backbone": {"mean": [float("nan"), 0, 0]}}, r"backbone\.mean\.0 = nan: .*finite"),
        ({"backbone": {"std": [1e-50, 1, 1]}}, r"backbone\.std\.0 = 1e-50: .*equal to 0\.001"),
        ({"images": {"source": "web"}}, r"images\.source = 'web': .*'flowers102', 'indexed' or"),
        ({"images": {"split": {"val": 0.6}}}, r"images\.split\.val = 0\.6: .*less than 0\.5"),
        (
            {"download": {"backbone": {"checksum": "f37072fd"}}},
            r"backbone\.checksum = 'f37072fd': ",
        ),
        ({"download": {"backbone": {"path": "data/../x"}}}, r"backbone\.path = 'data/\.\./x': "),
        ({"explain": {"typical": 17}}, r"explain\.typical = 17: .*less than or equal to 16"),
        ({"runtime": {"device": "tpu"}}, r"device = 'tpu': .*'auto', 'cuda', 'mps' or 'cpu'"),
        ({"runtime": {"workers": 0}}, r"workers = 0: .*'auto'; or .*greater than or equal to 1"),
        ({"runtime": {"workers": 1_000_000}}, r"workers = 1000000: .*less than or equal to 256"),
        ({"runtime": {"cache": -1}}, r"runtime\.cache = -1: .*greater than or equal to 0"),
        # What one value says against another.
        ({"train": {"crop": 300}}, r"fine_tuning: crop = 300 must not be larger than resize = 256"),
        (approach(resize=200), r"fine_tuning: crop = 224 must not be larger than resize = 200"),
        (
            approach(train_crop=257),
            r"fine_tuning: train_crop = 257 must not be larger than resize = 256",
        ),
        (
            approach(fit="pad") | {"backbone": {"mean": [0.5, -0.1, 0.5]}},
            r"fine_tuning: fit = pad needs a backbone\.mean of 0 to 1, which \[0\.5, -0\.1, 0\.5\]",
        ),
        (approach(warm_up=15), r"fine_tuning: warm_up = 15 must be less than epochs = 15"),
        ({"export": ["nobody"]}, r"export = \['nobody'\]: approaches has no 'nobody'; it has feat"),
        ({"export": ["fine_tuning"] * 2}, r"export = .*: a name stands twice"),
        (
            {"approaches": {"fine_tuning": None}},
            r"published = .*: approaches has no 'fine_tuning'; it has feature_extraction",
        ),
    ],
)
def test_bad_values_are_named_with_what_is_allowed(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as error:
        load(tmp_path, changes)
    for line in str(error.value).splitlines():
        assert line.strip().startswith(f"{tmp_path / 'params.yaml'}: ")


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    several: dict[str, Any] = {"train": {"epocs": 3, "epochs": None}, "threads": "two"}
    between: dict[str, Any] = {"train": {"warm_up": 15}, "export": ["nobody"]}
    for changes, keys in (
        (several, ["threads", "train.epochs", "train.epocs"]),
        (between, ["approaches.feature_extraction", "approaches.fine_tuning", "export"]),
    ):
        with pytest.raises(UserError) as error:
            load(tmp_path, changes)
        lines = str(error.value).splitlines()
        found = [re.split(r"[: ]+", line.strip().split("params.yaml: ")[1])[0] for line in lines]
        assert sorted(found) == keys


def test_broken_yaml_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("train: [1, 2")
    with pytest.raises(UserError, match="not valid YAML") as error:
        load_params(tmp_path / "params.yaml")
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"nowhere: No such file or directory; run from the proj"):
        load_params(tmp_path / "nowhere")


def test_the_sources_of_a_file_are_tried_in_order() -> None:
    files = load_params(PROJECT / "params.yaml").download
    archive = files["archive"]
    assert [checksum for _, checksum in archive.sources] == [archive.checksum] * 2
    first, second = files["backbone"].sources
    assert first[0].endswith(".pth")
    assert second[0].endswith(".safetensors")
    assert first[1] == files["backbone"].checksum != second[1]


def places(value: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every section and key of params.yaml."""
    parts = value.items() if isinstance(value, dict) else []
    return [path, *(place for key, part in parts for place in places(part, (*path, key)))]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=5,
)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(places(DEFAULTS)), ANYTHING)
def test_whatever_stands_somewhere_is_params_or_an_error_for_people(
    place: tuple[str, ...], value: Any
) -> None:
    changed = copy.deepcopy(DEFAULTS)
    section = changed
    for key in place[:-1]:
        section = section[key]
    if place:
        section[place[-1]] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "params.yaml"
        text = yaml.safe_dump(changed if place else value, allow_unicode=True)
        path.write_text(text, encoding="utf-8")
        try:
            answer = ""
            load_params(path)
        except UserError as error:
            answer = str(error)
        assert all(line.strip().startswith(str(path)) for line in answer.splitlines())
