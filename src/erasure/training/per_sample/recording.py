"""One forward pass with the layers that have a rule under observation, and proof that the rules may be applied to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

from erasure.training.per_sample.layer import LayerRule
from erasure.training.twins import Twin, replaced

__all__ = ["LayerCall", "Observed", "Recording", "hand_over", "observe", "parameter_uses", "recording"]


@dataclass(frozen=True)
class Observed:
    """A layer with a rule.

    Args:
        module: The layer.
        rule: Its closed form.
        parameters: Names in the model of its own parameters that are wanted, by their name in the layer.
    """

    module: nn.Module
    rule: type[LayerRule]
    parameters: Mapping[str, str]


@dataclass(frozen=True)
class LayerCall:
    """One call of an observed layer.

    Args:
        inputs: What it got, detached.
        version: The input's in-place version at that time.
        source: The input itself, whose version tells whether it has changed since.
        edge: Where its output's gradient passes; None if no gradient reaches the output. An edge, unlike the output tensor, stays
            what it is when a later layer works in place.
        output_shape: Shape of the output.
        uses_parameters: Whether the parameters take part in the graph (a twin leaves them out).
    """

    inputs: Tensor
    version: int
    source: Tensor
    edge: GradientEdge | None
    output_shape: torch.Size
    uses_parameters: bool


@dataclass
class Recording:
    """The calls of one forward pass, by position in the list of observed layers."""

    calls: dict[int, list[LayerCall | None]] = field(default_factory=dict)

    def covered(
        self, observed: list[Observed], logits: Tensor, wanted: Mapping[str, nn.Parameter], distrusted: Collection[int]
    ) -> tuple[list[int], list[str]]:
        """Layers whose closed form is exact for this pass, and the parameters that need the fallback.

        A layer is covered when it was called once, batch first, its input is unchanged, and nothing else in the graph of the logits
        uses its parameters; layers in ``distrusted`` never are. Parameters that the graph does not contain have gradient zero and
        need nothing.
        """
        n, uses = len(logits), parameter_uses(logits)
        layers = [i for i, layer in enumerate(observed) if i not in distrusted and self._is_exact(i, layer, n, uses, wanted)]
        done = {name for i in layers for name in observed[i].parameters.values()}
        return layers, [name for name, p in wanted.items() if name not in done and self._may_matter(name, p, uses, observed)]

    def _is_exact(self, i: int, layer: Observed, n: int, uses: Counter[int], wanted: Mapping[str, nn.Parameter]) -> bool:
        calls = self.calls.get(i, [])
        call = calls[0] if len(calls) == 1 else None
        if call is None or call.edge is None or call.inputs.shape[0] != n or call.output_shape[0] != n:
            return False
        if call.source._version != call.version or not layer.rule.accepts(layer.module, call.inputs):
            return False
        expected = 1 if call.uses_parameters else 0
        return all(uses[id(wanted[name])] == expected for name in layer.parameters.values())

    def _may_matter(self, name: str, parameter: nn.Parameter, uses: Counter[int], observed: list[Observed]) -> bool:
        if uses[id(parameter)]:
            return True
        # A twin hides its layer's parameters from the graph, so absence proves nothing for them.
        return any(
            call is None or not call.uses_parameters
            for i, calls in self.calls.items()
            if name in observed[i].parameters.values()
            for call in calls
        )


def observe(model: nn.Module, wanted: Mapping[str, nn.Parameter], rules: Mapping[nn.Module, type[LayerRule]]) -> list[Observed]:
    """The layers with a rule that own a wanted parameter and share none with another layer."""
    names = {id(parameter): name for name, parameter in wanted.items()}
    owners = Counter(id(p) for module in model.modules() for p in module._parameters.values())
    observed = []
    for module, rule in rules.items():
        own = {key: names[id(p)] for key, p in module._parameters.items() if p is not None and id(p) in names}
        if own and all(owners[id(p)] == 1 for p in module._parameters.values() if p is not None):
            observed.append(Observed(module, rule, own))
    return observed


@contextmanager
def recording(observed: list[Observed], twins: Mapping[nn.Module, Twin]) -> Iterator[Recording]:
    """Records the calls of ``observed`` inside the block, with ``twins`` in place; leaves nothing behind."""
    record = Recording()
    handles = []
    try:
        with replaced(twins) as taken:
            for i, layer in enumerate(observed):
                handles.append(layer.module.register_forward_hook(_hook(record, i, taken), with_kwargs=True))
            yield record
    finally:
        for handle in handles:
            handle.remove()


def _hook(record: Recording, i: int, twin_taken: set[nn.Module]) -> Any:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        inputs = args[0] if len(args) == 1 and not kwargs else kwargs.get("input")
        calls = record.calls.setdefault(i, [])
        if not isinstance(inputs, Tensor) or not isinstance(output, Tensor) or not inputs.ndim or not output.ndim:
            calls.append(None)
            return
        edge = get_gradient_edge(output) if output.requires_grad else None
        calls.append(LayerCall(inputs.detach(), inputs._version, inputs, edge, output.shape, module not in twin_taken))

    return hook


def parameter_uses(logits: Tensor) -> Counter[int]:
    """How often each leaf takes part in the graph of ``logits``, by ``id``."""
    uses: Counter[int] = Counter()
    seen: set[Any] = set()
    waiting: list[Any] = [logits.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        for following, _ in node.next_functions:
            variable = getattr(following, "variable", None)
            if variable is not None:
                uses[id(variable)] += 1
            else:
                waiting.append(following)
    return uses


def hand_over(start: Tensor, edges: Mapping[int, GradientEdge], take: Callable[[int, Tensor], None], *, keep: bool) -> None:
    """One backward pass that gives each gradient away as soon as it is complete, so that they are not all in memory at once.

    Args:
        start: The scalar to differentiate.
        edges: Where the wanted gradients pass, by the number of their layer.
        take: Called with number and gradient, once for each edge that a gradient reaches.
        keep: Whether another pass over the same graph follows.
    """
    # A node that nothing wanted lies below is not run: its gradient is asked for as a result.
    nodes = {edge.node for edge in edges.values()}
    lowest = [number for number, edge in edges.items() if not _leads_to(edge.node, nodes)]
    handles = [
        edge.node.register_prehook(partial(_take_from, take, number, edge.output_nr))
        for number, edge in edges.items()
        if number not in lowest
    ]
    try:
        found = torch.autograd.grad(start, [edges[number] for number in lowest], retain_graph=keep, allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    for number, gradient in zip(lowest, found, strict=True):
        if gradient is not None:
            take(number, gradient)


def _leads_to(start: Node, nodes: Collection[Node]) -> bool:
    """Whether a gradient goes on from ``start`` to one of ``nodes``."""
    seen: set[Node | None] = {start, None}
    waiting = [start]
    while waiting:
        for following, _ in waiting.pop().next_functions:
            if following in nodes:
                return True
            if following not in seen and following is not None:
                seen.add(following)
                waiting.append(following)
    return False


def _take_from(take: Callable[[int, Tensor], None], number: int, output_nr: int, gradients: tuple[Tensor | None, ...]) -> None:
    gradient = gradients[output_nr]
    if gradient is not None:
        take(number, gradient)
