"""LiRA for whole persons: whether the few samples of one person, taken together, show that they were seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Interval
from torch import Tensor

from erasure.errors import RequirementNotMet
from erasure.functional.membership_scores import gaussian_fits, online_score
from erasure.intervals import clopper_pearson
from erasure.measures.attacks.shadow_game import ShadowGame, Sides, least_models
from erasure.measures.contract import Evaluation, ModelRole, Value
from erasure.measures.requested_models import ModelRequest
from erasure.measures.requirements import require_defined
from erasure.types import NonNegativeInt, Source

__all__ = ["PersonLiRA"]

_MANY = 64
"""With at least this many models, a sample's own variance is used, as by LiRA."""


@dataclass(frozen=True, kw_only=True)
class PersonLiRA(ShadowGame):
    r"""Likelihood-ratio attack on persons: can a forgotten person be distinguished from persons who were never seen?

    .. math:: \Lambda(P) = \sum_{x \in P} \log \frac{\mathcal N(\phi(x); \mu_\mathrm{in}, \sigma_\mathrm{in}^2)}
              {\mathcal N(\phi(x); \mu_\mathrm{out}, \sigma_\mathrm{out}^2)}

    Where a single sample tells too little, the five to ten of one person may tell enough: the sum of the ratios that :class:`LiRA`
    gives to them. A person is a value of z. Sums grow with the number of samples and the samples of a person are alike, so that no
    threshold is taken from the normal distributions: a person's false positive rate is the share of as large groups of samples, one
    from each other person of ``test``, that score as high. Of n such groups the smallest rate that can be shown is 1 / (n + 1), the
    ``resolution``; with fewer groups than ``fpr`` needs, or fewer shadow models than a fit needs, nobody can tell, and that is the answer.

    Rows: the AUC (how often a forgotten person outranks another; 0.5 is chance), the share of forgotten persons who are told at a false
    positive rate of at most ``fpr`` (``fpr`` is chance), the median false positive rate over forgotten persons, and the resolution.
    Intervals are exact and over persons; with one person they span nearly everything, and the false positive rate is what to read.
    Compare with gold's values.

    **Cost**: LiRA's shadow models, which it shares.

    Args:
        forget: The forgotten samples, all those of one person or several.
        test: Samples of other persons, never seen.
        retain: What every shadow model is trained on as well.
        n_shadows: Number of shadow models, even and at least 4.
        fpr: The false positive rate at which a person counts as told, in (0, 1).
        column: Column of z that names the person, from 0, where it has several.
    """

    source: ClassVar[Source | None] = Source(
        paper="Carlini, Chien, Nasr, Song, Terzis, Tramer, IEEE S&P 2022, arXiv:2112.03570 (ratios of single samples)",
        tested="shares of other persons counted by hand, on real shadow models (tests/unit/measures/test_person_lira.py)",
        deviations=(
            "The paper attacks single samples; the sum over a person is the likelihood ratio of independent samples, which those of a "
            "person are not, so false positive rates are counted on other persons.",
            "Shadow models see a random half of the samples, not of the persons.",
            "Deviations of LiRA: no augmentation, means for medians, shared variance below 64 shadow models, all of the retain set seen.",
        ),
    )
    attack: ClassVar[str] = "person LiRA"

    fpr: Annotated[float, Interval(gt=0, lt=1)] = 0.05
    column: NonNegativeInt = 0

    def requests(self, subject: ModelRole) -> Sequence[tuple[ModelRequest, tuple[str, ...]]]:
        """The shadow models, on both sides of the game."""
        return [(request, self.partitions()) for request in self.shadows]

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """AUC, share of persons told, median false positive rate, and resolution."""
        require_defined(self, evaluation)
        sides = self.sides(evaluation)
        forgotten, others = self._persons(evaluation, sides)
        nulls = {size: [each[:size] for each in others if len(each) >= size] for size in {len(each) for each in forgotten}}
        fewest, size = min((len(groups), size) for size, groups in nulls.items())
        if 1 / (fewest + 1) > self.fpr:
            raise RequirementNotMet(
                f'none can tell: "{self.test}" has {fewest} other persons with {size} samples or more, which show false positive rates '
                f"of {1 / (fewest + 1):.2g} at best, and {self.fpr:.2g} is asked for; hold out more persons, or raise fpr"
            )
        scores = self._scores(evaluation, sides)
        against = {size: torch.stack([scores[group].sum() for group in groups]) for size, groups in nulls.items()}
        own = [(scores[each].sum(), against[len(each)]) for each in forgotten]
        ranks = [float(((null < score).double() + (null == score).double() / 2).mean()) for score, null in own]
        rates = torch.tensor([(1 + int((null >= score).sum())) / (1 + len(null)) for score, null in own], dtype=torch.float64)
        return self._values(sum(ranks) / len(ranks), rates, fewest)

    def _values(self, area: float, rates: Tensor, n_others: int) -> list[Value]:
        told = int((rates <= self.fpr).sum())
        pairs = min(len(rates), n_others)  # as many independent comparisons as the smaller side allows
        low, high = clopper_pearson(math.floor(area * pairs), pairs)[0], clopper_pearson(math.ceil(area * pairs), pairs)[1]
        few, many = clopper_pearson(told, len(rates))
        at = f"{100 * self.fpr:.3g}%"
        return [
            Value(value=area, name=f"{self.title} AUC", partition=self.forget, low=low, high=high, chance_level=0.5),
            Value(
                value=told / len(rates),
                name=f"{self.title} TPR at {at} FPR",
                partition=self.forget,
                low=few,
                high=many,
                chance_level=self.fpr,
            ),
            Value(
                value=float(rates.quantile(0.5)),
                name=f"{self.title} FPR",
                partition=self.forget,
                chance_level=0.5,
                indicates="ignorance",
            ),
            Value(value=1 / (n_others + 1), name=f"{self.title} resolution", partition=self.forget, indicates=""),
        ]

    def _scores(self, evaluation: Evaluation, sides: Sides) -> Tensor:
        """Log likelihood ratio of each sample, ``(n,)``."""
        seen = sides.seen(evaluation, self.shadows)
        least_models("seen", seen)
        least_models("left out", ~seen)
        said = sides.shadow_margins(evaluation, self.shadows)
        inside, outside = (gaussian_fits(said, mask, pooled=len(said) < _MANY) for mask in (seen, ~seen))
        return online_score(sides.margins(), inside, outside)

    def _persons(self, evaluation: Evaluation, sides: Sides) -> tuple[list[Tensor], list[Tensor]]:
        """Positions of the samples of each forgotten person, and of each person of ``test`` who is none of them, by sample number."""
        z = evaluation.z
        if z is None:
            raise RequirementNotMet(
                "none can tell persons apart: the data has no groups (z); name a column of groups in the source"
            )
        columns = z.reshape(len(z), -1)
        if self.column >= columns.shape[1]:
            raise RequirementNotMet(f"there is no column {self.column} of groups; z has {columns.shape[1]}, counted from 0")
        order = sides.ids.argsort()
        who = columns[:, self.column].cpu()[sides.ids]
        is_member = torch.arange(len(who)) < len(sides.members)
        forgotten = torch.unique(who[is_member])
        others = torch.unique(who[~is_member])
        others = others[~torch.isin(others, forgotten)]
        members, outsiders = order[is_member[order]], order[~is_member[order]]
        return (
            [members[who[members] == person] for person in forgotten.tolist()],
            [outsiders[who[outsiders] == person] for person in others.tolist()],
        )
