"""Methods that teach another answer instead of the forgotten one, such as a refusal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from erasure.errors import RequirementNotMet
from erasure.functional.tokens import ALTERNATE, labelled, version_of, versions_missing
from erasure.training.batches import Batch, Column, TensorColumn
from erasure.training.predictor import ModelInput
from erasure.types import PartitionRole, PositiveFloat, Source
from erasure.unlearners.answers import AnswerUnlearner, Reference, Term, losses_for
from erasure.unlearners.contract import UnlearningContext
from erasure.unlearners.search import Range, SearchSpace

__all__ = ["IDK", "IdkDPO"]

_AT_A_TIME = 1024


@dataclass(frozen=True, kw_only=True)
class IDK(AnswerUnlearner):
    r"""Fine-tunes on the alternate answers of forgotten prompts, such as refusals, and on retained answers.

    .. math:: \min_\theta \; \gamma \, \overline{l}(y_{\text{alternate}} \mid x)_f + \alpha \, \overline{l}_r

    The data must have an alternate answer for each forgotten sample. Refusals spread: look at what becomes of retained answers.

    **Cost**: ``epochs`` passes over the forget set, each step with a retain batch.
    """

    source: ClassVar[Source | None] = Source(
        paper="Maini et al., COLM 2024, arXiv:2401.06121 (preference optimisation by refusals)",
        code="locuslab/tofu at bdc209e",
        tested="values and gradients by plain formulas in float64 (tests/unit/language/test_forgetting_answers.py)",
        deviations=(
            "Both terms are means of their own; the authors' code takes one mean over the tokens of both, which weighs long answers more.",
            "A sample keeps its refusal; the authors' code draws another each time.",
        ),
    )
    cost: ClassVar[str] = "epochs passes over the forget set, each step with a retain batch"
    search_space: ClassVar[SearchSpace] = {"epochs": Range(1, 10), "optimizer.lr": Range(1e-6, 1e-3, log=True)}

    def unsupported_reason(self, data: ModelInput) -> str | None:
        """There must be alternate answers."""
        return super().unsupported_reason(data) or versions_missing(data.x_shape, ALTERNATE)

    def refuse_inputs(self, x: Column) -> str | None:
        """Some sample must have one."""
        return super().refuse_inputs(x) or _without_alternates(x)

    def forget_term(self, model: nn.Module, context: UnlearningContext) -> Term:
        """The mean loss of the alternates' tokens."""
        _require_alternates(context)

        def term(batch: Batch, n_samples: int, n_tokens: Tensor) -> Tensor:
            x, y = version_of(batch.x, ALTERNATE)
            answers = losses_for(model, Batch(x, y, batch.ids), n_samples, n_tokens)
            return answers.over_tokens(answers.losses)

        return term

    def n_tokens(self, batch: Batch, role: PartitionRole) -> Tensor:
        """Of forgotten samples, those of their alternate answers."""
        return super().n_tokens(batch, role) if role != "forget" else labelled(version_of(batch.x, ALTERNATE)[1]).sum()


@dataclass(frozen=True, kw_only=True)
class IdkDPO(AnswerUnlearner):
    r"""Direct preference optimisation: the alternate answer wins against the forgotten one.

    .. math::
        -\frac{2}{\beta} \, \mathbb{E}_f \log\sigma\Bigl(\beta \log\frac{p_\theta(y_{\text{alternate}}|x)}{p_0(y_{\text{alternate}}|x)}
        - \beta \log\frac{p_\theta(y|x)}{p_0(y|x)}\Bigr)

    With the alternates made up by the model itself it is AltPO (arXiv:2409.13474).

    **Cost**: ``epochs`` passes over the forget set with both answers, each step with a retain batch; one pass of the original before.

    Args:
        beta: Inverse temperature.
    """

    version: ClassVar[int] = 2
    source: ClassVar[Source | None] = Source(
        paper="Rafailov et al., NeurIPS 2023, arXiv:2305.18290; Zhang, Lin, Bai, Mei, COLM 2024, arXiv:2404.05868 (as a baseline)",
        code="licong-lin/negative-preference-optimization at 1207bbe",
        tested="values and gradients by plain formulas in float64 (tests/unit/language/test_forgetting_answers.py)",
        deviations=("A sample keeps its alternate answer; the authors' code draws another refusal each time.",),
    )
    cost: ClassVar[str] = "epochs passes over the forget set with both answers, each step with a retain batch"
    search_space: ClassVar[SearchSpace] = {"beta": Range(0.01, 1.0, log=True), "optimizer.lr": Range(1e-6, 1e-3, log=True)}

    beta: PositiveFloat = 0.1

    def unsupported_reason(self, data: ModelInput) -> str | None:
        """There must be alternate answers."""
        return super().unsupported_reason(data) or versions_missing(data.x_shape, ALTERNATE)

    def refuse_inputs(self, x: Column) -> str | None:
        """Some sample must have one."""
        return super().refuse_inputs(x) or _without_alternates(x)

    def forget_term(self, model: nn.Module, context: UnlearningContext) -> Term:
        """Log-sigmoid of the scaled difference of log-ratios."""
        _require_alternates(context)
        reference = Reference(model, context)
        before, before_alternate = reference.sums("forget"), reference.sums("forget", ALTERNATE)

        def term(batch: Batch, n_samples: int, n_tokens: Tensor) -> Tensor:
            x, y = version_of(batch.x, ALTERNATE)
            winner = losses_for(model, Batch(x, y, batch.ids), n_samples, n_tokens)
            loser = losses_for(model, batch, n_samples, n_tokens)
            won = before_alternate[batch.ids] - winner.losses.sum(1)
            lost = before[batch.ids] - loser.losses.sum(1)
            return -loser.over_samples(F.logsigmoid(self.beta * (won - lost))) * 2 / self.beta

        return term


def _without_alternates(x: Column) -> str | None:
    """Why nothing can be taught instead, or None: other versions, such as wrong answers, leave room for alternates that are not there.

    Only of inputs in one tensor is this known beforehand; of others the method finds out by the samples that it reads.
    """
    if not isinstance(x, TensorColumn):
        return None
    if any(bool(labelled(version_of(some, ALTERNATE)[1]).any()) for some in torch.split(x.values, _AT_A_TIME)):
        return None
    return "the data has no alternate answers; name their column in the source"


def _require_alternates(context: UnlearningContext) -> None:
    for batch in context.batches("forget", shuffle=False):
        is_missing = ~labelled(version_of(batch.x, ALTERNATE)[1]).any(1)
        if bool(is_missing.any()):
            sample = int(batch.ids[is_missing][0])
            raise RequirementNotMet(
                f"the forgotten sample {sample} has no alternate answer; every forgotten one needs one in the column of these"
            )
