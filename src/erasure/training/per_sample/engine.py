"""Squared per-sample gradients of one batch after another, each parameter by the fastest way that is exact for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from erasure.errors import DataError, ErasureError, RequirementNotMet
from erasure.training.devices import give_back_holes, mapped_apart
from erasure.training.forward import logits_of
from erasure.training.graphs import NodeBatch
from erasure.training.links import LinkBatch
from erasure.training.per_sample import convolution, embedding, linear, normalisation  # noqa: F401  (they register their rules)
from erasure.training.per_sample.comparison import agreeing, close, same_layout, unit_scale
from erasure.training.per_sample.fallback import one_by_one, vectorised
from erasure.training.per_sample.layer import LayerRule, Scratch, rule_for, share_keeping
from erasure.training.per_sample.nodes import NodeSquares
from erasure.training.per_sample.recording import Recording, hand_over, observe, recording
from erasure.training.per_sample.scope import head, sample
from erasure.training.per_sample.seeds import Cotangents, Seeder
from erasure.training.trial import require_gradients
from erasure.training.twins import Twin, twins_of

__all__ = ["Engine", "Method"]

Method = Literal["auto", "vmap", "loop"]
"""``auto`` takes closed forms where they are exact; ``vmap`` and ``loop`` force a fallback. All give the same numbers."""

_APART = 4 << 20
"""Bytes from which on what is made in passing has memory of its own: it comes and goes with each layer."""


class Engine:
    """Adds up squared per-sample gradients.

    The first batch (and the first with two samples or more) is compared with single samples run alone: outputs and layer inputs to
    see whether samples influence one another or lie along another axis, and squared gradients to see whether each closed form holds.
    Whatever fails goes to a fallback from then on. Every batch's graph is checked as well, without waiting for the device.

    Args:
        model: In evaluation mode, inside :func:`~erasure.training.per_sample.scope.evaluation`.
        parameters: What to differentiate by, by name.
        seeder: Gives the backward passes of a batch.
        method: See :data:`Method`.
        dtype: Of the sums.
    """

    def __init__(
        self, model: nn.Module, parameters: Mapping[str, nn.Parameter], seeder: Seeder, method: Method, dtype: torch.dtype
    ) -> None:
        self.model: nn.Module = model
        self.parameters: Mapping[str, nn.Parameter] = parameters
        self.seeder: Seeder = seeder
        self._alone = method == "loop"
        self._dtype = dtype
        self.n_samples: int = 0
        self._rules = {m: rule for m in model.modules() if method == "auto" and (rule := rule_for(m)) is not None}
        self._observed = observe(model, parameters, self._rules)
        self._twins: dict[nn.Module, Twin] = {x.module: x.rule.twin for x in self._observed if x.rule.has_twin}
        if method == "auto":
            self._twins |= twins_of(model)
        self._nodes = NodeSquares(model, parameters, seeder, dtype) if method == "auto" else None
        self._distrusted: set[int] = set()
        self._compared = 0
        self._reached = False
        self._scratch = Scratch()
        self._vmap_verified: dict[tuple[frozenset[str], int], bool] = {}

    @cached_property
    def totals(self) -> dict[str, Tensor]:
        """The sums, by parameter name; made when there is something to add, after the comparisons, which take most memory."""
        return {name: torch.zeros_like(p, dtype=self._dtype, requires_grad=False) for name, p in self.parameters.items()}

    def add(self, x: Any, y: Tensor) -> None:
        """Adds one batch; an empty one changes nothing."""
        n = len(y)
        if n == 0:
            return
        self.n_samples += n
        if self._nodes is not None and isinstance(x, NodeBatch | LinkBatch) and (found := self._nodes.of(x, y)) is not None:
            self._add(found)
            return
        give_back_holes(self.parameters.values())
        with mapped_apart(_APART):
            self._add_whole(x, y, n)

    def _add_whole(self, x: Any, y: Tensor, n: int) -> None:
        if self._alone:
            self._add_one_by_one(self.parameters, x, y, n)
            return
        record, logits = self._forward(x)
        if logits.shape[0] != n:
            raise RequirementNotMet(f"the model gives logits of shape {tuple(logits.shape)} for {n} samples; expected ({n}, …)")
        seeds = self.seeder(logits.detach(), y)
        if self._compared < min(n, 2) and not self._samples_are_independent(record, logits, seeds, x, y):
            self._alone = True
            self._add_one_by_one(self.parameters, x, y, n)
            return
        if not logits.requires_grad or not seeds.count:
            return
        layers, rest = record.covered(self._observed, logits, self.parameters, self._distrusted)
        self._closed_forms(record, layers, logits, seeds, self._add)
        if rest:
            self._add_fallback({name: self.parameters[name] for name in rest}, x, y, n, seeds)

    def _add(self, squares: Mapping[str, Tensor]) -> None:
        for name, own in squares.items():
            self.totals[name] += own

    def gradients(self, x: Any, y: Tensor) -> dict[str, Tensor]:
        """Per-sample gradients of the first pass; each shape ``(B, *parameter)``."""
        n = len(y)
        if n == 0:
            raise DataError("no samples: per-sample gradients need at least one")
        if not self._alone:
            record, logits = self._forward(x)
            seeds = self.seeder(logits.detach(), y)
            independent = self._samples_are_independent(record, logits, seeds, x, y)
            if independent and seeds.count and self._can_vectorise(self.parameters, x, y, n, seeds):
                parts = [grads for _, grads in vectorised(self.model, self.parameters, x, n, seeds)]
                return {name: torch.cat([part[name][:, 0] for part in parts]) for name in self.parameters}
        single = list(one_by_one(self.model, self.parameters, x, y, n, self.seeder))
        if not single:
            return {name: p.new_zeros((n, *p.shape)) for name, p in self.parameters.items()}
        return {name: torch.stack([grads[name] for grads in single]) for name in self.parameters}

    def _forward(self, x: Any) -> tuple[Recording, Tensor]:
        # What layers give up one by one as their gradients come then leaves no holes that sums do not fit in.
        with mapped_apart(), recording(self._observed, self._twins) as record:
            logits = logits_of(self.model(x))
        if not self._reached:
            require_gradients(self.model, logits)
            self._reached = True
        return record, logits

    def _closed_forms(
        self, record: Recording, layers: list[int], logits: Tensor, seeds: Cotangents, give: Callable[[dict[str, Tensor]], None]
    ) -> None:
        """Give away the sums over samples and passes, by parameter name; what was recorded and the graph are used up.

        Every layer gives up what it holds as soon as its last gradient has come, so that a pass needs no more than it did forward.
        """
        rules: dict[int, LayerRule] = {}
        edges: dict[int, GradientEdge] = {}
        with mapped_apart():
            for i in layers:
                (call,) = record.calls.pop(i)
                if call is not None and call.edge is not None:
                    rules[i], edges[i] = self._observed[i].rule(self._observed[i].module, call.inputs, self._scratch), call.edge
        record.calls.clear()
        if seeds.count > 1:
            share_keeping(rules.values())

        def finish(i: int) -> None:
            squares = rules.pop(i).squares()
            give({name: squares[own] for own, name in self._observed[i].parameters.items() if own in squares})

        def take(i: int, gradient: Tensor) -> None:
            rules[i].add(gradient)
            if is_last:
                finish(i)

        for j in range(seeds.count if edges else 0):
            is_last = j + 1 == seeds.count
            # The first of several passes makes sums that stay until the last, and leaves no holes between them.
            with mapped_apart() if j == 0 < seeds.count - 1 else nullcontext():
                hand_over(seeds.start(j, logits), edges, take, keep=not is_last)
        for i in [*rules]:  # of layers that the last pass did not reach
            finish(i)

    def _add_one_by_one(self, parameters: Mapping[str, nn.Parameter], x: Any, y: Tensor, n: int) -> None:
        for grads in one_by_one(self.model, parameters, x, y, n, self.seeder):
            for name, gradient in grads.items():
                self.totals[name] += gradient.square()

    def _add_fallback(self, parameters: Mapping[str, nn.Parameter], x: Any, y: Tensor, n: int, seeds: Cotangents) -> None:
        if not self._can_vectorise(parameters, x, y, n, seeds):
            self._add_one_by_one(parameters, x, y, n)
            return
        for _, grads in vectorised(self.model, parameters, x, n, seeds):
            for name, gradient in grads.items():
                self.totals[name] += gradient.square_().sum((0, 1))

    def _can_vectorise(self, parameters: Mapping[str, nn.Parameter], x: Any, y: Tensor, n: int, seeds: Cotangents) -> bool:
        """Whether vmap runs and agrees with the definition on two samples; found out once per set of parameters.

        Models may refuse vmap (control flow that depends on data) or keep references to parameters that it cannot replace, and some
        of its rules are wrong.
        """
        pair = min(n, 2)
        if (key := (frozenset(parameters), pair)) in self._vmap_verified:
            return self._vmap_verified[key]
        first = Cotangents(1, lambda j: seeds.at(j)[:pair])
        try:
            ((_, found),) = vectorised(self.model, parameters, head(x, pair), pair, first)
        except ErasureError:
            raise
        except Exception:  # any failure of foreign code means the same: take the other way
            self._vmap_verified[key] = False
            return False
        passes = one_by_one(self.model, parameters, x, y, n, self.seeder, only=range(pair), n_passes=1)
        pairs = [{name: (found[name][i, 0], expected[name]) for name in parameters} for i, expected in enumerate(passes)]
        self._vmap_verified[key] = all(all(agreeing(p).values()) for p in pairs)
        return self._vmap_verified[key]

    def _samples_are_independent(self, record: Recording, logits: Tensor, seeds: Cotangents, x: Any, y: Tensor) -> bool:
        """Whether the first and last sample run alone give their rows of the batch; distrusts layers for which something differs."""
        n = len(y)
        self._compared = min(n, 2)
        for i in sorted({0, n - 1}):
            alone, alone_logits = self._forward(sample(x, i, n))
            if not close(alone_logits, logits[i : i + 1]):
                return False
            self._distrusted |= {k for k in range(len(self._observed)) if not same_layout(record, alone, k, i, n)}
            if i == 0:
                self._distrusted |= self._wrong_closed_forms(alone, alone_logits, x, y)
        own = self.seeder(logits[:1].detach(), y[:1])
        if own.count and not close(own.at(0), seeds.at(0)[:1]):
            raise RequirementNotMet("per_sample_loss of one sample depends on the others of its batch")
        return True

    def _wrong_closed_forms(self, alone: Recording, logits: Tensor, x: Any, y: Tensor) -> set[int]:
        """Layers whose closed form differs from automatic differentiation on the first sample."""
        with torch.no_grad():
            plain = logits_of(self.model(sample(x, 0, len(y))))
        if not close(logits, plain):
            return set(range(len(self._observed)))
        expected = next(one_by_one(self.model, self.parameters, x, y, len(y), self.seeder, only=[0], n_passes=1), None)
        if expected is None or not logits.requires_grad:
            return set()
        seeds = self.seeder(logits.detach(), y[:1])
        layers, _ = alone.covered(self._observed, logits, self.parameters, self._distrusted)
        scale = unit_scale(expected.values())
        found: dict[str, Tensor] = {}
        self._closed_forms(alone, layers, logits, Cotangents(1, lambda j: scale * seeds.at(j)), found.update)
        verdicts = agreeing({name: (squares.sqrt_(), expected[name].abs_().mul_(scale)) for name, squares in found.items()})
        return {k for k in layers if not all(verdicts.get(name, True) for name in self._observed[k].parameters.values())}
