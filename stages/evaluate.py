"""Stage evaluate: the val and test split, once. Usage: python -m stages.evaluate APPROACH"""

import sys
from pathlib import Path

from pipeline.evaluate import per_class, predictions, scores
from pipeline.files import atomic, write_json
from pipeline.images import Split
from pipeline.inputs import open_inputs, predict
from pipeline.model import for_inference, in_precision, load_model, section, weights_digest
from pipeline.params import Transforms, load_params
from pipeline.runtime import run_stage, torch_device

DATA = Path("data")


def main() -> None:
    name = sys.argv[1]
    params = load_params()
    device = torch_device(params.runtime.device, params.threads)
    model, header = load_model(Path(f"models/{name}.safetensors"))
    start, transforms = header["input"], Transforms.model_validate(header["transforms"])
    network = in_precision(for_inference(section(model, after=start)).to(device), params.precision, device)

    metrics: dict[str, object] = {}
    for split in ("test", "val"):
        images = Split(DATA / "pixels", split)
        inputs = open_inputs(DATA, start, images, transforms, device)
        logits = predict(network, inputs, len(images), device)
        metrics[split] = scores(logits, images.labels)
        if split == "test":
            table = predictions(logits, images)
    metrics["n_test"] = len(table)
    metrics["parameters"] = header["parameters"]
    metrics["weights_sha256"] = weights_digest(model.state_dict())

    with atomic(f"predictions/{name}.csv", f"per_class/{name}.csv", f"metrics/{name}.json") as paths:
        table.to_csv(paths[0], index=False, lineterminator="\n", float_format="%.6f")
        per_class(table, header["classes"]).to_csv(paths[1], index=False, lineterminator="\n")
        write_json(paths[2], metrics)
    print(f"{name}: test {metrics['test']}\n{name}: val {metrics['val']}")


if __name__ == "__main__":
    run_stage(main)
