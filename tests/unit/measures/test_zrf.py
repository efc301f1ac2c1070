import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from network_toys import bench_of, network
from scipy import stats
from scipy.spatial.distance import jensenshannon

from erasure.errors import RequirementNotMet
from erasure.measures.zrf import ZRF, LegacyZRF

_BENCH = bench_of({"mine": network(0), "other": network(1)})


def _measured(measure, model="mine", fresh=network, seed=0):
    [value] = measure.measure(replace(replace(_BENCH, seed=seed).evaluation(measure, model), fresh=fresh))
    return value


def _teachers(measure, seed=0):
    streams = replace(_BENCH, seed=seed).evaluation(measure, "mine").streams
    return [network(streams.child("teacher", k).seed) for k in range(measure.n_teachers)]


def _softmax(model):
    return model(_BENCH.x[_BENCH.partitions["forget"]]).detach().double().softmax(1)


def _authors_js(p, q):
    """vikram2000b/bad-teaching-unlearning, JSDiv, as it is published."""
    m = (p + q) / 2
    return 0.5 * F.kl_div(torch.log(p), m) + 0.5 * F.kl_div(torch.log(q), m)


def test_the_score_is_one_less_scipys_divergence_averaged_over_teachers():
    measure = ZRF(n_teachers=4)
    p = _softmax(network(0)).numpy()
    each = [
        1 - np.mean([jensenshannon(a, b) ** 2 for a, b in zip(p, _softmax(teacher).numpy(), strict=True)])
        for teacher in _teachers(measure)
    ]
    value = _measured(measure)
    assert value.value == pytest.approx(np.mean(each), abs=1e-6)
    interval = np.clip(stats.t.interval(0.95, 3, np.mean(each), stats.sem(each)), 1 - math.log(2), 1)
    assert (value.low, value.high) == pytest.approx(tuple(interval), abs=1e-5)


@pytest.mark.filterwarnings("ignore:reduction. 'mean'")
def test_the_legacy_score_is_the_authors_code():
    for seed in range(3):
        [teacher] = _teachers(LegacyZRF(), seed)
        expected = 1 - float(_authors_js(_softmax(network(0)), _softmax(teacher)))
        assert _measured(LegacyZRF(), seed=seed).value == pytest.approx(expected, abs=1e-6)


def test_the_legacy_score_hides_a_difference_that_the_right_one_shows():
    def sure(class_number):
        model = network(0)
        with torch.no_grad():
            model[3].weight.zero_()
            model[3].bias.copy_(20.0 * F.one_hot(torch.tensor(class_number), 3))
        return model

    given = replace(_BENCH, models={"mine": sure(0)})
    [right] = ZRF(n_teachers=1).measure(replace(given.evaluation(ZRF(), "mine"), fresh=lambda seed: sure(1)))
    assert right.value == pytest.approx(1 - math.log(2), abs=1e-6)
    # One teacher like the model and one as far as can be: the interval of two is wider than the range, and ends with it.
    teachers = iter((sure(0), sure(1)))
    [both] = ZRF(n_teachers=2).measure(replace(given.evaluation(ZRF(), "mine"), fresh=lambda seed: next(teachers)))
    assert (both.low, both.high) == (1 - math.log(2), 1.0)


def test_a_model_that_is_the_teacher_scores_one():
    assert _measured(ZRF(), fresh=lambda seed: network(0)).value == pytest.approx(1.0)
    assert _measured(LegacyZRF(), fresh=lambda seed: network(0)).value == pytest.approx(1.0)


def test_all_models_meet_the_same_teachers_and_another_seed_others():
    seen = []

    def noting(seed):
        seen.append(seed)
        return network(seed)

    for model, seed in (("mine", 0), ("other", 0), ("mine", 1)):
        _measured(ZRF(n_teachers=3), model, noting, seed)
    assert seen[:3] == seen[3:6] and len(set(seen)) == 6


def test_one_teacher_has_no_interval():
    value = _measured(ZRF(n_teachers=1))
    assert (value.low, value.high) == (None, None)


def test_without_a_way_to_build_networks_the_score_is_refused():
    for measure in (ZRF(), LegacyZRF()):
        with pytest.raises(RequirementNotMet, match="cannot build one"):
            _measured(measure, fresh=None)


def test_outputs_that_are_not_finite_are_refused():
    broken = network(0)
    with torch.no_grad():
        broken[3].bias.fill_(float("nan"))
    given = replace(_BENCH, models={"mine": broken})
    with pytest.raises(RequirementNotMet, match="not finite"):
        ZRF().measure(replace(given.evaluation(ZRF(), "mine"), fresh=network))


def test_what_a_random_network_says_is_asked_once_for_all_models_and_by_each_partition():
    built, kept = [], {}
    given = _BENCH.evaluation(ZRF(), "mine")
    evaluation = replace(given, fresh=lambda seed: built.append(seed) or network(seed), kept=kept)
    [first] = ZRF().measure(evaluation)
    [again] = ZRF().measure(evaluation)
    assert vars(first) == vars(again) and len(built) == len(set(built)) == 5
    assert {partition for _, _, partition in kept} == {"forget"}
    ZRF(partition="test").measure(evaluation)
    assert len(built) == 10
