"""Networks of torchvision: built, loaded, given a new head."""

import hashlib
import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import cast

import safetensors.torch
import torch
import torchvision.models
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights, list_models

from pipeline.base.errors import UserError, listed

State = dict[str, Tensor]
AUXILIARY = ("googlenet", "inception_v3")  # with further heads, for training on ImageNet only


def read_backbone(path: Path) -> State:
    """A state dict, on the CPU: a file of safetensors, or of ``torch.save`` (tensors only).

    The content says which of both, not the name. The prefix ``module.`` of
    :class:`torch.nn.DataParallel` is removed.

    Raises:
        UserError: not such a file, or values that are not finite.
    """
    try:
        with path.open("rb") as file:
            is_safetensors = file.read(9)[8:] == b"{"  # 8 bytes of length, then JSON
        if is_safetensors:
            state = safetensors.torch.load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, Mapping):
            raise ValueError(f"it holds {type(state).__name__}")
        if not all(isinstance(value, Tensor) for value in state.values()):
            raise ValueError(f"it holds a dict of {', '.join(map(str, [*state][:5]))}")
        if all(str(name).startswith("module.") for name in state):
            state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
        # Strides of 0 make a tensor of any size out of a few bytes.
        if any(tensor.nbytes > tensor.untyped_storage().nbytes() for tensor in state.values()):
            raise ValueError("a tensor is larger than what it stores")
        odd = [str(name) for name, tensor in state.items() if not tensor.float().isfinite().all()]
    except Exception as error:  # torch.load raises whatever the bytes lead it into
        reason = re.split(r"\. |\n", str(error).strip() or type(error).__name__)[0]
        if isinstance(error, UnpicklingError):  # whose advice is to run what it refused
            code = re.search(r"GLOBAL (\S+)", str(error))
            reason = f"it would run {code[1]}" if code else "torch.save made no such file"
        raise UserError(
            f"{path}: not a state dict of tensors ({reason}); check backbone.path in params.yaml"
        ) from None
    if odd:
        raise UserError(
            f"{path}: values that are infinite or not numbers, in {listed(odd)}; "
            "check backbone.path in params.yaml"
        )
    return {str(name): tensor for name, tensor in state.items()}


def pretrained_network(network: str, state: State) -> nn.Module:
    """The backbone as it was pretrained, with its own classes, in eval mode.

    Args:
        network: a classification model of torchvision, by the name that
            :func:`torchvision.models.get_model` takes.
        state: its state dict; floating point of any precision (computed in float32).

    Raises:
        UserError: no such network, no final linear layer, or weights of another network.
    """
    model = build(network)
    head = head_name(model)
    weight = state.get(f"{head}.weight")
    try:
        own = model.state_dict()[f"{head}.weight"]
        if weight is not None and weight.ndim == 2 and len(weight) != len(own):
            model = build(network, len(weight) or 1)
        load_weights(model, state)
    except RuntimeError as error:
        raise UserError(
            f"params.yaml: the weights of backbone.path do not fit {network} ({error}): "
            "backbone.network and backbone.path must belong together"
        ) from None
    return model.eval()


def build(network: str, classes: int = 1000) -> nn.Module:
    """The network with random weights.

    GoogLeNet and Inception come without the auxiliary heads of their training on ImageNet, and
    expect inputs normalised like those of the other networks (``transform_input``), as
    torchvision's weights of them do.

    Raises:
        UserError: torchvision has none of that name.
    """
    if network not in list_models(module=torchvision.models):
        raise UserError(
            f"params.yaml: backbone.network = {network}: torchvision has no such network; "
            "try resnet18"
        )
    options: dict[str, bool] = {}
    if network in AUXILIARY:
        options = {"aux_logits": False, "init_weights": True, "transform_input": True}
    return get_model(network, weights=None, num_classes=classes, **options)


