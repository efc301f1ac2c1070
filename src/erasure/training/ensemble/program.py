"""A network written down once (``torch.fx``) and computed for many models at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from erasure.errors import RequirementNotMet
from erasure.training.anatomy import Anatomy
from erasure.training.ensemble.layers import FUNCTIONS, METHODS, OWN_WAYS, refuse_layer

__all__ = ["Program", "difference"]


class Program:
    """The layers of a network, as in training, in the order of their use.

    Args:
        model: The network; as before afterwards.

    Raises:
        RequirementNotMet: If a part of it cannot be computed for many models at once; the message says which.
    """

    def __init__(self, model: nn.Module) -> None:
        modules = dict(model.named_modules())
        if any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in modules.values()):
            raise RequirementNotMet("the network has hooks")
        if len(dict(model.named_parameters())) != len(list(model.named_parameters(remove_duplicate=False))):
            raise RequirementNotMet("layers share weights")
        self.graph: fx.Graph = _traced(model)
        nodes = list(self.graph.nodes)
        self.modules: dict[Any, nn.Module] = {node.target: modules[node.target] for node in nodes if node.op == "call_module"}
        for problem in (self._refuse(node) for node in nodes):
            if problem is not None:
                raise RequirementNotMet(problem)
        if sum(node.op == "placeholder" for node in nodes) != 1:
            raise RequirementNotMet("the network takes more than one input")
        self.names: dict[Any, tuple[tuple[str, str], ...]] = {
            target: tuple((local, f"{target}.{local}") for local, _ in (*module.named_parameters(), *module.named_buffers()))
            for target, module in self.modules.items()
        }
        called = [node.target for node in nodes if node.op == "call_module" and self.names[node.target]]
        if len(set(called)) < len(called):
            raise RequirementNotMet("a layer with weights or statistics is called more than once")

    def _refuse(self, node: fx.Node) -> str | None:
        if self._works_in_place(node) and any(len(given.users) > 1 for given in node.all_input_nodes):
            return "a layer writes over what another reads"
        if node.op == "call_module":
            module = self.modules[node.target]
            if len(node.args) != 1 or node.kwargs:
                return f"{type(module).__name__} is called with more than its input"
            return refuse_layer(module)
        if node.target in (torch.flatten, "flatten") and _bounds(node) != (1, -1):
            return "a flatten does not keep exactly the batch dimension"
        if node.op == "call_function" and node.target not in FUNCTIONS.keys() | OWN_WAYS:
            return f"there is no rule for {getattr(node.target, '__name__', node.target)}"
        if node.op == "call_method" and node.target not in METHODS.keys() | OWN_WAYS:
            return f"there is no rule for .{node.target}()"
        return f"the network uses {node.target} outside a layer" if node.op == "get_attr" else None

    def _works_in_place(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return bool(getattr(self.modules[node.target], "inplace", False))
        return node.kwargs.get("inplace") is True or any(given is True for given in node.args)

    def called(self, node: fx.Node, x: Tensor) -> Tensor:
        """The result of a function or method that stands between layers for its input ``x``."""
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda _: x)
        return self._callable(node)(*args, **kwargs)

    @staticmethod
    def _callable(node: fx.Node) -> Callable[..., Tensor]:
        calls: Any = FUNCTIONS if node.op == "call_function" else METHODS
        return calls[node.target]  # type: ignore[no-any-return]


def _bounds(node: fx.Node) -> tuple[Any, Any]:
    given = dict(zip(("input", "start_dim", "end_dim"), node.args, strict=False)) | node.kwargs
    return given.get("start_dim", 0), given.get("end_dim", -1)


def _traced(model: nn.Module) -> fx.Graph:
    modes = [(module, module.training) for module in model.modules()]
    model.train()
    try:
        # Functions of math are refused anyway; without wrapping them a trace takes two thirds of the time.
        return fx.Tracer(autowrap_modules=()).trace(model)  # type: ignore[arg-type]
    # Tracing runs the network's own code, which may fail in any way on a value that stands for another.
    except Exception as error:
        raise RequirementNotMet(f"the network cannot be traced ({error})") from error
    finally:
        for module, mode in modes:
            module.training = mode


def difference(models: Sequence[nn.Module]) -> str | None:
    """How the networks differ beyond their weights, or None."""
    first = Anatomy(models[0])
    for number, model in enumerate(models[1:], 1):
        where = first.difference(model)
        if where is not None:
            return f"model {number} differs from the first in {where}"
    return None
