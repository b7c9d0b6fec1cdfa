"""What of a network is trained and what is frozen, and where the frozen beginning ends."""

import operator
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.ops import StochasticDepth

from pipeline.base.errors import UserError
from pipeline.compute.processes import is_shared
from pipeline.models.networks import head_name


def resolve_learning_rates(
    model: nn.Module, learning_rates: Mapping[str, float], key: str
) -> dict[str, float]:
    """The learning rates by the modules' own names; ``head`` is the last linear layer.

    Args:
        key: the params key that holds them, for messages.

    Raises:
        UserError: a module that is not in the network, has no parameters, or lies in another named
            one; or the head, which is new and must be trained, is in none.
    """
    head = head_name(model)
    if "head" in learning_rates and head in learning_rates and head != "head":
        raise UserError(f"params.yaml: {key}.head: is {head}, which has a learning rate already")
    rates = {head if name == "head" else name: rate for name, rate in learning_rates.items()}
    modules = [name for name, module in model.named_modules() if name and _has_parameters(module)]
    for name in rates:
        if name not in modules:
            top = ", ".join(dict(model.named_children()))
            raise UserError(
                f"params.yaml: {key}.{name}: no such module with parameters; the network has "
                f"{top} and their parts"
            )
        for other in rates:
            if _is_in(name, other) and name != other:
                raise UserError(
                    f"params.yaml: {key}.{name}: is part of {other}, which has a learning rate "
                    "already"
                )
    if not any(_is_in(head, name) for name in rates):
        raise UserError(f"params.yaml: {key}: {head}, the new head, needs a learning rate")
    return rates


class PartlyTrained(nn.Module):
    """A network of which some modules are trained and the rest is frozen.

    Frozen means: no gradient, and always eval mode, so that BatchNorm's statistics stay too.

    Attributes:
        whole: the whole network, from pixels to logits.
        trainable_part: what follows the frozen beginning; :meth:`forward` runs this part.
        learning_rates: of the trained modules, by name.
    """

    def __init__(
        self, network: nn.Module, learning_rates: Mapping[str, float], key: str = "learning_rates"
    ) -> None:
        """Freeze ``network`` but for the named modules (:func:`resolve_learning_rates`).

        Args:
            key: the params key that holds them, for messages.

        Raises:
            UserError: several processes are to train BatchNorm without CUDA.
        """
        super().__init__()
        self.whole = network
        self.learning_rates = dict(learning_rates)
        self.trainable_part = network
        network.requires_grad_(False)
        for name in learning_rates:
            network.get_submodule(name).requires_grad_(True)
        self.train()
        if is_shared():
            _synchronise_batch_norm(network, key)

    def train(self, mode: bool = True) -> "PartlyTrained":
        """Training or eval mode for the trained modules; always eval mode for the frozen ones."""
        self.training = mode
        self.whole.eval()
        for name in self.learning_rates:
            self.whole.get_submodule(name).train(mode)
        return self

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits; ``inputs`` are what :attr:`trainable_part` takes."""
        return self.trainable_part(inputs)

    def count_parameters(self) -> dict[str, int]:
        """Number of parameters: ``total`` and ``trainable``."""
        parameters = list(self.whole.parameters())
        return {
            "total": sum(parameter.numel() for parameter in parameters),
            "trainable": sum(p.numel() for p in parameters if p.requires_grad),
        }

    def trained_state(self) -> dict[str, Tensor]:
        """The part of the network's state dict that training changes."""
        prefixes = tuple(f"{name}." for name in self.learning_rates)
        state = self.whole.state_dict()
        return {name: value for name, value in state.items() if name.startswith(prefixes)}


def _synchronise_batch_norm(network: nn.Module, key: str) -> None:
    """Let trained BatchNorm take its statistics over the whole batch, which processes share."""
    modules = network.named_modules()
    trained = [
        name for name, module in modules if isinstance(module, _BatchNorm) and module.training
    ]
    if not trained:
        return
    device = next(network.parameters()).device.type
    if device != "cuda":  # which torch.nn.SyncBatchNorm needs
        raise UserError(
            f"params.yaml: {key}: trains BatchNorm ({trained[0]}), for which several processes "
            f"need CUDA; on {device} say runtime.launch = '' (evaluation and a head's training "
            "can be shared)"
        )
    nn.SyncBatchNorm.convert_sync_batchnorm(network)


@dataclass(frozen=True)
class Place:
    """A place in a network through which one value passes, on which all that follows depends.

    Attributes:
        position: in the traced graph.
        module: that computes the value, for people.
    """

    position: int
    module: str


def frozen_place(model: nn.Module, trained: Collection[str]) -> Place | None:
    """The last place before any trained module; None where there is none before the first layer.

    It never lies between a layer and its BatchNorm, which :func:`fuse_frozen` makes one: frozen
    parts in a row would compute other last bits than the whole.

    Args:
        trained: names of modules.
    """
    nodes = list(_traced(model).nodes)
    first_trained = next(
        position
        for position, node in enumerate(nodes)
        if any(_is_in(module, name) for module in _modules(node) for name in trained)
    )
    for position in range(first_trained - 1, 0, -1):
        node = nodes[position]
        is_single = _is_only_value(nodes, position) and not _is_tuple(node)
        if is_single and not _is_fused(model, node):
            return Place(position, _module_name(nodes, position))
    return None


