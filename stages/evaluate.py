"""One trained model on the whole validation and test split, once."""

from pathlib import Path

from pipeline.base.errors import choose
from pipeline.base.files import atomic
from pipeline.base.launch import is_first
from pipeline.compute.device import setup_torch
from pipeline.data.tables import write_csv, write_json
from pipeline.models.files import load_model, split_classifier
from pipeline.models.frozen import Inputs, logits
from pipeline.models.networks import weights_digest
from pipeline.params import Params
from pipeline.training.evaluation import per_class, predictions, scores
from stages._inputs import open_cache, open_views, trained_by_others


def main(params: Params, name: str) -> None:
    recipe = choose(params.approaches, name, "approaches").recipe(params.train)
    device = setup_torch(params.runtime.device, params.threads)
    model = load_model(Path(f"models/{name}.safetensors"))
    others = trained_by_others(params, recipe, model.network)
    frozen, classifier = split_classifier(model, others, device)
    cache = open_cache(params.runtime)

    evaluated = {}
    for split in ("val", "test"):
        views = open_views(split, model.preprocessing, params.runtime, device)
        images = views.pixels.split
        values = logits(classifier, Inputs(views, frozen.parts, cache), split)
        evaluated[split] = scores(values, images.labels) | {"images": len(images)}
    test = predictions(values, images)

    if not is_first():
        return
    facts = {
        "parameters": model.header.parameters,
        "weights_sha256": weights_digest(model.network.state_dict()),
    }
    outs = [
        f"predictions/{name}.csv",
        f"per_class/{name}.csv",
        f"evaluation/{name}.json",
    ]
    with atomic(*outs) as (predictions_file, classes_file, evaluation_file):
        write_csv(predictions_file, test)
        write_csv(classes_file, per_class(test, model.header.classes), float_format=None)
        write_json(evaluation_file, evaluated | facts)
    for split, found in evaluated.items():
        print(f"{name}, {split}: {found}")
