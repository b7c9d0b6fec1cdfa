"""Adapt the backbone by one approach."""

from pathlib import Path

from pipeline.base.checkpoint import Checkpoint, fingerprint
from pipeline.base.device import torch_device
from pipeline.base.errors import choose
from pipeline.base.files import atomic, write_csv
from pipeline.data.pixels import Split
from pipeline.data.raw import read_classes
from pipeline.models.features import input_module, open_inputs
from pipeline.models.networks import check_runs, new_network, read_backbone
from pipeline.models.sections import check_frozen, count_parameters, in_precision, section, unfreeze
from pipeline.models.storage import save_model
from pipeline.params import Params
from pipeline.training.fit import few, fit, history, recipe

DATA = Path("data")


def main(params: Params, name: str) -> None:
    approach = choose(params.approaches, name, "approaches")
    settings, backbone, folder = recipe(params.train, approach), Path(params.backbone.path), DATA / approach.input
    device = torch_device(params.runtime.device, params.threads)
    splits = [Split(folder, split) for split in ("train", "val")]
    transforms = params.transforms.model_dump() | {"resize": splits[0].short_side, "crop": splits[1].short_side}
    resized = approach.resized_crop.model_dump() if approach.resized_crop else None
    train, val = (
        (open_inputs(folder, images, transforms, device, settings.seed, resized), images.labels) for images in splits
    )
    train = few(train, splits[0].ids, settings.images_per_class, settings.seed)
    classes, state = read_classes(DATA / "raw"), read_backbone(backbone) if approach.initial == "backbone" else None
    model = new_network(params.backbone.network, state, len(classes), settings.seed).to(device)
    rates = unfreeze(model, approach.learning_rates, f"approaches.{name}.learning_rates")
    check_runs(model, transforms["crop"], f"approaches.{name}")
    start, precision = input_module(approach.input), approach.precision or params.precision
    head = in_precision(section(model, after=start), precision, device)
    if start != "pixels":
        check_frozen(section(model, to=start), rates, f"approaches.{name}")
    header: dict[str, object] = {"approach": name, "network": params.backbone.network, "classes": classes}
    header |= {"input": approach.input, "transforms": transforms, "parameters": count_parameters(model)}
    header |= {"flip_averaging": True} if approach.flip_averaging else {}
    values = [header, approach.model_dump(), settings.model_dump(), params.threads, precision, str(device)]
    files = [backbone, *(folder / file for file in ("train.csv", "val.csv", "train.npy", "val.npy"))]
    saved = Checkpoint(Path(f".resume/{name}"), fingerprint(files, values))
    epochs = fit(model, head, rates, train, val, settings, device, saved)
    with atomic(f"history/{name}.csv", f"models/{name}.safetensors") as (history_file, model_file):
        write_csv(history_file, history(epochs, settings.epochs, len(train[1]), Path(f"live/{name}.csv")))
        save_model(model_file, model, header)
    saved.discard()
