"""Churn, agreement, completeness, divergences and activation distance."""

import numpy as np
import pytest
import torch
from measure_toys import evaluation_of, predicting
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr
from sklearn.metrics import cohen_kappa_score

from erasure.errors import RequirementNotMet
from erasure.measures.activations import ActivationDistance
from erasure.measures.gold_distance import (
    Agreement,
    Churn,
    Completeness,
    Hellinger,
    JSDivergence,
    KLDivergence,
    TotalVariation,
)

_LABELS = torch.arange(30) % 3


def _logits(seed, n_classes=3):
    return 2 * torch.randn(30, n_classes, generator=torch.Generator().manual_seed(seed))


def _value(measure, mine, other, *, task="classification", labels=_LABELS, partition="forget"):
    references = {measure.reference: {partition: other}}
    [value] = measure.measure(evaluation_of({partition: labels}, {partition: mine}, task=task, **references))
    return value


_MINE, _GOLD = _logits(0), _logits(1)
_P, _Q = (z.double().softmax(1).numpy() for z in (_MINE, _GOLD))


def test_divergences_are_means_of_scipys_over_the_samples():
    expected = {
        JSDivergence: np.mean([jensenshannon(p, q) ** 2 for p, q in zip(_P, _Q, strict=True)]),
        KLDivergence: np.mean(rel_entr(_Q, _P).sum(1)),
        TotalVariation: np.mean(np.abs(_P - _Q).sum(1) / 2),
        Hellinger: np.mean(np.linalg.norm(np.sqrt(_P) - np.sqrt(_Q), axis=1) / np.sqrt(2)),
    }
    for measure, number in expected.items():
        assert _value(measure(), _MINE, _GOLD).value == pytest.approx(number)
        assert _value(measure(reference="original"), _MINE, _GOLD).value == pytest.approx(number)


def test_one_logit_means_what_two_mean():
    mine, gold, labels = _logits(2, 1), _logits(3, 1), _LABELS % 2
    pairs = [torch.cat([torch.zeros_like(z), z], dim=1) for z in (mine, gold)]
    for measure in (JSDivergence(), KLDivergence(), TotalVariation(), Hellinger(), ActivationDistance(), Completeness()):
        one = _value(measure, mine, gold, task="binary", labels=labels).value
        assert one == pytest.approx(_value(measure, *pairs, labels=labels).value, abs=1e-6)


def test_labels_of_a_multilabel_task_are_averaged():
    mine, gold = _logits(4), _logits(5)
    labels = (_logits(6) > 0).long()
    for measure in (JSDivergence(), KLDivergence(), TotalVariation(), Hellinger(), Completeness()):
        each = [
            _value(measure, mine[:, k : k + 1], gold[:, k : k + 1], task="binary", labels=labels[:, k]).value for k in range(3)
        ]
        assert _value(measure, mine, gold, task="multilabel", labels=labels).value == pytest.approx(np.mean(each))


def test_activation_distance_is_the_mean_norm_of_differing_probabilities():
    assert _value(ActivationDistance(), _MINE, _GOLD).value == pytest.approx(np.linalg.norm(_P - _Q, axis=1).mean())
    assert _value(ActivationDistance(norm="l1"), _MINE, _GOLD).value == pytest.approx(np.abs(_P - _Q).sum(1).mean())
    far = [predicting([c] * 30, 3) * 100 for c in (0, 1)]
    assert _value(ActivationDistance(), *far).value == pytest.approx(2**0.5)


def test_churn_and_agreement_count_equal_predictions():
    mine, gold = _P.argmax(1), _Q.argmax(1)
    agreement = np.mean(mine == gold)
    assert _value(Churn(partition="forget"), _MINE, _GOLD).value == pytest.approx(1 - agreement)
    assert _value(Agreement(partition="forget"), _MINE, _GOLD).value == pytest.approx(agreement)
    assert _value(Completeness(), _MINE, _GOLD).value == pytest.approx(agreement)
    kappa = _value(Agreement(partition="forget", chance_corrected=True), _MINE, _GOLD).value
    assert kappa == pytest.approx(cohen_kappa_score(mine, gold))


_IDEALS = {
    Churn(partition="forget"): 0.0,
    Agreement(partition="forget"): 1.0,
    Agreement(partition="forget", chance_corrected=True): 1.0,
    Completeness(): 1.0,
    JSDivergence(): 0.0,
    KLDivergence(): 0.0,
    TotalVariation(): 0.0,
    Hellinger(): 0.0,
    ActivationDistance(): 0.0,
}


@pytest.mark.parametrize("measure", _IDEALS, ids=lambda measure: measure.title)
def test_gold_itself_is_at_the_ideal_and_another_model_is_not(measure):
    ideal = _IDEALS[measure]
    assert _value(measure, _GOLD, _GOLD).value == pytest.approx(ideal, abs=1e-12) and measure.ideal == ideal
    value = _value(measure, _MINE, _GOLD)
    assert abs(value.value - ideal) > 0.01 and value.ideal is None
    assert value.higher_is_better is (ideal == 1.0)


@pytest.mark.parametrize("measure", _IDEALS, ids=lambda measure: measure.title)
def test_compared_with_the_original_what_gold_has_is_best(measure):
    measure = measure.replace(reference="original")
    assert measure.references == {"original"}
    value = _value(measure, _MINE, _GOLD)
    assert (value.ideal, value.higher_is_better, measure.higher_is_better) == ("gold", None, None)


def test_a_missing_reference_is_refused():
    for measure in _IDEALS:
        with pytest.raises(RequirementNotMet, match="gold"):
            measure.measure(evaluation_of({"forget": _LABELS}, {"forget": _MINE}))


def test_undefined_values_are_refused():
    same = predicting([1] * 30, 3)
    with pytest.raises(RequirementNotMet, match="same class"):
        _value(Agreement(partition="forget", chance_corrected=True), same, same)
    broken = _MINE.clone()
    broken[0] = float("nan")
    with pytest.raises(RequirementNotMet, match="not finite"):
        _value(KLDivergence(), broken, _GOLD)
    labels = torch.ones(30, 3, dtype=torch.int64)
    with pytest.raises(RequirementNotMet, match="kappa"):
        _value(Agreement(partition="forget", chance_corrected=True), _MINE, _GOLD, task="multilabel", labels=labels)
