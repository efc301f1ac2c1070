"""SCRUB+R: SCRUB, rewound to the epoch that forgets neither too little nor too much."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import ClassVar

import torch
from torch import Tensor, nn

from erasure.errors import RequirementNotMet
from erasure.functional.losses import correctness
from erasure.training.anatomy import load_state
from erasure.training.batches import Batches
from erasure.training.forward import logits_of
from erasure.types import Partition, PartitionRole, Source, Task
from erasure.unlearners.contract import UnlearningContext
from erasure.unlearners.scrub import Scrub

__all__ = ["ScrubRewind"]


@dataclass(frozen=True, kw_only=True)
class ScrubRewind(Scrub):
    r"""SCRUB, then back to the epoch whose forget error is that of unseen samples of the same classes.

    .. math::
        e^\star = \arg\min_{0 \le e \le E} \; \bigl|\mathrm{err}(\theta_e; D_f) - \mathrm{err}(\theta_E; D_v^{c(D_f)})\bigr|

    Checkpoint 0 is the original and checkpoint ``e`` the student after epoch ``e``; :math:`D_v^{c(D_f)}` are the validation samples of the
    classes that the forget set has, judged by the final student. Among equally close checkpoints the earliest is taken. A forget
    error far above the reference would mark the samples as forgotten, which is what a membership attack looks for.

    **Cost**: SCRUB, ``epochs + 1`` forward passes over the forget set, one over the validation samples, ``epochs + 1`` weight copies.

    Args:
        validation: Partition that nobody trained on.
    """

    source: ClassVar[Source | None] = Source(
        paper="Kurmanji, Triantafillou, Hayes, Triantafillou, NeurIPS 2023, arXiv:2302.09880",
        code="meghdadk/SCRUB at 98ffb11",
        tested="the choice among checkpoints of SCRUB (tests/unit/unlearners/test_scrub_rewind.py)",
        deviations=("Checkpoint 0, the original, can be chosen; the reference code counts it but saves no file for it.",),
    )
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"retain", "forget", "validation"})
    defined_for: ClassVar[frozenset[Task]] = frozenset({"classification", "binary"})
    cost: ClassVar[str] = "SCRUB, epochs + 1 forward passes over the forget set, epochs + 1 copies of the weights"

    validation: Partition = "validation"

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Scrub with a checkpoint after each epoch, then rewind."""
        forget = context.batches("forget", shuffle=False)
        unseen = context.batches("validation", shuffle=False, ids=self._matched_validation(context))
        checkpoints: list[tuple[Fraction, dict[str, Tensor]]] = []

        def keep(epoch: int, epochs: int, model: nn.Module) -> None:
            checkpoints.append((_error(model, forget, context.task), _weights(model)))
            if epoch and context.on_epoch is not None:
                context.on_epoch(epoch, epochs, model)

        keep(0, self.epochs, model)
        model = super().unlearn(model, replace(context, on_epoch=keep))
        reference = _error(model, unseen, context.task)
        _, weights = min(checkpoints, key=lambda checkpoint: abs(checkpoint[0] - reference))
        load_state(model, weights)
        return model

    def _matched_validation(self, context: UnlearningContext) -> Tensor:
        """Validation samples of the classes that the forget set has."""
        if context.n_samples("forget") == 0:
            raise RequirementNotMet("SCRUB+R is not defined for an empty forget set: it has no forget error to compare")
        ids = context.ids("validation")
        matched = ids[torch.isin(context.y[ids], torch.unique(context.y[context.ids("forget")]))]
        if len(matched) == 0:
            raise RequirementNotMet(
                f'ScrubRewind is not defined here: the partition "{self.validation}" has no sample of the classes to forget, hence no '
                "error of unseen samples to rewind to; use SCRUB, or a validation partition with these classes"
            )
        return matched


@torch.no_grad()
def _error(model: nn.Module, batches: Batches, kind: Task) -> Fraction:
    """Share of wrong predictions, in eval mode; exact, so that equally close checkpoints tie."""
    model.eval()
    right = torch.zeros((), device=batches.ids.device)
    for batch in batches:
        right += correctness(kind, logits_of(model(batch.x)), batch.y).sum()
    return 1 - Fraction(int(right), batches.n_samples)


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
