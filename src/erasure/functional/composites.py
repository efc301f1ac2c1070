"""Scores that combine a few numbers of a model, its original and gold."""

from __future__ import annotations

import math
from collections.abc import Sequence

from erasure.errors import DataError

__all__ = ["adaptive_unlearning_score", "average_gap", "tug_of_war"]


def adaptive_unlearning_score(
    test_accuracy: float, original_test_accuracy: float, forget_accuracy: float, *, whole_classes: bool
) -> float:
    r"""Adaptive Unlearning Score (AUS).

    Answers: is forgotten data treated as it should be, without loss of accuracy elsewhere?

    .. math:: \frac{1 - (A_t^o - A_t)}{1 + \Delta}, \qquad
        \Delta = \begin{cases} A_f & \text{whole classes were forgotten} \\ |A_f - A_t| & \text{otherwise} \end{cases}

    Args:
        test_accuracy: ``A_t``, in [0, 1]; of the remaining classes where whole classes were forgotten.
        original_test_accuracy: ``A_t^o``, the same of the original model.
        forget_accuracy: ``A_f``, in [0, 1].
        whole_classes: Which form.

    Returns:
        In [0, 2]; higher is better; above 1 only if test accuracy improved.

    Source:
        Cotogni et al., 2023, arXiv:2312.02052.

    Example:
        >>> adaptive_unlearning_score(0.9, 0.9, 0.9, whole_classes=False)
        1.0
        >>> adaptive_unlearning_score(0.9, 0.9, 0.9, whole_classes=True) < 0.53
        True
    """
    delta = forget_accuracy if whole_classes else abs(forget_accuracy - test_accuracy)
    return (1 - (original_test_accuracy - test_accuracy)) / (1 + delta)


def average_gap(values: Sequence[float], gold: Sequence[float]) -> float:
    """Mean absolute difference, in the unit of the values; 0 is best.

    Raises:
        DataError: If there is nothing to compare, or the lengths differ.

    Example:
        >>> average_gap([1.0, 0.5], [0.75, 0.75])
        0.25
    """
    differences = _differences(values, gold)
    return math.fsum(differences) / len(differences)


def tug_of_war(values: Sequence[float], gold: Sequence[float]) -> float:
    r"""Tug of war (ToW), :math:`\prod_S (1 - |a_S - a_S^{\text{gold}}|)`.

    Args:
        values: Accuracies of the unlearned model, each in [0, 1].
        gold: The same of gold.

    Returns:
        In [0, 1]; 1 is best, and 0 if one of them is as far off as can be.

    Raises:
        DataError: If there is nothing to compare, or the lengths differ.

    Source:
        Zhao, Kurmanji, Barbulescu, Triantafillou, Triantafillou, NeurIPS 2024, arXiv:2406.01257.

    Example:
        >>> tug_of_war([1.0, 0.5], [0.5, 0.5])
        0.5
    """
    return math.prod(1 - difference for difference in _differences(values, gold))


def _differences(values: Sequence[float], gold: Sequence[float]) -> list[float]:
    if len(values) != len(gold) or not len(values):
        raise DataError(f"a model and gold are compared value by value; found {len(values)} and {len(gold)} values")
    return [abs(value - other) for value, other in zip(values, gold, strict=True)]
