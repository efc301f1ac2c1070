"""Scores that combine a few numbers of a model, its original and gold."""

from __future__ import annotations

import math
from collections.abc import Sequence

from erasure.errors import DataError

__all__ = [
    "adaptive_unlearning_score",
    "average_gap",
    "corrected_global_unlearning_metric",
    "global_unlearning_metric",
    "indiscernibility",
    "no_mus",
    "tug_of_war",
]

_SMALL = 1e-6
"""The published code's guard against division by zero."""


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


def indiscernibility(membership: float) -> float:
    r"""Closeness of an attack's accuracy to chance, :math:`1 - 2 |m - \tfrac12|`.

    Args:
        membership: Accuracy of a membership attack on equally many members and others, in [0, 1].

    Returns:
        In [0, 1]; 1 at chance.

    Source:
        Cadet et al., 2024, arXiv:2410.01276.

    Example:
        >>> indiscernibility(0.75)
        0.5
    """
    return 1 - 2 * abs(membership - 0.5)


def no_mus(test_accuracy: float, membership: float, *, utility_weight: float = 0.5) -> float:
    r"""Normalised machine unlearning score (NoMUS), :math:`\lambda A_t + (1 - \lambda)(1 - 2 |m - \tfrac12|)`.

    Args:
        test_accuracy: In [0, 1].
        membership: Accuracy of a membership attack, in [0, 1].
        utility_weight: Weight of the accuracy, in [0, 1].

    Returns:
        In [0, 1]; higher is better.

    Source:
        Choi & Na, 2023, arXiv:2311.02240.

    Example:
        >>> no_mus(0.9, 0.5)
        0.95
    """
    return utility_weight * test_accuracy + (1 - utility_weight) * indiscernibility(membership)


def global_unlearning_metric(
    *,
    utility: float,
    gold_utility: float,
    membership: float,
    gold_membership: float,
    original_membership: float,
    elapsed_s: float,
    gold_elapsed_s: float,
    alpha: float = 1.0,
    beta: float = 1.0,
) -> float:
    r"""Global unlearning metric (GUM): the weighted harmonic mean of utility, efficacy and efficiency.

    .. math:: \frac{(1 + \alpha + \beta)\, U E T}{\alpha E T + \beta U T + U E + 10^{-6}}

    with, for attack accuracies :math:`m` of the model, gold and the original,

    .. math:: U &= 1 - |F_u - F_g|, \qquad
        E = 1 - \Bigl(\frac{\tilde m_u - \tilde m_g}{\max(m_o, \tilde m_u) - \tilde m_g}\Bigr)^2, \qquad
        T = 1 - \frac{\ln(t_u + 1)}{\ln(t_g + 1)}, \\
        \tilde m_u &= \min(m_u, m_o), \qquad \tilde m_g = \min((\tilde m_u + m_o) / 2,\; m_g)

    Args:
        utility: F1 score of the model, in [0, 1].
        gold_utility: Of gold.
        membership: Accuracy of a membership attack on the model, in [0, 1].
        gold_membership: On gold.
        original_membership: On the original.
        elapsed_s: Seconds that the method took, at least 0.
        gold_elapsed_s: Seconds that gold took, above 0.
        alpha: Weight of utility, above 0.
        beta: Weight of efficacy, above 0.

    Returns:
        In [0, 1]; higher is better. A method as slow as gold has 0 (the published code gives a slower one a negative T, of which no
        harmonic mean exists), and so has one as easily attacked as the original.

    Raises:
        DataError: If the attack does no better on the original than on gold: efficacy is then 0, or 0 / 0, for every model.

    Source:
        Koudounas, Savelli, Giobergia, Baralis, Interspeech 2025, arXiv:2505.15700 (formula of the authors' notebook).

    Example:
        >>> scores = {"utility": 0.9, "gold_utility": 0.9, "membership": 0.5, "gold_membership": 0.5, "original_membership": 0.7}
        >>> round(global_unlearning_metric(**scores, elapsed_s=0.0, gold_elapsed_s=100.0), 4)
        1.0
        >>> global_unlearning_metric(**scores, elapsed_s=100.0, gold_elapsed_s=100.0)
        0.0
    """
    if original_membership <= gold_membership:
        raise DataError(
            f"the attack does no better on the original ({original_membership:.3f}) than on gold ({gold_membership:.3f}), "
            "so no model can forget; take a stronger attack"
        )
    m = min(membership, original_membership)
    m_gold = min((m + original_membership) / 2, gold_membership)
    # Between 0 and 1 by construction, up to rounding.
    efficacy = _within(1 - ((m - m_gold) / (max(original_membership, m) - m_gold)) ** 2)
    return _harmonic(
        1 - abs(utility - gold_utility),
        efficacy,
        _within(1 - math.log1p(elapsed_s) / math.log1p(gold_elapsed_s)),
        alpha=alpha,
        beta=beta,
    )


