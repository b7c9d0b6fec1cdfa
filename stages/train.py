"""Adapt the backbone by one approach."""

from collections.abc import Collection
from pathlib import Path

import torch
from torch import nn

from pipeline.base.cache import Cache
from pipeline.base.errors import choose, print_note
from pipeline.base.files import atomic
from pipeline.base.launch import is_first
from pipeline.compute.device import set_precision, setup_torch
from pipeline.data.raw import CLASSES, INDEX, read_classes
from pipeline.data.tables import write_csv
from pipeline.data.views import Views
from pipeline.models.files import Header, TrainedModel, save_model, split_classifier
from pipeline.models.freezing import PartlyTrained, resolve_learning_rates, section
from pipeline.models.frozen import Inputs, frozen_beginning, logits
from pipeline.models.networks import dry_run, new_network, read_backbone
from pipeline.params import Params
from pipeline.training.batches import limit_images_per_class, weights_of_classes
from pipeline.training.calibration import confidences, fit_temperature, sure_from
from pipeline.training.checkpoint import Checkpoint, fingerprint
from pipeline.training.fit import Data, fit, run_epochs
from stages._inputs import RAW, open_cache, open_views, preprocessing_of, trained_by_others


def main(params: Params, name: str) -> None:
    recipe = choose(params.approaches, name, "approaches").recipe(params.train)
    key = f"approaches.{name}"
    backbone = params.backbone
    device = setup_torch(params.runtime.device, params.threads)

    # The network: what is trained, and the frozen beginning before it.
    classes = read_classes(RAW)
    state = read_backbone(Path(backbone.path)) if recipe.initial == "backbone" else None
    model = new_network(backbone.network, state, len(classes), recipe.seed).to(device)
    rates = resolve_learning_rates(model, recipe.learning_rates, f"{key}.learning_rates")
    network = PartlyTrained(model, rates, key)
    dry_run(model, recipe.crop, key)
    others = trained_by_others(params, recipe, model)
    frozen = frozen_beginning(model, rates, others, recipe, device)
    rest = section(model, frozen.end, None)
    network.trainable_part = set_precision(rest, recipe.precision, device)

    # The images.
    cache = open_cache(params.runtime)
    preprocessing = preprocessing_of(params, recipe)
    train = open_views("train", preprocessing, params.runtime, device, recipe)
    val = open_views("val", preprocessing, params.runtime, device)
    split = train.pixels.split
    rows = limit_images_per_class(split.ids, split.labels, recipe.images_per_class, recipe.seed)
    data = Data(
        train=Inputs(train, frozen.parts, cache),
        val=Inputs(val, frozen.parts, cache),
        rows=rows,
        val_labels=val.pixels.split.labels,
        class_weights=weights_of_classes(recipe.class_weights, rows.labels, len(classes)),
    )

    # Training, which continues where it was interrupted.
    files = [Path(backbone.path), RAW / CLASSES, RAW / INDEX]
    values = [name, recipe.model_dump(), backbone.model_dump(), params.threads, device.type]
    checkpoint = Checkpoint(Path(".resume") / name, fingerprint(files, values))
    epochs = fit(network, data, recipe, device, checkpoint)
    history = run_epochs(epochs, recipe, len(rows), Path("live") / f"{name}.csv")

    # What makes its probabilities honest, from validation.
    header = Header(
        approach=name,
        network=backbone.network,
        classes=classes,
        resize=recipe.resize,
        crop=recipe.crop,
        mean=backbone.mean,
        std=backbone.std,
        fit=recipe.fit,
        precision=recipe.precision,
        flip_averaging=recipe.flip_averaging,
        initial=recipe.initial,
        trained=list(rates),
        parameters=network.count_parameters(),
        temperature=1.0,
        sure_from=0.0,
    )
    header = calibrated(model, header, val, others, cache, device, params.sure)
    if not is_first():
        return
    with atomic(f"history/{name}.csv", f"models/{name}.safetensors") as (history_file, model_file):
        write_csv(history_file, history)
        save_model(model_file, model, header)
    checkpoint.discard()


def calibrated(
    model: nn.Module,
    header: Header,
    val: Views,
    others: Collection[Collection[str]],
    cache: Cache,
    device: torch.device,
    right: float,
) -> Header:
    """The header with the temperature, and the confidence from which on the model is sure."""
    frozen, classifier = split_classifier(TrainedModel(model.eval(), header), others, device)
    values = logits(classifier, Inputs(val, frozen.parts, cache)).numpy()
    labels = val.pixels.split.labels
    temperature = fit_temperature(values, labels)
    if temperature == 1:
        print_note(f"{header.approach}: {len(labels)} validation images tell no temperature")
    correct = values.argmax(1) == labels
    sure = sure_from(confidences(values, temperature), correct, right)
    return header.model_copy(update={"temperature": temperature, "sure_from": round(sure, 6)})