def values_at(model: nn.Module, place: Place, side: int) -> int:
    """How many numbers pass through a place for one image of ``side`` pixels.

    Args:
        model: everything before the place must be frozen.
    """
    image = next(model.parameters()).new_zeros(1, 3, side, side)
    with torch.inference_mode():
        return section(model, 0, place.position)(image).numel()


def section(model: nn.Module, start: int, stop: int | None) -> fx.GraphModule:
    """A part of a network in eval or training mode: from one place's position to another's.

    Parts in a row compute the same as the whole, bit for bit. A part shares its modules with
    ``model``, so training the one trains the other.

    Args:
        start: 0 for the pixels.
        stop: None for the logits.
    """
    nodes = list(_traced(model).nodes)
    last = len(nodes) - 1 if stop is None else stop
    part, copies = _copy(nodes[start : last + 1])
    if stop is not None:
        part.output(copies[nodes[last]])
    return fx.GraphModule(model, part)


def _copy(nodes: list[fx.Node]) -> tuple[fx.Graph, dict[fx.Node, fx.Node]]:
    """A graph of nodes in a row, of which the first one becomes its input; and each node's copy."""
    part = fx.Graph()
    copies = {nodes[0]: part.placeholder("inputs")}
    for node in nodes[1:]:
        copies[node] = part.node_copy(node, copies.__getitem__)
    return part, copies


def with_features(model: nn.Module, start: int) -> fx.GraphModule:
    """The rest of a network from a place's position on: logits, and what goes into the head.

    Its outputs are [n, classes + values]. For the rest see :func:`section`.
    """
    to_head = frozen_place(model, [head_name(model)])
    assert to_head is not None  # a value goes into the head
    nodes = list(_traced(model).nodes)
    part, copies = _copy(nodes[start:-1])
    logits = copies[nodes[-1].args[0]]
    features = part.call_function(torch.flatten, (copies[nodes[to_head.position]], 1))
    part.output(part.call_function(torch.cat, ([logits, features], 1)))
    return fx.GraphModule(model, part)


def fuse_frozen(frozen: nn.Module) -> nn.Module:
    """A copy of a frozen module that computes the same faster (the last bits differ).

    BatchNorm is folded into the convolutions and the weights lie channels-last.
    """
    copy = fuse(frozen.eval())
    return copy.requires_grad_(False).to(memory_format=torch.channels_last)


class _FlipAveraged(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        return (self.network(pixels).float() + self.network(pixels.flip(-1)).float()) / 2


def with_flip_averaging(network: nn.Module, flip_averaging: bool) -> nn.Module:
    """``network``, or the mean of its outputs for an image and its mirror image."""
    return _FlipAveraged(network) if flip_averaging else network


class _Tracer(fx.Tracer):
    """Keeps modules whole whose forward asks for the mode, so that the mode can still change."""

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        is_leaf = super().is_leaf_module(module, qualified_name)
        return isinstance(module, StochasticDepth) or is_leaf


def _traced(model: nn.Module) -> fx.Graph:
    return _Tracer().trace(model)


def _modules(node: fx.Node) -> list[str]:
    """Names of the modules whose forward the node is part of, or which it calls."""
    stack: dict[str, Any] = node.meta.get("nn_module_stack", {})
    own = [str(node.target)] if node.op in ("call_module", "get_attr") else []
    return [*stack, *own]


def _is_only_value(nodes: list[fx.Node], position: int) -> bool:
    """Whether nothing but the node's own value is used after it."""
    place = {node: i for i, node in enumerate(nodes)}
    needed = [
        node for node in nodes[: position + 1] if any(place[user] > position for user in node.users)
    ]
    return needed == [nodes[position]]


def _is_tuple(node: fx.Node) -> bool:
    """Whether a node's value is several tensors, of which those behind it take one (of chunk)."""
    users = (user for user in node.users if user.target is operator.getitem)
    return any(isinstance(user.args[1], int) for user in users)


def _is_fused(model: nn.Module, node: fx.Node) -> bool:
    """Whether :func:`fuse_frozen` makes a node's module and the BatchNorm behind it one."""

    def calls(node: fx.Node, *kinds: type[nn.Module]) -> bool:
        return node.op == "call_module" and isinstance(model.get_submodule(str(node.target)), kinds)

    return calls(node, nn.Conv2d, nn.Linear) and any(calls(user, _BatchNorm) for user in node.users)


def _module_name(nodes: list[fx.Node], position: int) -> str:
    """The outermost module that has computed its output at a node; for people."""
    for node in reversed(nodes[: position + 1]):
        if names := [name for name in _modules(node) if name]:
            return names[0].split(".")[0]
    return "pixels"


def _has_parameters(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())


def _is_in(name: str, other: str) -> bool:
    """Whether the module ``name`` is ``other``, or lies in it."""
    return f"{name}.".startswith(f"{other}.")
