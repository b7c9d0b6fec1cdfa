"""The network: built, loaded, partly frozen, cut where the frozen part ends, saved."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse

from pipeline.files import atomic
from pipeline.runtime import UserError
from pipeline.vision import StochasticDepth, get_model, get_model_weights, list_models, torchvision

State = dict[str, Tensor]


def read_backbone(path: Path) -> State:
    """A state dict saved by ``torch.save``, on the CPU, tensors only (``weights_only``).

    Raises:
        UserError: not such a file.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
            raise ValueError("it holds something else")
        return dict(state)
    except Exception as error:  # torch.load raises whatever the bytes lead it into
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{path}: not a state dict of tensors ({reason}); check the backbone's url in params.yaml"
        ) from None


def pretrained_network(network: str, state: State) -> nn.Module:
    """The backbone as it was pretrained, with its own classes, in eval mode.

    Args:
        network: a classification model of torchvision, by the name :func:`torchvision.models.get_model` takes.
        state: its state dict; floating point of any precision (computed in float32).

    Raises:
        UserError: no such network, no final linear layer, or weights of another network.
    """
    model = _build(network)
    head = head_name(model)
    weight = state.get(f"{head}.weight")
    try:
        if weight is not None and len(weight) != model.get_submodule(head).out_features:
            model = get_model(network, weights=None, num_classes=len(weight))
        model.load_state_dict(state)
    except RuntimeError as error:
        first = (str(error).strip().splitlines()[1:] or [str(error)])[0].strip()
        raise UserError(
            f"data/raw/backbone.pth does not fit {network} ({first[:120]}…): "
            "network, url and checksum of the backbone in params.yaml must belong together"
        ) from None
    return model.eval()


def _build(network: str, **options: Any) -> nn.Module:
    if network not in list_models(module=torchvision.models):
        raise UserError(f"params.yaml: backbone.network = {network}: torchvision has no such network; try resnet18")
    return get_model(network, weights=None, **options)


def head_name(model: nn.Module) -> str:
    """Name of the network's last linear layer (``fc`` of a ResNet, ``classifier.3`` of a MobileNetV3).

    Raises:
        UserError: it does not end in a linear layer.
    """
    name, last = [(name, module) for name, module in model.named_modules() if next(module.children(), None) is None][-1]
    if not isinstance(last, nn.Linear):
        raise UserError(
            f"params.yaml: backbone.network: {type(model).__name__} does not end in a linear layer; try resnet18"
        )
    return name


def category_names(network: str, classes: int) -> list[str]:
    """Names of the classes a backbone was pretrained on: ImageNet's 1,000, or numbers for any other count."""
    categories = get_model_weights(network).DEFAULT.meta.get("categories", [])
    return list(categories) if len(categories) == classes else [f"class {number + 1}" for number in range(classes)]


