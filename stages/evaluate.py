"""The whole val and test split, once, by one trained model."""

from pathlib import Path

from pipeline.base.device import torch_device
from pipeline.base.errors import choose
from pipeline.base.files import atomic, write_csv, write_json
from pipeline.base.launch import RANK
from pipeline.base.progress import progress
from pipeline.data.pixels import Split
from pipeline.models.features import collect, input_module, open_inputs, outputs
from pipeline.models.sections import as_evaluated, for_inference, in_precision, section
from pipeline.models.storage import load_model, weights_digest
from pipeline.params import Params
from pipeline.training.evaluation import per_class, predictions, scores

DATA = Path("data")


def main(params: Params, name: str) -> None:
    choose(params.approaches, name, "approaches")
    device = torch_device(params.runtime.device, params.threads)
    model, header = load_model(Path(f"models/{name}.safetensors"))
    network = for_inference(section(model, after=input_module(header["input"]))).to(device)
    network = as_evaluated(in_precision(network, params.precision, device), header)

    metrics: dict[str, object] = {}
    for split in ("test", "val"):
        images = Split(DATA / header["input"], split)
        inputs = open_inputs(DATA / header["input"], images, header["transforms"], device)
        chunks = outputs(network, inputs, len(images), 0, device)
        logits = collect(chunks if RANK else progress(chunks, len(images), split, count=len))
        metrics[split] = scores(logits, images.labels)
        if split == "test":
            table = predictions(logits, images)
    metrics["n_test"] = len(table)
    metrics["parameters"] = header["parameters"]
    metrics["weights_sha256"] = weights_digest(model.state_dict())
    if RANK:
        return
    with atomic(f"predictions/{name}.csv", f"per_class/{name}.csv", f"metrics/{name}.json") as paths:
        write_csv(paths[0], table)
        write_csv(paths[1], per_class(table, header["classes"]), float_format=None)
        write_json(paths[2], metrics)
    print(f"{name}: test {metrics['test']}\n{name}: val {metrics['val']}")
