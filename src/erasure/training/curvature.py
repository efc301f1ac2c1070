"""Products of the loss's curvature with a direction in weight space, for any network that has second derivatives."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

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
from erasure.training.graphs import NodeBatch
from erasure.training.trial import layer_at_fault, require_gradients

__all__ = ["Curvature", "CurvatureKind", "mathematical", "moved_logits"]

CurvatureKind = Literal["gauss-newton", "hessian"]
_Product = Callable[[Batch, dict[str, Tensor]], Tensor]
_NO_DERIVATIVE = (RuntimeError, NotImplementedError, TypeError)


@contextmanager
def mathematical(model: nn.Module) -> Iterator[None]:
    """Attention and weight norm by their formulas, and encoder layers without their fused path.

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
        with sdpa_kernel(SDPBackend.MATH):
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
        for view in {id(batch.x.view): batch for batch in batches if isinstance(batch.x, NodeBatch)}.values():
            # What a graph keeps of its first passes must not be made within a transform, whose tensors die with it.
            with torch.enable_grad():
                logits = logits_of(model(view.x))
                require_gradients(model, logits)
                torch.autograd.grad(logits.sum(), [p for p in model.parameters() if p.requires_grad], allow_unused=True)

    def __call__(self, flat: Tensor) -> Tensor:
        """The product with ``flat``, shape ``(P,)``."""
        direction = self._shaped(flat)
        total = self.damping * flat
        for batch in self.batches:
            total = total + self._product(batch, direction) * (len(batch.y) / self.n_samples)
        return total

    def _product(self, batch: Batch, direction: dict[str, Tensor]) -> Tensor:
        with mathematical(self.model):
            if self._of_batch is None:
                self._of_batch = self._working(batch, direction)
            return self._of_batch(batch, direction)

    def _working(self, batch: Batch, direction: dict[str, Tensor]) -> _Product:
        """The first way that the network has derivatives for."""
        ways: tuple[_Product, ...] = (self._forward_over_reverse, self._reverse_twice)
        failure: Exception | None = None
        for way in ways:
            try:
                way(batch, direction)
            except _NO_DERIVATIVE as error:
                if isinstance(error, torch.OutOfMemoryError):
                    raise
                failure = error
                continue
            return way
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

    def _forward_over_reverse(self, batch: Batch, direction: dict[str, Tensor]) -> Tensor:
        if self.kind == "hessian":
            of_weights = grad(self._loss_by_weights(batch))
            return self._flat(jvp(of_weights, (self.weights,), (direction,))[1])
        logits, pull_back = vjp(self._logits(batch), self.weights)[:2]
        moved = jvp(self._logits(batch), (self.weights,), (direction,))[1]
        of_logits = grad(functools.partial(self._loss, batch))
        weighted = jvp(of_logits, (logits,), (moved,))[1]
        return self._flat(pull_back(weighted)[0])

    def _reverse_twice(self, batch: Batch, direction: dict[str, Tensor]) -> Tensor:
        # On the model's own parameters: a checkpoint that computes again while going back knows no others.
        with torch.enable_grad(), _without_fused_layers():
            weights = {name: p for name, p in self.model.named_parameters() if name in self.weights}
            logits = logits_of(self.model(batch.x))
            require_gradients(self.model, logits)
            if self.kind == "hessian":
                first = _gradients(self._loss(batch, logits), weights, create_graph=True)
                along = torch.stack([(first[name] * direction[name]).sum() for name in weights]).sum()
                return self._flat(_gradients(along, weights))
            # J v is the derivative of u' J v by u, for any u.
            probe = torch.zeros_like(logits, requires_grad=True)
            pulled = _gradients(logits, weights, probe, create_graph=True)
            along = torch.stack([(pulled[name] * direction[name]).sum() for name in weights]).sum()
            (moved,) = torch.autograd.grad(along, probe, retain_graph=True)
            of_logits = logits.detach().requires_grad_(True)
            (slope,) = torch.autograd.grad(self._loss(batch, of_logits), of_logits, create_graph=True)
            (weighted,) = torch.autograd.grad(slope, of_logits, moved)
            return self._flat(_gradients(logits, weights, weighted))

    def _flat(self, tensors: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([tensors[name].flatten() for name in self.weights])


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
            own = {name: p for name, p in model.named_parameters() if name in direction}
            logits = logits_of(model(x))
            require_gradients(model, logits)
            probe = torch.zeros_like(logits, requires_grad=True)
            pulled = _gradients(logits, own, probe, create_graph=True)
            product = torch.stack([(pulled[name] * direction[name]).sum() for name in own]).sum()
            (moved,) = torch.autograd.grad(product, probe)
        return logits.detach(), moved.detach()


def _gradients(
    value: Tensor, weights: Mapping[str, Tensor], seed: Tensor | None = None, *, create_graph: bool = False
) -> dict[str, Tensor]:
    """Gradients of ``value``, 0 where it does not depend on a weight."""
    found = torch.autograd.grad(
        value, list(weights.values()), seed, create_graph=create_graph, retain_graph=create_graph or None, allow_unused=True
    )
    return {name: torch.zeros_like(w) if g is None else g for (name, w), g in zip(weights.items(), found, strict=True)}
