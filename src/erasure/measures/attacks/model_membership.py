"""Attacks on answers that need more than one pass: by a reference model, and by gradients."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from erasure.errors import RequirementNotMet
from erasure.functional.diverged import outputs_diverged
from erasure.functional.membership import auc, auc_interval
from erasure.functional.tokens import answer_losses, answer_tokens
from erasure.measures.contract import Evaluation, Measure, Reference, Value
from erasure.measures.requirements import require_defined
from erasure.training.forward import logits_of
from erasure.training.trial import inputs_kept
from erasure.types import Indication, Partition, PositiveFloat, Source, Task

__all__ = ["GradientMembership", "ReferenceMembership"]

_CODE = "locuslab/open-unlearning at d3d7cf9"
_TESTED = "plain formulas and scikit-learn (tests/unit/language/test_attacks_on_answers.py)"


@dataclass(frozen=True, kw_only=True)
class _Attack(Measure):
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    indicates: ClassVar[Indication | None] = "attack"
    chance_level: ClassVar[float | None] = 0.5
    defined_for: ClassVar[frozenset[Task]] = frozenset({"generation"})

    forget: Partition = "forget"
    test: Partition = "test"

    def scores(self, evaluation: Evaluation, partition: str) -> Tensor:
        """Of each sample, larger for members."""
        raise NotImplementedError

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The area, with its interval."""
        require_defined(self, evaluation)
        members, others = (self.scores(evaluation, name) for name in (self.forget, self.test))
        area = auc(members, others)
        low, high = auc_interval(members, others)
        return [Value(value=area, partition=self.forget, low=min(low, area), high=max(high, area))]


@dataclass(frozen=True, kw_only=True)
class ReferenceMembership(_Attack):
    r"""Area under the ROC curve of an attack that knows gold.

    Answers: is a forgotten answer still more probable than gold finds it, more so than answers that nobody was taught?

    .. math:: s = \overline{l}_{\mathrm{gold}} - \overline{l}

    An attacker has no gold: this is a bound on what attacks with a reference model may reach. Gold itself has 0.5, all its scores being 0.

    Args:
        forget: The forgotten samples.
        test: Samples that no model was trained on.
    """

    source: ClassVar[Source | None] = Source(
        paper="Carlini et al., USENIX Security 2021, arXiv:2012.07805", code=_CODE, tested=_TESTED
    )
    references: ClassVar[frozenset[Reference]] = frozenset({"gold"})

    def scores(self, evaluation: Evaluation, partition: str) -> Tensor:
        """Gold's loss less the model's."""
        mine, gold = evaluation.outputs(partition), evaluation.outputs(partition, "gold")
        return gold.tokens.losses - mine.tokens.losses


@dataclass(frozen=True, kw_only=True)
class GradientMembership(_Attack):
    r"""Area under the ROC curve of an attack by the size of gradients.

    Answers: would the model learn less from a forgotten answer than from one that nobody was taught?

    .. math:: s = -\frac1P \sum_p \lVert \nabla_{\theta_p} \overline{l} \rVert_q

    the mean over the tensors of weights of the norm of the gradient of an answer's mean loss.

    **Cost**: a backward pass for each sample of both partitions.

    Args:
        forget: The forgotten samples.
        test: Samples that no model was trained on.
        order: ``q``.
    """

    source: ClassVar[Source | None] = Source(
        paper="Dorna et al., 2025, arXiv:2506.12618 (GradNorm)",
        code=_CODE,
        tested=_TESTED,
        deviations=("With low-rank updates the gradients of all weights count, not those of the updates alone.",),
    )

    order: PositiveFloat = 2.0

    def scores(self, evaluation: Evaluation, partition: str) -> Tensor:
        """Mean norm of each answer's gradient, negative."""
        evaluation.outputs(partition)
        network = copy.deepcopy(evaluation.subject.load()).requires_grad_(True)
        parameters = list(network.parameters())
        found = []
        for ids in torch.split(evaluation.ids(partition).sort().values, 1):
            x: Tensor = evaluation.x.gather(ids)
            with torch.enable_grad(), inputs_kept(network):
                loss = answer_losses(logits_of(network(x)), answer_tokens(x)).sum()
                gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
            norms = [torch.linalg.vector_norm(each.double(), self.order) for each in gradients if each is not None]
            found.append(-torch.stack(norms).mean())
        scores = torch.stack(found).cpu()
        if outputs_diverged(scores):
            raise RequirementNotMet("gradients are not finite or run away: training or unlearning diverged")
        return scores
