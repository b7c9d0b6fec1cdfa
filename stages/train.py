"""Adapt the backbone by one approach."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from pipeline.base.errors import choose, print_note
from pipeline.base.files import atomic
from pipeline.base.launch import is_first
from pipeline.compute.device import set_precision, setup_torch
from pipeline.data.raw import CLASSES, INDEX, read_classes
from pipeline.data.tables import write_csv
from pipeline.models.files import Header, TrainedModel, save_model, split_classifier
from pipeline.models.freezing import PartlyTrained, resolve_learning_rates, section
from pipeline.models.frozen import Inputs, frozen_beginning, logits
from pipeline.models.known import keep, known_from, similarity
from pipeline.models.networks import dry_run, new_network, read_backbone
from pipeline.params import Params
from pipeline.training.batches import limit_images_per_class, weights_of_classes
from pipeline.training.calibration import confidences, fit_temperature, sure_from
from pipeline.training.checkpoint import Checkpoint, fingerprint
from pipeline.training.fit import Data, fit, run_epochs
from pipeline.training.history import remarks
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
    dry_run(model, recipe.crop, key, "crop")
    if recipe.train_crop:
        dry_run(model, recipe.train_crop, key, "train_crop")
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

    if is_first():
        for remark in remarks(history, len(data.val_labels), recipe.keep):
            print_note(f"{name}: {remark}")

    # What makes its probabilities honest, and what it knows, from validation.
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
        known_from=-1.0,
    )
    raw = TrainedModel(model.eval(), header)
    frozen, classifier = split_classifier(raw, others, device)
    central = open_views("train", preprocessing, params.runtime, device)
    outputs = {
        views.pixels.split.name: logits(classifier.network, Inputs(views, frozen.parts, cache))
        for views in (central, val)
    }
    train_features = outputs["train"][rows.rows, len(classes) :]
    val_logits, val_features = outputs["val"].tensor_split([len(classes)], dim=1)
    trained = calibrated(raw, val_logits.numpy(), data.val_labels, params.sure)
    trained = with_known(trained, train_features, val_features, params.known)
    if not is_first():
        return
    with atomic(f"history/{name}.csv", f"models/{name}.safetensors") as (history_file, model_file):
        write_csv(history_file, history)
        save_model(model_file, trained)
    checkpoint.discard()


def calibrated(
    model: TrainedModel, logits: np.ndarray, labels: np.ndarray, right: float
) -> TrainedModel:
    """The model with its temperature, and the probability from which on it is sure.

    Args:
        logits: of the validation images, float32 [n, classes].
        labels: int64 [n].
        right: share of the sure answers that are right.
    """
    temperature = fit_temperature(logits, labels)
    if temperature == 1:
        print_note(f"{model.header.approach}: {len(labels)} validation images tell no temperature")
    correct = logits.argmax(1) == labels
    sure = sure_from(confidences(logits, temperature), correct, right)
    found = {"temperature": temperature, "sure_from": round(sure, 6)}
    return replace(model, header=model.header.model_copy(update=found))


def with_known(model: TrainedModel, train: Tensor, val: Tensor, share: float) -> TrainedModel:
    """The model with its training images' features, and the similarity that makes one known.

    Args:
        train, val: features of the splits, float32 [n, values].
        share: of the validation images that count as known.
    """
    known = keep(train)
    limit = known_from(similarity(val, known.float()), share)
    if limit is None:
        print_note(
            f"{model.header.approach}: {len(val)} validation images do not tell what is "
            '"none of these"'
        )
        return model
    return replace(model, header=model.header.model_copy(update={"known_from": limit}), known=known)
