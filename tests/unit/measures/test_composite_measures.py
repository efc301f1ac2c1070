from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from measure_toys import accurate, evaluation_of
from sklearn.metrics import f1_score

from erasure.component import canonical
from erasure.errors import InvalidParameters, RequirementNotMet
from erasure.functional.composites import corrected_global_unlearning_metric, global_unlearning_metric
from erasure.measures.attacks.lira import LiRA
from erasure.measures.attacks.umia import UMIA
from erasure.measures.aus import AUS
from erasure.measures.composites import CGUM, GUM, Indiscernibility, NoMUS
from erasure.measures.contract import Measure, Value
from erasure.training.predictor import ModelInput
from erasure.types import Partition

_LABELS = {name: torch.tensor([0, 1] * 20) for name in ("forget", "test")}


@dataclass(frozen=True, kw_only=True)
class ForgetAccuracy(Measure):
    """An attack that believes whatever is predicted correctly to be a member."""

    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    forget: Partition = "forget"

    def measure(self, evaluation):
        return [Value(value=evaluation.outputs(self.forget).accuracy)]


def _logits(forget, test):
    return {name: accurate(_LABELS[name], n) for name, n in (("forget", forget), ("test", test))}


def _evaluation(mine, gold=(24, 32), original=(36, 30), **times):
    return evaluation_of(_LABELS, _logits(*mine), gold=_logits(*gold), original=_logits(*original), **times)


def _value(measure, evaluation):
    [value] = measure.measure(evaluation)
    return value.value


_ATTACK = ForgetAccuracy()


def test_indiscernibility_and_nomus_follow_their_formulas():
    evaluation = _evaluation((28, 34))
    assert _value(Indiscernibility(membership=_ATTACK), evaluation) == pytest.approx(1 - 2 * 0.2)
    assert _value(NoMUS(membership=_ATTACK), evaluation) == pytest.approx(0.5 * 0.85 + 0.5 * 0.6)
    assert _value(NoMUS(membership=_ATTACK, utility_weight=0.8), evaluation) == pytest.approx(0.8 * 0.85 + 0.2 * 0.6)


def test_the_default_attack_is_choi_and_nas():
    evaluation = _evaluation((28, 34))
    attacked = UMIA(protocol="choi-na").measure(evaluation)[0].value
    assert NoMUS().membership == UMIA(protocol="choi-na")
    assert _value(Indiscernibility(), evaluation) == pytest.approx(1 - 2 * abs(attacked - 0.5))
    assert _value(NoMUS(), evaluation) == pytest.approx(0.5 * 0.85 + 0.5 * (1 - 2 * abs(attacked - 0.5)))


def _factors(mine, gold, original, t_u, t_g):
    f1 = [f1_score(_LABELS["test"], accurate(_LABELS["test"], n).argmax(1), average="macro") for _, n in (mine, gold)]
    return {
        "utility": f1[0],
        "gold_utility": f1[1],
        "membership": mine[0] / 40,
        "gold_membership": gold[0] / 40,
        "original_membership": original[0] / 40,
        "elapsed_s": t_u,
        "gold_elapsed_s": t_g,
    }


@pytest.mark.parametrize("mine", [(24, 32), (28, 34), (20, 20), (40, 25), (36, 30)])
def test_both_global_metrics_get_f1_attacks_and_times_of_the_right_models(mine):
    gold, original = (24, 32), (36, 30)
    evaluation = _evaluation(mine, gold, original, elapsed_s=3.0, gold_elapsed_s=60.0)
    factors = _factors(mine, gold, original, 3.0, 60.0)
    assert _value(GUM(membership=_ATTACK), evaluation) == pytest.approx(global_unlearning_metric(**factors))
    expected = corrected_global_unlearning_metric(**factors, n_classes=2, alpha=2.0, beta=0.5)
    assert _value(CGUM(membership=_ATTACK, alpha=2.0, beta=0.5), evaluation) == pytest.approx(expected)


def test_gold_and_the_original_score_nothing():
    for measure in (GUM(membership=_ATTACK), CGUM(membership=_ATTACK)):
        gold = _evaluation((24, 32), elapsed_s=60.0, gold_elapsed_s=60.0)
        original = _evaluation((36, 30), elapsed_s=0.1, gold_elapsed_s=60.0)
        assert (_value(measure, gold), _value(measure, original)) == pytest.approx((0.0, 0.0), abs=1e-5)
        assert measure.ideal is None and measure.applies_to == {"unlearned"}


def test_f1_of_a_multilabel_task_is_scikit_learns():
    labels = {"test": torch.tensor([[1, 0], [1, 1], [0, 1]]), "forget": torch.tensor([[1, 0]])}
    mine = {"test": torch.tensor([[1.0, 1.0], [-1.0, 1.0], [-1.0, 1.0]]), "forget": torch.tensor([[1.0, 1.0]])}
    right = {name: 2.0 * y - 1 for name, y in labels.items()}
    evaluation = evaluation_of(labels, mine, original=right, gold=mine, task="multilabel", elapsed_s=1.0, gold_elapsed_s=9.0)
    f1 = f1_score(labels["test"], mine["test"] > 0, average="macro")
    factors = {"membership": 0.5, "gold_membership": 0.5, "original_membership": 1.0, "elapsed_s": 1.0, "gold_elapsed_s": 9.0}
    expected = global_unlearning_metric(utility=f1, gold_utility=f1, **factors)
    assert _value(GUM(membership=_ATTACK), evaluation) == pytest.approx(expected)


def test_an_attack_without_power_and_a_time_of_zero_are_refused():
    for measure in (GUM(membership=_ATTACK), CGUM(membership=_ATTACK)):
        with pytest.raises(RequirementNotMet, match="stronger attack"):
            _value(measure, _evaluation((28, 34), original=(24, 40)))
        with pytest.raises(RequirementNotMet, match="zero"):
            _value(measure, _evaluation((28, 34), gold_elapsed_s=0.0))
    with pytest.raises(RequirementNotMet, match="stronger attack"):
        _value(GUM(membership=_ATTACK), _evaluation((28, 34), original=(20, 40)))


def test_only_an_attack_in_the_unit_interval_without_other_models_is_taken():
    for score in (Indiscernibility, NoMUS, GUM, CGUM):
        with pytest.raises(InvalidParameters, match="AUS is not"):
            score(membership=AUS())
        with pytest.raises(InvalidParameters, match="LiRA is not"):
            score(membership=LiRA())


@dataclass(frozen=True, kw_only=True)
class Refusing(UMIA):
    def unsupported_reason(self, data):
        return "not for this"


def test_partitions_and_refusals_are_those_of_the_attack_too():
    assert NoMUS(membership=UMIA(test="validation")).partitions() == ("test", "forget", "validation")
    data = ModelInput((3,), 4, "multilabel")
    for score in (Indiscernibility, NoMUS, GUM, CGUM):
        assert score(membership=Refusing()).unsupported_reason(data) is not None and score().unsupported_reason(data) is None
    assert canonical(NoMUS()) != canonical(NoMUS(membership=UMIA()))
