"""Products of the loss's curvature with a direction in weight space, for any network that has second derivatives."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vjp
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.weight_norm import WeightNorm

from erasure.errors import RequirementNotMet
from erasure.training.batches import Batch
from erasure.training.calls import Criterion
from erasure.training.forward import logits_of
from erasure.training.graphs import NodeBatch, Subgraph
from erasure.training.linearised import Linearisable, LinearisedNetwork, curvature_of_loss, slope_of_loss
from erasure.training.links import LinkBatch
from erasure.training.trial import differentiable_gradients, layer_at_fault, require_gradients, unwatched

__all__ = ["Curvature", "CurvatureKind", "mathematical", "moved_logits"]

CurvatureKind = Literal["gauss-newton", "hessian"]
_Product = Callable[[Batch, Tensor], Tensor]
_Recorded: TypeAlias = "_RecordedHessian | _RecordedGaussNewton | _WrittenOutGaussNewton"
_NO_DERIVATIVE = (RuntimeError, NotImplementedError, TypeError)


@contextmanager
def mathematical(model: nn.Module) -> Iterator[None]:
    """Attention and weight norm by their formulas, encoder layers without their fused path, and nobody else's hooks.

    The fused kernels of attention have no second derivatives; that of weight norm has wrong ones (torch 2.13).
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    norms = [module for module in model.modules() if isinstance(module, _WeightNorm)]
    hooks = [h for module in model.modules() for h in module._forward_pre_hooks.values() if isinstance(h, WeightNorm)]
    try:
        for norm in norms:
            norm.forward = _weight_norm_of(norm.dim)  # type: ignore[method-assign]
        for hook in hooks:
            hook.compute_weight = _hooked_weight_norm(hook)  # type: ignore[assignment, method-assign]
        with sdpa_kernel(SDPBackend.MATH), unwatched():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for norm in norms:
            del norm.forward
        for hook in hooks:
            del hook.compute_weight


def _weight_norm_of(dim: int) -> Callable[[Tensor, Tensor], Tensor]:
    def weight(magnitude: Tensor, direction: Tensor) -> Tensor:
        others = [i for i in range(direction.ndim) if i != dim % direction.ndim] if dim != -1 else list(range(direction.ndim))
        computed: Tensor = direction * (magnitude / torch.linalg.vector_norm(direction, dim=others, keepdim=True))
        return computed

    return weight


def _hooked_weight_norm(hook: WeightNorm) -> Callable[[nn.Module], Tensor]:
    weight = _weight_norm_of(hook.dim)
    return lambda module: weight(getattr(module, f"{hook.name}_g"), getattr(module, f"{hook.name}_v"))


@contextmanager
def _without_fused_layers() -> Iterator[None]:
    """Recurrent layers and convolutions by operators that can be differentiated twice."""
    with ExitStack() as stack:
        # Switching oneDNN off and on again sets its other options too, of which torch warns where the machine lacks them.
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", "TF32 acceleration on top of oneDNN", UserWarning)
        stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
        if torch.cuda.is_available():
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        yield


