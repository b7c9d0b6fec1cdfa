"""Stage train: adapt the backbone by one approach. Usage: python -m stages.train APPROACH"""

import sys
import time
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from pipeline.checkpoint import Checkpoint, fingerprint
from pipeline.files import atomic
from pipeline.images import Split
from pipeline.inputs import open_inputs
from pipeline.model import (
    check_frozen,
    count_parameters,
    in_precision,
    new_network,
    read_backbone,
    save_model,
    section,
    unfreeze,
)
from pipeline.params import load_params
from pipeline.runtime import run_stage, torch_device
from pipeline.train import fit

DATA, BACKBONE = Path("data"), Path("data/raw/backbone.pth")
CODE = [Path(f"pipeline/{module}.py") for module in ("arrays", "images", "inputs", "model", "train")]


def main() -> None:
    name = sys.argv[1]
    params = load_params()
    approach, rates = params.approaches[name], params.approaches[name].learning_rates
    device = torch_device(params.runtime.device, params.threads)
    splits = [Split(DATA / "pixels", name) for name in ("train", "val")]
    train, val = (
        (open_inputs(DATA, approach.input, images, params.transforms, device, params.train.seed), images.labels)
        for images in splits
    )
    classes = pd.read_csv(DATA / "pixels/classes.csv")["name"].tolist()

    state = read_backbone(BACKBONE) if approach.initial == "backbone" else None
    model = new_network(params.network, state, len(classes), params.train.seed).to(device)
    unfreeze(model, rates, f"approaches.{name}.learning_rates")
    head = in_precision(section(model, after=approach.input), params.precision, device)
    if approach.input != "pixels":
        check_frozen(section(model, to=approach.input), rates, f"approaches.{name}")
    header = {
        "approach": name,
        "network": params.network,
        "classes": classes,
        "input": approach.input,
        "transforms": params.transforms.model_dump(),
        "parameters": (parameters := count_parameters(model)),
    }
    print(f"{name} on {device}: {parameters['trainable']:,} of {parameters['total']:,} parameters are trained")

    recipe = [header, approach.model_dump(), params.train.model_dump(), params.threads, params.precision, str(device)]
    files = [DATA / "pixels" / name for name in ("train.csv", "val.csv")]
    files += [DATA / approach.input / name for name in ("train.npy", "val.npy")]
    checkpoint = Checkpoint(Path(f".resume/{name}"), fingerprint([BACKBONE, *files, *CODE], recipe))
    saved, message = checkpoint.load()
    print(message, end="", flush=True)

    history, start = [], time.perf_counter()
    for epoch in fit(model, head, rates, train, val, params.train, device, saved, checkpoint.save):
        history.append(asdict(epoch))
        print(
            f"epoch {epoch.epoch:2}/{params.train.epochs}: "
            f"train loss {epoch.train_loss:.4f}, accuracy {epoch.train_accuracy:6.1%}; "
            f"val loss {epoch.val_loss:.4f}, accuracy {epoch.val_accuracy:6.1%}; {time.perf_counter() - start:.0f} s",
            flush=True,
        )
    with atomic(f"history/{name}.csv", f"models/{name}.safetensors") as (history_file, model_file):
        pd.DataFrame(history).to_csv(history_file, index=False, lineterminator="\n", float_format="%.6f")
        save_model(model_file, model, header)
    checkpoint.discard()


if __name__ == "__main__":
    run_stage(main)
