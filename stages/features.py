"""What a frozen module of the backbone makes of every view, computed once for all approaches and epochs."""

from functools import partial
from pathlib import Path
from shutil import copyfile

from pipeline.base.checkpoint import Checkpoint, fingerprint, store
from pipeline.base.device import torch_device
from pipeline.base.errors import choose
from pipeline.base.files import alone, publish
from pipeline.base.launch import RANK
from pipeline.data.pixels import Split
from pipeline.data.raw import SPLITS
from pipeline.models.features import features, open_inputs
from pipeline.models.networks import check_runs, pretrained_network, read_backbone
from pipeline.models.sections import for_inference, in_precision, section
from pipeline.params import Params
from stages._earlier import bring_back

DATA, RESUME = Path("data"), Path(".resume")


def main(params: Params, module: str) -> None:
    start, file = choose(params.features, module, "features"), Path(params.backbone.path)
    device, transforms = torch_device(params.runtime.device, params.threads), params.transforms.model_dump()
    whole = pretrained_network(params.backbone.network, read_backbone(file))
    check_runs(whole.to(device).requires_grad_(False), params.transforms.crop, f"features.{module}")
    network = in_precision(for_inference(section(whole, after=start, to=module)).to(device), params.precision, device)
    files = [file, *(DATA / start / f"{split}.{kind}" for kind in ("csv", "npy") for split in SPLITS)]
    recipe = [module, start, params.backbone.model_dump(), transforms, params.precision, params.threads, device.type]
    key = fingerprint(files, [*recipe, params.train.seed])  # more epochs are more rows
    parts = {RESUME / f"{module}.{split}.npy": DATA / module / f"{split}.npy" for split in SPLITS}
    states = [Checkpoint(part.with_suffix(""), key) for part in parts]
    with alone(RESUME / f"{module}.{RANK}", f"features.{module}"):  # so that only its equal in another run waits
        bring_back(parts, states, module, len(Split(DATA / start, "train")) * params.train.epochs)
        for split, part, state in zip(SPLITS, parts, states, strict=True):
            images = Split(DATA / start, split)
            inputs = open_inputs(DATA / start, images, transforms, device, params.train.seed)
            epochs = params.train.epochs if split == "train" else 0
            blocks = partial(features, network, inputs, len(images), epochs, device)
            store(part, blocks, len(images) * (epochs or 1), f"{module} of {split}", state)
        if not RANK:
            tables = {part.with_suffix(".csv"): final.with_suffix(".csv") for part, final in parts.items()}
            for table, split in zip(tables, SPLITS, strict=True):
                copyfile(DATA / start / f"{split}.csv", table)
            publish(parts | tables)
            for state in states:
                state.finish()