class Curvature:
    r"""Products with :math:`\lambda I + \frac1N \sum_i C_i`, the damped curvature of the samples' mean loss.

    Forward over reverse mode where every layer has both; otherwise reverse mode twice, which fewer layers lack (LSTM has no forward
    mode). Attention and weight norm are computed by their formulas either way.

    Args:
        model: In eval mode.
        batches: The samples.
        criterion: The loss.
        kind: ``gauss-newton`` or ``hessian``.
        damping: ``lambda``.

    Raises:
        RequirementNotMet: If the network has no second derivatives; names the layer.
    """

    def __init__(
        self, model: nn.Module, batches: list[Batch], criterion: Criterion, kind: CurvatureKind, damping: float = 0.0
    ) -> None:
        self.model: nn.Module = model
        self.batches: list[Batch] = batches
        self.criterion: Criterion = criterion
        self.kind = kind
        self.damping: float = damping
        self.weights: dict[str, Tensor] = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
        self.n_samples: int = sum(len(batch.y) for batch in batches)
        self._of_batch: _Product | None = None
        self._kept: _Recorded | None = None
        self._seen: list[Subgraph | None] = []

    def __call__(self, flat: Tensor) -> Tensor:
        """The product with ``flat``, shape ``(P,)``."""
        total = self.damping * flat
        for batch in self.batches:
            total = total + self._product(batch, flat) * (len(batch.y) / self.n_samples)
        return total

    def gradient(self) -> Tensor:
        """Gradient of the samples' mean loss, ``(P,)``, without the damping's; 0 by weights that it does not depend on."""
        total = torch.cat([torch.zeros_like(w).flatten() for w in self.weights.values()])
        for batch in self.batches:
            total = total + self._gradient(batch) * (len(batch.y) / self.n_samples)
        return total

    def _gradient(self, batch: Batch) -> Tensor:
        if self._network is not None:
            with torch.no_grad():
                return self._flat(self._network.back(slope_of_loss(self._network.logits, batch.y, self.criterion)))
        with torch.enable_grad():
            logits = logits_of(self.model(batch.x))
            require_gradients(self.model, logits)
            own = [p for name, p in self.model.named_parameters() if name in self.weights]
            return _gradient(self._loss(batch, logits), own)

    def _product(self, batch: Batch, flat: Tensor) -> Tensor:
        if self._kept is not None:
            return self._kept(flat, keep=True)
        with mathematical(self.model):
            if self._of_batch is None:
                self._of_batch, product = self._working(batch, flat)
                return product
            return self._of_batch(batch, flat)

    def _working(self, batch: Batch, flat: Tensor) -> tuple[_Product, Tensor]:
        """The first way that the network has derivatives for, and the product."""
        ways: tuple[_Product, ...] = (self._forward_over_reverse, self._reverse_twice)
        if len(self.batches) == 1 and isinstance(batch.x, NodeBatch | LinkBatch):
            # A graph is one batch however many products are asked for: its passes are recorded once.
            ways = (self._again, *ways)
        failure: Exception | None = None
        for way in ways:
            try:
                return way, way(batch, flat)
            except _NO_DERIVATIVE as error:
                if isinstance(error, torch.OutOfMemoryError):
                    raise
                failure = error
        assert failure is not None  # noqa: S101 - there are ways
        layer = layer_at_fault(self.model, failure)
        place = f"the layer {layer}" if layer else f"a layer of {type(self.model).__name__}"
        raise RequirementNotMet(
            f"the curvature needs second derivatives, which {place} does not have ({type(failure).__name__}: {failure}); "
            'use solver="woodfisher", which needs gradients only, or another method'
        ) from failure

    def _shaped(self, flat: Tensor) -> dict[str, Tensor]:
        pieces = torch.split(flat, [w.numel() for w in self.weights.values()])
        return {name: piece.reshape(w.shape) for (name, w), piece in zip(self.weights.items(), pieces, strict=True)}

    def _logits(self, batch: Batch) -> Callable[[Any], Tensor]:
        return lambda weights: logits_of(functional_call(self.model, weights, (batch.x,)))

    def _loss_by_weights(self, batch: Batch) -> Callable[[Any], Tensor]:
        return lambda weights: self._loss(batch, self._logits(batch)(weights))

    def _loss(self, batch: Batch, logits: Tensor) -> Tensor:
        return self.criterion.over_samples(logits, batch.y)

    def _forward_over_reverse(self, batch: Batch, flat: Tensor) -> Tensor:
        direction = self._shaped(flat)
        if isinstance(batch.x, NodeBatch | LinkBatch):
            self._look_at(batch)
        if self.kind == "hessian":
            of_weights = grad(self._loss_by_weights(batch))
            return self._flat(jvp(of_weights, (self.weights,), (direction,))[1])
        logits, pull_back = vjp(self._logits(batch), self.weights)[:2]
        moved = jvp(self._logits(batch), (self.weights,), (direction,))[1]
        of_logits = grad(functools.partial(self._loss, batch))
        weighted = jvp(of_logits, (logits,), (moved,))[1]
        return self._flat(pull_back(weighted)[0])

    def _reverse_twice(self, batch: Batch, flat: Tensor) -> Tensor:
        with _without_fused_layers():
            return self._recorded(batch)(flat, keep=False)

    def _again(self, batch: Batch, flat: Tensor) -> Tensor:
        with _without_fused_layers():
            recorded = self._written_out(batch) or self._recorded(batch)
            product = recorded(flat, keep=True)
        self._kept = recorded
        return product

    def _look_at(self, batch: Batch) -> None:
        """Have the graph make what it keeps of its first passes: within a transform its tensors would die with it."""
        graph = batch.x.nodes if isinstance(batch.x, LinkBatch) else batch.x
        if any(graph.view is view for view in self._seen):
            return
        with torch.enable_grad():
            logits = logits_of(self.model(batch.x))
            require_gradients(self.model, logits)
            torch.autograd.grad(logits.sum(), [p for p in self.model.parameters() if p.requires_grad], allow_unused=True)
        self._seen.append(graph.view)

    def _recorded(self, batch: Batch) -> _Recorded:
        # On the model's own parameters: a checkpoint that computes again while going back knows no others.
        weights = [p for name, p in self.model.named_parameters() if name in self.weights]
        with torch.enable_grad():
            logits = logits_of(self.model(batch.x))
            require_gradients(self.model, logits)
            if self.kind == "hessian":
                return _RecordedHessian(self._loss(batch, logits), weights)
            return _RecordedGaussNewton(logits, weights, functools.partial(self._loss, batch))

    @functools.cached_property
    def _network(self) -> LinearisedNetwork | None:
        """The network's first order, where it is written out."""
        if len(self.batches) != 1 or not isinstance(self.model, Linearisable):
            return None
        with torch.no_grad():
            return self.model.linearised(self.batches[0].x)

    def _written_out(self, batch: Batch) -> _WrittenOutGaussNewton | None:
        if self.kind == "hessian" or self._network is None:
            return None
        return _WrittenOutGaussNewton(
            self._network, self._shaped, curvature_of_loss(self._network.logits, batch.y, self.criterion)
        )

    def _flat(self, tensors: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([tensors[name].flatten() for name in self.weights])


class _RecordedHessian:
    """A loss and its gradient, for as many products as are asked for."""

    def __init__(self, loss: Tensor, weights: Sequence[Tensor]) -> None:
        self.weights = weights
        self.first = _gradient(loss, weights, create_graph=True)

    def __call__(self, flat: Tensor, *, keep: bool) -> Tensor:
        return _gradient(self.first, self.weights, flat, keep=keep)


class _RecordedGaussNewton:
    """Logits, the gradient of their product with a probe, and that of the loss by them, for as many products as are asked for."""

    def __init__(self, logits: Tensor, weights: Sequence[Tensor], loss: Callable[[Tensor], Tensor]) -> None:
        self.logits, self.weights = logits, weights
        # J v is the derivative of u' J v by u, for any u; of 0 it could not be told whether a function keeps the graph.
        self.probe = torch.ones_like(logits, requires_grad=True)
        self.pulled = _gradient(logits, weights, self.probe, create_graph=True)
        self.of_logits = logits.detach().requires_grad_(True)
        self.slope = _gradient(loss(self.of_logits), [self.of_logits], create_graph=True).reshape(logits.shape)

    def __call__(self, flat: Tensor, *, keep: bool) -> Tensor:
        # The graph of the logits is needed once more below.
        (moved,) = torch.autograd.grad(self.pulled, self.probe, flat, retain_graph=True)
        (weighted,) = torch.autograd.grad(self.slope, self.of_logits, moved, retain_graph=keep)
        return _gradient(self.logits, self.weights, weighted, keep=keep)


class _WrittenOutGaussNewton:
    """The same of a network that knows its own first order."""

    def __init__(
        self, network: LinearisedNetwork, shaped: Callable[[Tensor], Mapping[str, Tensor]], of_loss: Callable[[Tensor], Tensor]
    ) -> None:
        self.network, self.shaped, self.of_loss = network, shaped, of_loss

    def __call__(self, flat: Tensor, *, keep: bool) -> Tensor:
        direction = self.shaped(flat)
        with torch.no_grad():
            found = self.network.back(self.of_loss(self.network.along(direction)))
        return torch.cat([found[name].flatten() for name in direction])


def moved_logits(model: nn.Module, x: Any, direction: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Logits, and how fast they move when the weights go along a direction: the product of their Jacobian with it.

    Forward mode where every layer has it, otherwise reverse mode twice.

    Args:
        model: In eval mode.
        x: Inputs as the model takes them.
        direction: Trainable parameter's name to a tensor of its shape.

    Returns:
        Two tensors of the logits' shape, without gradients.
    """
    weights = {name: p.detach() for name, p in model.named_parameters() if name in direction}
    with mathematical(model):
        try:
            along = ({name: direction[name] for name in weights},)
            found = jvp(lambda at: logits_of(functional_call(model, at, (x,))), (weights,), along)
            return found[0].detach(), found[1].detach()
        except _NO_DERIVATIVE as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
        with torch.enable_grad(), _without_fused_layers():
            named = [(name, p) for name, p in model.named_parameters() if name in direction]
            own = [p for _, p in named]
            logits = logits_of(model(x))
            require_gradients(model, logits)
            probe = torch.ones_like(logits, requires_grad=True)
            pulled = _gradient(logits, own, probe, create_graph=True)
            (moved,) = torch.autograd.grad(pulled, probe, torch.cat([direction[name].flatten() for name, _ in named]))
        return logits.detach(), moved.detach()


def _gradient(
    value: Tensor, weights: Sequence[Tensor], seed: Tensor | None = None, *, create_graph: bool = False, keep: bool = False
) -> Tensor:
    """Gradient of ``value``, flat, 0 where it does not depend on a weight; with ``keep`` it can be computed again."""
    if create_graph:
        found = differentiable_gradients(value, weights, seed)
    else:
        found = torch.autograd.grad(value, weights, seed, retain_graph=keep or None, allow_unused=True, materialize_grads=True)
    return torch.cat([g.flatten() for g in found])
