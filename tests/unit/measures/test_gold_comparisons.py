from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from measure_toys import accurate, evaluation_of

from erasure.component import canonical
from erasure.errors import DataError, InvalidParameters, RequirementNotMet
from erasure.functional.composites import average_gap, tug_of_war
from erasure.measures.attacks.lira import LiRA
from erasure.measures.attacks.umia import UMIA
from erasure.measures.aus import AUS
from erasure.measures.average_gap import AverageGap
from erasure.measures.sklearn_metric import SklearnMetric
from erasure.measures.tow import ToW

_LABELS = {name: torch.tensor([0, 1] * 20) for name in ("forget", "retain", "test")}
_COUNTS = st.integers(0, 40)


def _logits(forget, retain, test):
    return {
        name: accurate(_LABELS[name], n) for name, n in zip(("forget", "retain", "test"), (forget, retain, test), strict=True)
    }


def _value(measure, subject, gold):
    [value] = measure.measure(evaluation_of(_LABELS, _logits(*subject), gold=_logits(*gold)))
    return value.value


def test_average_gap_is_the_mean_distance_in_percentage_points():
    # Distances of 4, 2 and 0 samples of 40: 10, 5 and 0 points.
    assert _value(AverageGap(), (36, 38, 30), (32, 40, 30)) == pytest.approx(5.0)


def test_tug_of_war_is_the_product_of_closenesses():
    assert _value(ToW(), (36, 38, 30), (32, 40, 30)) == pytest.approx(0.9 * 0.95 * 1.0, rel=1e-12)  # not in single precision


@given(_COUNTS, _COUNTS, _COUNTS)
def test_gold_itself_has_no_gap_and_a_tug_of_war_of_one(forget, retain, test):
    counts = (forget, retain, test)
    assert (_value(AverageGap(), counts, counts), _value(ToW(), counts, counts)) == (0.0, 1.0)


@given(*[_COUNTS] * 6)
def test_both_scores_are_symmetric_and_in_range(a, b, c, d, e, f):
    gap, tow = _value(AverageGap(), (a, b, c), (d, e, f)), _value(ToW(), (a, b, c), (d, e, f))
    assert 0 <= gap <= 100 and -1e-9 <= tow <= 1
    assert gap == _value(AverageGap(), (d, e, f), (a, b, c))
    distances = np.abs(np.subtract((a, b, c), (d, e, f))) / 40
    assert gap == pytest.approx(100 * distances.mean(), abs=1e-4)
    assert tow == pytest.approx(np.prod(1 - distances), abs=1e-6)


def test_an_attack_joins_the_average_and_takes_the_place_of_forget_accuracy():
    counts, gold = (36, 38, 30), (32, 40, 30)
    evaluation = evaluation_of(_LABELS, _logits(*counts), gold=_logits(*gold))
    attacked = [UMIA().measure(evaluation_of(_LABELS, _logits(*c)))[0].value for c in (counts, gold)]
    gap = abs(attacked[0] - attacked[1])
    assert AverageGap(membership=UMIA()).measure(evaluation)[0].value == pytest.approx(100 * (0.1 + 0.05 + gap) / 4, abs=1e-4)
    assert ToW(membership=UMIA()).measure(evaluation)[0].value == pytest.approx((1 - gap) * 0.95, abs=1e-6)


def test_an_attack_adds_its_own_partitions():
    attack = UMIA(forget="forget", test="validation")
    assert AverageGap(membership=attack).partitions() == ("forget", "retain", "test", "validation")
    assert ToW(membership=UMIA(forget="other")).partitions() == ("retain", "test", "other")


def test_only_an_attack_in_the_unit_interval_without_other_models_is_taken():
    with pytest.raises(InvalidParameters, match="AUS is not"):
        AverageGap(membership=AUS())
    with pytest.raises(InvalidParameters, match="accuracy is not"):
        ToW(membership=SklearnMetric())
    with pytest.raises(InvalidParameters, match="LiRA is not"):
        ToW(membership=LiRA())


@dataclass(frozen=True, kw_only=True)
class Refusing(UMIA):
    def unsupported_reason(self, data):
        return "not for this"


def test_what_the_attack_refuses_is_refused():
    data = evaluation_of({"forget": torch.zeros(2, 3)}, {"forget": torch.zeros(2, 3)}, task="multilabel").model_input
    assert AverageGap(membership=Refusing()).unsupported_reason(data) is not None
    assert AverageGap().unsupported_reason(data) is None


def test_titles_tell_the_two_forms_apart():
    assert (ToW().title, ToW(membership=UMIA()).title) == ("ToW", "ToW-MIA")
    assert canonical(ToW()) != canonical(ToW(membership=UMIA()))


def test_gold_must_be_there():
    for measure in (AverageGap(), ToW()):
        with pytest.raises(RequirementNotMet, match="gold"):
            measure.measure(evaluation_of(_LABELS, _logits(1, 1, 1)))


def test_lists_of_different_lengths_and_empty_ones_are_refused():
    for score in (average_gap, tug_of_war):
        with pytest.raises(DataError):
            score([1.0], [1.0, 0.5])
        with pytest.raises(DataError):
            score([], [])
