"""What a frozen beginning of a network makes of each sample, computed once for all epochs of training the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from erasure.training.batches import TensorColumn
from erasure.training.forward import FeaturesAndHead
from erasure.training.predictor import global_generators
from erasure.training.trial import as_before, has_foreign_hooks
from erasure.training.twins import replaced, twins_of
from erasure.unlearners.contract import UnlearningContext

__all__ = ["behind_frozen"]

MAX_BYTES = 1 << 28
"""Of what is kept; where it would be more, the whole network runs in every epoch."""

_TRIED = 4


def behind_frozen(model: nn.Module, context: UnlearningContext, ids: Tensor) -> tuple[nn.Module, UnlearningContext] | None:
    """The part of a network behind its frozen beginning, and the task as that part sees it: its inputs are what the beginning gives.

    Both parts are the layers of ``model`` themselves, so that it is trained when the second part is.

    Args:
        model: Frozen weights take no gradients; modules that stay in eval mode are among ``context.frozen``.
        context: The task.
        ids: All samples that will be asked for.

    Returns:
        None where the network is no chain of layers, nothing at its beginning is frozen, what it gives is not the same in every epoch, as
        with dropout, or too much to be kept.
    """
    chain = _chain(model)
    may = context.precision == "fp32" and context.mask is None and isinstance(context.x, TensorColumn)
    if not may or not chain or len(ids) < _TRIED:
        return None
    n = next((n for n, layer in enumerate(chain) if any(p.requires_grad for p in layer.parameters())), len(chain))
    with as_before(model):
        model.train()
        for module in context.frozen:
            module.eval()
        while n and not _is_settled(chain[:n], context, ids):
            n -= 1
        if not any(True for layer in chain[:n] for _ in layer.parameters()):
            return None
        features = _features(chain[:n], context, ids)
    if features is None:
        return None
    told = context.on_epoch
    listener = None if told is None else lambda epoch, epochs, _: told(epoch, epochs, model)
    return _behind(model, chain[n:]), replace(context, x=TensorColumn(features), on_epoch=listener)


def _chain(model: nn.Module) -> list[nn.Module]:
    """Layers that run one after the other, without that which follows all of them."""
    trunk = model.trunk if type(model) is FeaturesAndHead else model
    if has_foreign_hooks(model) or has_foreign_hooks(trunk) or "forward" in vars(model) or "forward" in vars(trunk):
        return []
    return list(_layers(trunk)) if trunk is not model or type(trunk) is nn.Sequential else []


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    if type(module) is not nn.Sequential or has_foreign_hooks(module) or "forward" in vars(module):
        yield module
        return
    for layer in module:
        yield from _layers(layer)


def _behind(model: nn.Module, rest: Sequence[nn.Module]) -> nn.Module:
    return FeaturesAndHead(nn.Sequential(*rest), model.head) if type(model) is FeaturesAndHead else nn.Sequential(*rest)


@torch.no_grad()
def _given(layers: Sequence[nn.Module], inputs: Tensor) -> Tensor:
    for layer in layers:
        inputs = layer(inputs)
    return inputs


def _is_settled(layers: Sequence[nn.Module], context: UnlearningContext, ids: Tensor) -> bool:
    """Whether what layers give of a sample depends on the sample alone: not on chance, on earlier calls or on its batch."""
    generators = global_generators(context.device).values()
    before = [generator.get_state() for generator in generators]
    parts = (slice(0, _TRIED), slice(0, 2), slice(2, _TRIED), slice(0, _TRIED))
    whole, first, others, again = (_given(layers, context.x.gather(ids[part])) for part in parts)
    draws = any(not torch.equal(state, generator.get_state()) for state, generator in zip(before, generators, strict=True))
    if draws or not isinstance(whole, Tensor) or not torch.equal(whole, again):
        return False
    return torch.allclose(torch.cat([first, others]), whole, rtol=1e-4, atol=1e-5)


def _features(layers: Sequence[nn.Module], context: UnlearningContext, ids: Tensor) -> Tensor | None:
    """Shape ``(N, …)``, zeros where nobody will ask; None if that is too much."""
    features: Tensor | None = None
    with replaced({module: twin for layer in layers for module, twin in twins_of(layer).items()}):
        for chosen in torch.split(ids, context.batch_size):
            found = _given(layers, context.x.gather(chosen))
            if features is None:
                if len(context.x) * found[0].numel() * found.element_size() > MAX_BYTES:
                    return None
                features = found.new_zeros(len(context.x), *found.shape[1:])
            features[chosen] = found
    return features
