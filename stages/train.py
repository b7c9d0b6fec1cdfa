"""Adapt the backbone by one approach."""

from pathlib import Path
from typing import Any

from pipeline.base.checkpoint import Checkpoint, fingerprint
from pipeline.base.device import torch_device
from pipeline.base.errors import choose
from pipeline.base.files import atomic, write_csv
from pipeline.data.pixels import Split
from pipeline.data.raw import read_classes
from pipeline.models.features import open_inputs
from pipeline.models.networks import check_runs, new_network, read_backbone
from pipeline.models.sections import check_frozen, count_parameters, in_precision, section, unfreeze
from pipeline.models.storage import save_model
from pipeline.params import Params
from pipeline.training.fit import few, fit, history

DATA = Path("data")


def main(params: Params, name: str) -> None:
    approach = choose(params.approaches, name, "approaches")
    transforms, backbone = params.transforms.model_dump(), Path(params.backbone.path)
    device = torch_device(params.runtime.device, params.threads)
    splits = [Split(DATA / "pixels", split) for split in ("train", "val")]
    train, val = (
        (open_inputs(DATA, approach.input, images, transforms, device, params.train.seed), images.labels)
        for images in splits
    )
    train = few(train, splits[0].ids, params.train.images_per_class, params.train.seed)
    classes = read_classes(DATA / "raw")
    state = read_backbone(backbone) if approach.initial == "backbone" else None
    model = new_network(params.backbone.network, state, len(classes), params.train.seed).to(device)
    rates = unfreeze(model, approach.learning_rates, f"approaches.{name}.learning_rates")
    check_runs(model, params.transforms.crop, f"approaches.{name}")
    head = in_precision(section(model, after=approach.input), params.precision, device)
    if approach.input != "pixels":
        check_frozen(section(model, to=approach.input), rates, f"approaches.{name}")
    header: dict[str, Any] = {"approach": name, "network": params.backbone.network, "classes": classes}
    header |= {"input": approach.input, "transforms": transforms, "parameters": count_parameters(model)}

    recipe = [header, approach.model_dump(), params.train.model_dump(), params.threads, params.precision, str(device)]
    files = ("pixels/train.csv", "pixels/val.csv", f"{approach.input}/train.npy", f"{approach.input}/val.npy")
    saved = Checkpoint(Path(f".resume/{name}"), fingerprint([backbone, *(DATA / file for file in files)], recipe))
    epochs = fit(model, head, rates, train, val, params.train, device, saved)
    with atomic(f"history/{name}.csv", f"models/{name}.safetensors") as (history_file, model_file):
        write_csv(history_file, history(epochs, params.train.epochs, len(train[1]), Path(f"live/{name}.csv")))
        save_model(model_file, model, header)
    saved.discard()