def corrected_global_unlearning_metric(
    *,
    utility: float,
    gold_utility: float,
    membership: float,
    gold_membership: float,
    original_membership: float,
    elapsed_s: float,
    gold_elapsed_s: float,
    n_classes: int,
    alpha: float = 1.0,
    beta: float = 1.0,
) -> float:
    r"""Corrected global unlearning metric (CGUM): the harmonic mean of :func:`global_unlearning_metric` with other factors.

    .. math:: U = \Bigl[\frac{F_u - 1/K}{F_g - 1/K + \epsilon}\Bigr]_0^1, \qquad
        E = \Bigl[1 - \frac{|\tilde m_u - m_g|}{|m_o - m_g| + \epsilon}\Bigr]_0^1, \qquad
        T = \Bigl[1 - \frac{\ln(t_u + 1)}{\ln(t_g + 1) + \epsilon}\Bigr]_0^1

    Brackets cut to [0, 1], :math:`\epsilon = 10^{-6}`, and :math:`\tilde m_u` is :math:`m_u`, but never further from gold than the
    original on the original's side.

    Args:
        utility: F1 score of the model, in [0, 1].
        gold_utility: Of gold.
        membership: Accuracy of a membership attack on the model, in [0, 1].
        gold_membership: On gold.
        original_membership: On the original.
        elapsed_s: Seconds that the method took, at least 0.
        gold_elapsed_s: Seconds that gold took, at least 0.
        n_classes: ``K``; 1 / K is the utility of guessing.
        alpha: Weight of utility, above 0.
        beta: Weight of efficacy, above 0.

    Returns:
        In [0, 1]; higher is better.

    Source:
        koudounasalkis/UnSLU-BENCH at cf1ad18 (``CGUM.ipynb``), whose own example is this one.

    Example:
        >>> corrected_global_unlearning_metric(
        ...     utility=0.82,
        ...     gold_utility=0.90,
        ...     membership=0.54,
        ...     gold_membership=0.60,
        ...     original_membership=0.62,
        ...     elapsed_s=120.0,
        ...     gold_elapsed_s=150.0,
        ...     n_classes=10,
        ... )
        0.0
    """
    guessing = 1 / n_classes
    saturated = (min if original_membership >= gold_membership else max)(membership, original_membership)
    return _harmonic(
        _within((utility - guessing) / (gold_utility - guessing + _SMALL)),
        _within(1 - abs(saturated - gold_membership) / (abs(original_membership - gold_membership) + _SMALL)),
        _within(1 - math.log1p(elapsed_s) / (math.log1p(gold_elapsed_s) + _SMALL)),
        alpha=alpha,
        beta=beta,
    )


def _harmonic(utility: float, efficacy: float, efficiency: float, *, alpha: float, beta: float) -> float:
    product = (1 + alpha + beta) * utility * efficacy * efficiency
    return product / (alpha * efficacy * efficiency + beta * utility * efficiency + utility * efficacy + _SMALL)


def _within(share: float) -> float:
    return max(0.0, min(1.0, share))


def _differences(values: Sequence[float], gold: Sequence[float]) -> list[float]:
    if len(values) != len(gold) or not len(values):
        raise DataError(f"a model and gold are compared value by value; found {len(values)} and {len(gold)} values")
    return [abs(value - other) for value, other in zip(values, gold, strict=True)]
