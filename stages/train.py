"""Adapt the backbone by one approach."""

from pathlib import Path

from pipeline.base.checkpoint import Checkpoint, fingerprint
from pipeline.base.device import torch_device
from pipeline.base.errors import choose
from pipeline.base.files import atomic, write_csv
from pipeline.base.launch import RANK
from pipeline.data.pixels import Split
from pipeline.data.raw import read_classes
from pipeline.models.features import input_module, open_inputs
from pipeline.models.networks import check_runs, new_network, read_backbone
from pipeline.models.sections import count_parameters, in_precision, trained_section, unfreeze
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
    inputs = [open_inputs(folder, part, transforms, device, settings.seed, approach.resized_crop) for part in splits]
    train, val = zip(inputs, [part.labels for part in splits], strict=True)
    train = few(train, splits[0].ids, settings.images_per_class, settings.seed)
    classes, state = read_classes(DATA / "raw"), read_backbone(backbone) if approach.initial == "backbone" else None
    model = new_network(params.backbone.network, state, len(classes), settings.seed, approach.pooled).to(device)
    rates = unfreeze(model, approach.learning_rates, f"approaches.{name}.learning_rates")
    check_runs(model, transforms["crop"], f"approaches.{name}")
    start, precision = input_module(approach.input), approach.precision or params.precision
    head = in_precision(trained_section(model, start, rates, f"approaches.{name}"), precision, device)
    header: dict[str, object] = {"approach": name, "network": params.backbone.network, "classes": classes}
    header |= {"input": approach.input, "transforms": transforms, "parameters": count_parameters(model)}
    header |= approach.model_dump(include={"flip_averaging", "pooled"}, exclude_none=True)
    values = [header, approach.model_dump(), settings.model_dump(), params.threads, precision, device.type]
    files = [backbone, *(folder / file for file in ("train.csv", "val.csv", "train.npy", "val.npy"))]
    saved = Checkpoint(Path(f".resume/{name}"), fingerprint(files, values))
    epochs = fit(model, head, rates, train, val, settings, device, saved)
    rows = history(epochs, settings.epochs, len(train[1]), Path(f"live/{name}.csv"))
    if RANK:
        return
    with atomic(f"history/{name}.csv", f"models/{name}.safetensors") as (history_file, model_file):
        write_csv(history_file, rows)
        save_model(model_file, model, header)
    saved.discard()
