"""Parts of a network: what is trained and what is frozen, and the cut between them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.fx.experimental.optimization import fuse
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.ops import StochasticDepth

from pipeline.base.errors import UserError
from pipeline.base.launch import SIZE
from pipeline.models.networks import head_name


def unfreeze(model: nn.Module, learning_rates: Mapping[str, float], key: str) -> dict[str, float]:
    """Train the named modules, freeze the rest: no gradient there, and eval mode, so that BatchNorm stays as it is.

    Args:
        learning_rates: of the modules to train, by name; ``head`` is the last linear layer, whatever its name.
        key: the params key that holds them, for messages.

    Returns:
        The learning rates by the modules' own names.

    Raises:
        UserError: a module that is not in the network, has no parameters, or lies in another named one; or the
            head, which is new and must be trained, is in none; or several processes train BatchNorm without CUDA.
    """
    head = head_name(model)
    if "head" in learning_rates and head in learning_rates and head != "head":
        raise UserError(f"params.yaml: {key}.head: is {head}, which has a learning rate already")
    learning_rates = {head if name == "head" else name: rate for name, rate in learning_rates.items()}
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
        raise UserError(f"params.yaml: {key}: {head}, the new head, needs a learning rate")
    model.requires_grad_(False)
    for name in learning_rates:
        modules[name].requires_grad_(True)
    set_mode(model, learning_rates, training=True)
    _synchronise(model, key)
    return learning_rates


def set_mode(model: nn.Module, trained: Mapping[str, float], training: bool) -> None:
    """Training or eval mode for the trained modules; always eval mode for the frozen ones."""
    model.eval()
    for name in trained:
        model.get_submodule(name).train(training)


def _synchronise(model: nn.Module, key: str) -> None:
    """Let trained BatchNorm take its statistics over the whole batch where several processes share it."""
    trained = [name for name, module in model.named_modules() if isinstance(module, _BatchNorm) and module.training]
    if SIZE > 1 and trained:
        device = next(model.parameters()).device.type
        if device != "cuda":  # which torch.nn.SyncBatchNorm needs
            raise UserError(
                f"params.yaml: {key}: trains BatchNorm ({trained[0]}), for which several processes need CUDA; on "
                f"{device} say runtime.launch = '' (features, evaluation and a head's training can be shared)"
            )
        nn.SyncBatchNorm.convert_sync_batchnorm(model)


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Number of parameters: ``total`` and ``trainable``."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return {"total": sum(size for size, _ in sizes), "trainable": sum(size for size, trained in sizes if trained)}


def section(model: nn.Module, after: str = "pixels", to: str | None = None) -> fx.GraphModule:
    """A part of the network: from behind the module ``after``, or from the pixels, to the output of the module ``to``
    (None: the logits). Parts in a row compute the same as the whole, bit for bit.

    A module is written as in params.yaml, with - for each dot in its name; ``head`` is what goes into the head, also
    where no module makes it. The part shares its modules with ``model``, so training the one trains the other.

    Raises:
        UserError: no such module, or more than its output goes on from there.
    """
    nodes, head = list(_Tracer().trace(model).nodes), head_name(model)
    first = 0 if after == "pixels" else _output_of(after, nodes, head)
    last = len(nodes) - 1 if to is None else _output_of(to, nodes, head)
    part = fx.Graph()
    copies = {nodes[first]: part.placeholder("inputs")}
    for node in nodes[first + 1 : last + 1]:
        copies[node] = part.node_copy(node, copies.__getitem__)
    if to is not None:
        part.output(copies[nodes[last]])
    return fx.GraphModule(model, part)


def _output_of(name: str, nodes: list[fx.Node], head: str) -> int:
    """Which of ``nodes`` is the output of the module ``name``."""
    position = {node: i for i, node in enumerate(nodes)}
    if name == "head":
        places = [position[node.all_input_nodes[0]] for node in nodes if node.target == head]
    else:
        module = name.replace("-", ".")
        places = [i for i, node in enumerate(nodes) if module in node.meta.get("nn_module_stack", {})]
    if not places:
        names = dict.fromkeys(next(iter(node.meta.get("nn_module_stack", {})), "") for node in nodes)
        raise UserError(
            f"params.yaml: features.{name}: no such module; the network has {', '.join(filter(None, names))} and their "
            "parts (with - for each dot), and head, what goes into the head"
        )
    last = places[-1]
    if [node for node in nodes[: last + 1] if any(position[user] > last for user in node.users)] != [nodes[last]]:
        raise UserError(f"params.yaml: features.{name}: more than its output goes on from there; name a whole block")
    return last


def trained_section(model: nn.Module, after: str, trained: Mapping[str, float], key: str) -> fx.GraphModule:
    """What follows the input of an approach, if nothing before it is trained.

    Args:
        after: the module that the input comes from, or pixels.
        key: the params key of the approach, for messages.

    Raises:
        UserError: something is.
    """
    frozen = () if after == "pixels" else section(model, to=after).graph.nodes
    used = {name for node in frozen for name in node.meta.get("nn_module_stack", {})}
    for name in trained:
        if name in used:
            raise UserError(
                f"params.yaml: {key}.input: {name} is trained, but lies before it; take features from before {name}, "
                "or pixels"
            )
    return section(model, after=after)


class _Tracer(fx.Tracer):
    """Keeps modules whole whose forward asks for the mode (training or eval), so that the mode can still change."""

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return isinstance(module, StochasticDepth) or super().is_leaf_module(module, qualified_name)


def for_inference(frozen: nn.Module) -> nn.Module:
    """A copy of a frozen module in eval mode that computes the same faster (results differ in the last bits).

    BatchNorm is folded into the convolutions and the weights lie channels-last.
    """
    return fuse(frozen.eval()).requires_grad_(False).to(memory_format=torch.channels_last)


class _FlipAveraged(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return (self.network(pixels).float() + self.network(pixels.flip(-1)).float()) / 2


def as_evaluated(network: nn.Module, header: Mapping[str, Any]) -> nn.Module:
    """``network``; where a model's header says flip_averaging, the mean of its logits for an image and its mirror."""
    return _FlipAveraged(network) if header["flip_averaging"] else network


def in_precision(network: nn.Module, precision: str, device: torch.device) -> nn.Module:
    """Let ``network`` compute in ``precision``; its weights stay float32.

    tf32 rounds the factors of products to 10 bits (https://docs.pytorch.org/docs/stable/notes/cuda.html). bf16 is
    torch's autocast: convolutions and linear layers take and give bfloat16
    (https://docs.pytorch.org/docs/stable/amp.html).

    Raises:
        UserError: tf32 on a device that has none.
    """
    if precision == "tf32":
        if device.type != "cuda":
            raise UserError(f"params.yaml: precision = tf32 needs CUDA, but the device is {device}; say fp32")
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    elif precision == "bf16":
        network.forward = torch.autocast(device.type, torch.bfloat16)(network.forward)
    return network