def new_network(network: str, state: State | None, classes: int, seed: int) -> nn.Module:
    """The network to adapt: a new last linear layer, drawn from ``seed``, on the backbone's weights.

    Args:
        state: the backbone's state dict, or None for random weights everywhere (drawn from ``seed``).
        classes: outputs of the new layer.

    Raises:
        UserError: as :func:`pretrained_network`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if state is None:
            return _build(network, num_classes=classes)
        model = pretrained_network(network, state)
        head = head_name(model)
        parent, _, name = head.rpartition(".")
        old = cast(nn.Linear, model.get_submodule(head))
        setattr(model.get_submodule(parent), name, nn.Linear(old.in_features, classes))
    return model


def unfreeze(model: nn.Module, learning_rates: Mapping[str, float], key: str) -> None:
    """Train the named modules, freeze the rest: no gradient there, and eval mode, so that BatchNorm stays as it is.

    Args:
        learning_rates: of the modules to train, by name.
        key: the params key that holds them, for messages.

    Raises:
        UserError: a module that is not in the network, has no parameters, or lies in another named one; or the
            last layer, which is new and must be trained, is in none.
    """
    head = head_name(model)
    modules = {
        name: module for name, module in model.named_modules() if name and any(True for _ in module.parameters())
    }
    for name in learning_rates:
        if name not in modules:
            top = ", ".join(dict(model.named_children()))
            raise UserError(
                f"params.yaml: {key}.{name}: no such module with parameters; the network has {top} and their parts"
            )
        for other in learning_rates:
            if name.startswith(f"{other}."):
                raise UserError(f"params.yaml: {key}.{name}: is part of {other}, which has a learning rate already")
    if not any(f"{head}.".startswith(f"{name}.") for name in learning_rates):
        raise UserError(f"params.yaml: {key}: {head}, the new last layer, needs a learning rate")
    model.requires_grad_(False)
    for name in learning_rates:
        modules[name].requires_grad_(True)
    set_mode(model, learning_rates, training=True)


def set_mode(model: nn.Module, trained: Mapping[str, float], training: bool) -> None:
    """Training or eval mode for the trained modules; always eval mode for the frozen ones."""
    model.eval()
    for name in trained:
        model.get_submodule(name).train(training)


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Number of parameters: ``total`` and ``trainable``."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return {"total": sum(size for size, _ in sizes), "trainable": sum(size for size, trained in sizes if trained)}


def section(model: nn.Module, after: str = "pixels", to: str | None = None) -> fx.GraphModule:
    """A part of the network: from behind the module ``after``, or from the pixels, to the output of the module
    ``to`` (None: the logits). Parts in a row compute the same as the whole, bit for bit.

    The part shares its modules with ``model``, so training the one trains the other.

    Raises:
        UserError: no such module, or more than its output goes on from there.
    """
    nodes = list(_Tracer().trace(model).nodes)
    first = 0 if after == "pixels" else _output_of(after, nodes)
    last = len(nodes) - 1 if to is None else _output_of(to, nodes)
    part = fx.Graph()
    copies = {nodes[first]: part.placeholder("inputs")}
    for node in nodes[first + 1 : last + 1]:
        copies[node] = part.node_copy(node, copies.__getitem__)
    if to is not None:
        part.output(copies[nodes[last]])
    return fx.GraphModule(model, part)


def _output_of(module: str, nodes: list[fx.Node]) -> int:
    """Which of ``nodes`` is the output of ``module``."""
    places = [i for i, node in enumerate(nodes) if module in node.meta.get("nn_module_stack", {})]
    if not places:
        names = dict.fromkeys(next(iter(node.meta.get("nn_module_stack", {})), "") for node in nodes)
        raise UserError(
            f"params.yaml: features.{module}: no such module; the network has {', '.join(filter(None, names))}"
        )
    last = places[-1]
    position = {node: i for i, node in enumerate(nodes)}
    if [node for node in nodes[: last + 1] if any(position[user] > last for user in node.users)] != [nodes[last]]:
        raise UserError(f"params.yaml: features.{module}: more than its output goes on from there; name a whole block")
    return last


def check_frozen(part: fx.GraphModule, trained: Mapping[str, float], key: str) -> None:
    """Make sure that the part of the network before an approach's input holds nothing that the approach trains.

    Args:
        key: the params key of the approach, for messages.

    Raises:
        UserError: it does.
    """
    used = {name for node in part.graph.nodes for name in node.meta.get("nn_module_stack", {})}
    for name in trained:
        if name in used:
            raise UserError(
                f"params.yaml: {key}.input: {name} is trained, but lies before it; take features from before {name}, "
                "or pixels"
            )


class _Tracer(fx.Tracer):
    """Keeps modules whole whose forward asks for the mode (training or eval), so that the mode can still change."""

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return isinstance(module, StochasticDepth) or super().is_leaf_module(module, qualified_name)


def for_inference(frozen: nn.Module) -> nn.Module:
    """A copy of a frozen module in eval mode that computes the same faster (results differ in the last bits).

    BatchNorm is folded into the convolutions and the weights lie channels-last.
    """
    return fuse(frozen.eval()).requires_grad_(False).to(memory_format=torch.channels_last)


def in_precision(network: nn.Module, precision: str, device: torch.device) -> nn.Module:
    """Let the forward pass of ``network`` compute in ``precision``, fp32 or bf16; its weights stay float32.

    bf16 is torch's autocast: convolutions and linear layers take and give bfloat16
    (https://docs.pytorch.org/docs/stable/amp.html).
    """
    if precision == "bf16":
        network.forward = torch.autocast(device.type, torch.bfloat16)(network.forward)
    return network


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and values: equal exactly when the weights are."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save_model(path: Path, model: nn.Module, header: Mapping[str, Any]) -> None:
    """Write weights and ``header`` (JSON, what is needed to use them) as one safetensors file."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(model.state_dict().items())}
    content = save(state, metadata={"model": json.dumps(header)})
    with atomic(path) as (temporary,):
        temporary.write_bytes(content)


def load_model(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The model that :func:`save_model` wrote, in eval mode on the CPU, and its header.

    Raises:
        UserError: not such a file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads(file.metadata()["model"])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        model = get_model(header["network"], weights=None, num_classes=len(header["classes"]))
        model.load_state_dict(state)
    except (OSError, SafetensorError, KeyError, TypeError, RuntimeError) as error:
        raise UserError(f"{path}: not a model of this pipeline ({error}); run dvc repro train") from None
    return model.eval(), header
