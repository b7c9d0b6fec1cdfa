"""Stage train: adapt the backbone by one approach. Usage: python -m stages.train APPROACH"""

import sys
import time
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from pipeline.files import atomic
from pipeline.images import Split
from pipeline.model import count_parameters, new_network, read_backbone, save_model, unfreeze
from pipeline.params import load_params
from pipeline.runtime import run_stage, torch_device
from pipeline.train import fit

PREPARED = Path("data/prepared")


def main() -> None:
    name = sys.argv[1]
    params = load_params()
    approach = params.approaches[name]
    device = torch_device(params.runtime.device, params.threads)
    train, val = Split(PREPARED, "train"), Split(PREPARED, "val")
    classes = pd.read_csv(PREPARED / "classes.csv")["name"].tolist()

    state = read_backbone(Path("data/raw/backbone.pth")) if approach.initial == "backbone" else None
    model = new_network(params.network, state, len(classes), params.train.seed)
    groups = unfreeze(model, approach.learning_rates, f"approaches.{name}.learning_rates")
    parameters = count_parameters(model)
    print(f"{name} on {device}: {parameters['trainable']:,} of {parameters['total']:,} parameters are trained")

    history, start = [], time.perf_counter()
    for epoch in fit(model, groups, approach.learning_rates, train, val, params.train, params.transforms, device):
        history.append(asdict(epoch))
        print(
            f"epoch {epoch.epoch:2}/{params.train.epochs}: "
            f"train loss {epoch.train_loss:.4f}, accuracy {epoch.train_accuracy:6.1%}; "
            f"val loss {epoch.val_loss:.4f}, accuracy {epoch.val_accuracy:6.1%}; {time.perf_counter() - start:.0f} s",
            flush=True,
        )

    header = {
        "approach": name,
        "network": params.network,
        "classes": classes,
        "transforms": params.transforms.model_dump(),
        "parameters": parameters,
    }
    with atomic(f"history/{name}.csv", f"models/{name}.safetensors") as (history_file, model_file):
        pd.DataFrame(history).to_csv(history_file, index=False, lineterminator="\n", float_format="%.6f")
        save_model(model_file, model, header)


if __name__ == "__main__":
    run_stage(main)
