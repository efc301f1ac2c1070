"""What an unlearning has done to a model: whether anything changed, and how often it is right before and after."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from erasure.catalogue import shown_name
from erasure.functional.losses import correctness
from erasure.functional.weights import changed_share
from erasure.training.batches import TensorColumn
from erasure.training.forward import logits_of
from erasure.training.randomness import isolated
from erasure.types import Task
from erasure.unlearners.contract import Unlearner

__all__ = ["Outcome", "accuracies", "coarse", "compared", "ruined", "shared_samples"]

_RUIN = 0.10
"""Loss of accuracy on samples to keep that nobody should overlook."""
_TO_KEEP = ("retain", "train", "test")
_AT_ONCE = 1024
_GENTLE = ("selection_weighting", "alpha", "epochs", "optimizer", "k")
"""Parameters that decide how much a method changes, the most telling first."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What an unlearning has done.

    Args:
        method: The method.
        changed: Share of the weights that changed, in [0, 1].
        before: Accuracy of the given model on each part that was given.
        after: The same of the model that came back.
        sizes: Samples of each part.
        elapsed_s: Seconds of the method itself, one-off work included.
        remarks: What should not be overlooked, one sentence each; also given as warnings.

    Example:
        >>> print(Outcome(method="SSD", changed=0.25, before={"forget": 1.0}, after={"forget": 0.5}, sizes={"forget": 8}))
        SSD changed 25 % of the weights in 0.0 s
        accuracy on forget (8 samples): 100.0 % before, 50.0 % after
    """

    method: str
    changed: float
    before: Mapping[str, float] = field(default_factory=dict)
    after: Mapping[str, float] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    elapsed_s: float = 0.0
    remarks: tuple[str, ...] = ()

    def __str__(self) -> str:
        share = f"{100 * self.changed:.3g}" if self.changed else "0"
        lines = [f"{self.method} changed {share} % of the weights in {self.elapsed_s:.1f} s"]
        lines += [
            f"accuracy on {name} ({self.sizes[name]:,} samples): {100 * self.before[name]:.1f} % before, "
            f"{100 * self.after[name]:.1f} % after"
            for name in self.before
        ]
        return "\n".join([*lines, *self.remarks])


@torch.no_grad()
def accuracies(
    model: nn.Module, x: TensorColumn, y: Tensor, parts: Mapping[str, Tensor], task: Task, batch_size: int
) -> dict[str, float]:
    """Share of right answers in eval mode on each part that has samples; of several labels the share of right labels.

    Args:
        model: Any network that returns logits; its mode is as before afterwards.
        x: Inputs.
        y: Labels.
        parts: Ids of the samples of each part.
        task: How labels are read.
        batch_size: Samples at a time.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    found = {}
    try:
        with isolated(0, y.device):  # a network may draw in eval mode too, and torch's global generators are the caller's
            for name, ids in parts.items():
                if not len(ids):
                    continue
                right = torch.zeros((), dtype=torch.float64, device=y.device)
                for some in torch.split(ids, batch_size):
                    logits = logits_of(model(x.gather(some)))
                    right += correctness(task, logits, y.index_select(0, some)).double().sum()
                found[name] = float(right) / len(ids)
    finally:
        for module, training in modes.items():
            module.training = training
    return found


def compared(unlearner: Unlearner, before: nn.Module, after: nn.Module) -> tuple[float, str]:
    """Share of the weights that changed, and what to do if none did although the method should have changed some; else empty."""
    changed = changed_share(before.state_dict(), after.state_dict())
    name = shown_name("unlearner", type(unlearner))
    if changed or unlearner.changes_nothing():
        return changed, ""
    if not any(p.requires_grad for p in before.parameters()):
        return (
            changed,
            f"{name} changed nothing: no weight of the model is trainable. Set requires_grad on those that may change.",
        )
    tried = [field for field in _GENTLE if hasattr(unlearner, field)][:1]
    hint = (
        f"Try another {tried[0]} (now {_shown(getattr(unlearner, tried[0]))}) or another method"
        if tried
        else "Try another method"
    )
    if tried == ["selection_weighting"]:
        now = unlearner.selection_weighting  # type: ignore[attr-defined]
        hint = f"Try {'a number for' if isinstance(now, str) else 'a smaller'} selection_weighting (now {_shown(now)}) or another method"
    return (
        changed,
        f"{name} changed no weight: the model that comes back is the one that was given, and nothing has been forgotten. {hint}.",
    )


def coarse(unlearner: Unlearner, model: nn.Module, changed: float) -> str:
    """What it means that a method which trains changed only some of the weights, kept in few bits; else empty."""
    kept = next((p.dtype for p in model.parameters() if p.requires_grad and p.dtype in {torch.float16, torch.bfloat16}), None)
    if kept is None or not hasattr(unlearner, "optimizer") or not 0 < changed < 1:
        return ""
    return (
        f"the weights are {str(kept).removeprefix('torch.')}, where a step that is small beside a weight is lost: {100 * changed:.2g} % of "
        'them changed. Give model.float(); precision="bf16" still computes in bfloat16.'
    )


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def ruined(before: Mapping[str, float], after: Mapping[str, float]) -> Iterator[str]:
    """What has become much worse although it was to be kept."""
    for name in _TO_KEEP:
        if name in before and before[name] - after[name] > _RUIN:
            yield (
                f"accuracy on {name} fell from {100 * before[name]:.1f} % to {100 * after[name]:.1f} %: the model may be useless. "
                "Use gentler settings (fewer epochs, a smaller learning rate), another method, or retrain."
            )


def shared_samples(x: TensorColumn, y: Tensor, forget: Tensor, retain: Tensor) -> int:
    """How many of the samples to forget are also among those to keep, with equal values and an equal label."""
    kept = set(_digests(x, y, retain)) if len(forget) else set()
    return sum(each in kept for each in _digests(x, y, forget))


def _digests(x: TensorColumn, y: Tensor, ids: Tensor) -> Iterator[bytes]:
    """What tells each sample from those that are not equal to it."""
    for some in torch.split(ids, _AT_ONCE):
        parts = [part.reshape(len(some), -1).cpu().contiguous() for part in (x.rows(some), y.index_select(0, some))]
        for row in zip(*(part.view(torch.uint8).numpy() for part in parts), strict=True):
            yield hashlib.blake2b(b"".join(part.tobytes() for part in row), digest_size=16).digest()