def load_weights(model: nn.Module, state: State) -> None:
    """Load a state dict, without weights of auxiliary heads, which :func:`build` leaves out.

    DenseNet's published files have a dot more in some names. MNASNet asks for a version, which
    safetensors cannot hold; only the network's own is given, so that older files of other networks
    are read as old ones.

    Raises:
        RuntimeError: it does not fit; on one line.
    """
    wanted = OrderedDict(
        (re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", name), tensor)
        for name, tensor in state.items()
        if not name.startswith(("aux1.", "aux2.", "AuxLogits."))
    )
    wanted._metadata = {"": {"version": model._version}}  # type: ignore[attr-defined]
    faults = []
    for name, own in model.state_dict().items():
        given = wanted.get(name, own)
        if given.shape != own.shape and own.ndim:
            faults.append(f"{name} is {list(given.shape)} in place of {list(own.shape)}")
        elif own.is_floating_point() and not given.is_floating_point():
            faults.append(f"{name} is {given.dtype}")
    if not faults:
        missing, unexpected = model.load_state_dict(wanted, strict=False)
        faults += [f"{name} is missing" for name in missing]
        faults += [f"{name} is unknown to it" for name in unexpected]
    if faults:
        more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise RuntimeError("; ".join(faults[:3]) + more)


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and values: equal exactly when the weights are."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def head_name(model: nn.Module) -> str:
    """Name of the network's last linear layer (``fc`` of a ResNet).

    Raises:
        UserError: it does not end in a linear layer.
    """
    leaves = [
        (name, module)
        for name, module in model.named_modules()
        if next(module.children(), None) is None
    ]
    name, last = leaves[-1]
    if not isinstance(last, nn.Linear):
        raise UserError(
            f"params.yaml: backbone.network: {type(model).__name__} does not end in a linear "
            "layer; try resnet18"
        )
    return name


def category_names(network: str, classes: int) -> list[str]:
    """Names of the classes a backbone was pretrained on: ImageNet's 1,000, else class 1, 2, ..."""
    categories = get_model_weights(network).DEFAULT.meta.get("categories", [])
    if len(categories) == classes:
        return list(categories)
    return [f"class {class_id + 1}" for class_id in range(classes)]


def new_network(network: str, state: State | None, classes: int, seed: int) -> nn.Module:
    """The network to adapt: the backbone's weights and a new head, drawn from ``seed``.

    Args:
        state: the backbone's state dict, or None for random weights everywhere (drawn from
            ``seed``).
        classes: outputs of the new head.

    Raises:
        UserError: as :func:`pretrained_network`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if state is None:
            return build(network, classes)
        model = pretrained_network(network, state)
        head = head_name(model)
        parent, _, name = head.rpartition(".")
        old = cast(nn.Linear, model.get_submodule(head))
        new = nn.Linear(old.in_features, classes, old.bias is not None)
        setattr(model.get_submodule(parent), name, new)
    return model


def dry_run(model: nn.Module, side: int, key: str, setting: str) -> None:
    """Let the network compute, forwards and, where it is trained, backwards; leave it as it was.

    So what cannot work is said before the work: images of a size that the network cannot take, or,
    on CUDA, an operation without a deterministic algorithm
    (:func:`torch.use_deterministic_algorithms` lists them; AlexNet and VGG have one before their
    classifier).

    Args:
        model: in the mode and on the device that it will have.
        side: of the images, pixels.
        key: the params key to name.
        setting: the one that says the side.

    Raises:
        UserError: it cannot compute.
    """
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    weight = next(model.parameters())
    try:
        outputs = model(weight.new_zeros(2, 3, side, side))
        if outputs.requires_grad:
            outputs.sum().backward()
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"params.yaml: {key}: {type(model).__name__} cannot compute with images of {side} x "
            f"{side} pixels ({setting}) on {weight.device.type}: {reason}"
        ) from None
    for name, buffer in model.named_buffers():
        buffer.copy_(buffers[name])
    model.zero_grad()
