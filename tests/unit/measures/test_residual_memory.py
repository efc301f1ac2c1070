"""Memory left: 0 for retrained models, 1 for originals, and in between for what is planted."""

import numpy as np
import pytest
import torch
from population_toys import SIZES, Population, run_rows

from erasure.errors import DataError, InvalidParameters
from erasure.functional.residual_memory import memory_left
from erasure.measures.requested_models import FIRST_FITTED, Original, Retrained
from erasure.measures.residual_memory import ResidualMemory


def drawn(n_models=8, n=200, seed=0, shift=3.0):
    """Margins of golds and originals, and which samples are forgotten; samples differ in difficulty, spread and how well they are kept."""
    generator = np.random.default_rng(seed)
    level, spread = generator.normal(2, 2, n), generator.uniform(0.3, 2, n)
    forgotten = np.arange(n) < n // 2
    kept = np.where(forgotten, generator.gamma(2, shift / 2, n), 0)

    def models(number, share=0.0, more=0.0, scale=1.0):
        return scale * (level + generator.normal(size=(number, n)) * spread) + share * kept + more

    return models, torch.from_numpy(forgotten), models(n_models), models(n_models, 1.0)


def measured(margins, golds, originals, forgotten):
    return memory_left(*(torch.from_numpy(each) for each in (margins, golds, originals)), forgotten)


def test_what_is_planted_is_found():
    models, forgotten, golds, originals = drawn()
    found = {
        share: np.mean([measured(each, golds, originals, forgotten).share for each in models(40, share)])
        for share in (0.0, 0.1, 0.5, 1.0)
    }
    assert found[0.0] == pytest.approx(0, abs=0.05)
    assert found[1.0] == pytest.approx(1, abs=0.05)
    # In the logarithm of confidence, the first half of what can be known is more than half of it.
    assert found[0.1] == pytest.approx(0.15, abs=0.06)
    assert found[0.5] == pytest.approx(0.6, abs=0.1)


def test_confidence_that_has_grown_everywhere_is_no_memory():
    models, forgotten, golds, originals = drawn()
    grown = [measured(each, golds, originals, forgotten).share for each in models(20, 0.0, more=1.5, scale=1.4)]
    assert abs(np.mean(grown)) < 0.1


def test_golds_of_their_own_spread_as_the_rulers_say():
    models, forgotten, golds, originals = drawn(n_models=12)
    found = [measured(each, golds, originals, forgotten) for each in models(200)]
    assert np.std([each.share for each in found]) == pytest.approx(found[0].spread, rel=0.6)
    assert found[0].contrast > 5


@pytest.mark.parametrize(("factor", "more"), [(2.0, 0.0), (0.6, 0.0), (1.4, 1.5), (1.0, -1.5)])
def test_margins_that_are_all_multiplied_or_shifted_are_no_memory(factor, more):
    models, forgotten, golds, originals = drawn()
    plain = models(60)
    changed = [measured(factor * each + more, golds, originals, forgotten).share for each in plain]
    expected = [measured(each, golds, originals, forgotten).share for each in plain]
    assert np.mean(changed) == pytest.approx(np.mean(expected), abs=0.06)


def test_is_least_squares_of_numpy():
    models, forgotten, golds, originals = drawn(n_models=4, n=30)
    model = models(1)[0]

    def raw(margins, golds, originals):
        centre = np.arcsinh(golds / 2).mean(0)
        known = np.where(forgotten.numpy(), np.arcsinh(originals / 2).mean(0) - centre, 0)
        slope = 1 / np.sqrt(golds**2 + 4)
        table = np.stack([known, np.ones(30), centre, slope.mean(0), (slope * golds).mean(0)], axis=1)
        return np.linalg.lstsq(table, np.arcsinh(margins / 2) - centre, rcond=None)[0][0]

    none = np.mean([raw(golds[k], np.delete(golds, k, 0), originals) for k in range(4)])
    every = np.mean([raw(originals[k], golds, np.delete(originals, k, 0)) for k in range(4)])
    expected = (raw(model, golds, originals) - none) / (every - none)
    assert measured(model, golds, originals, forgotten).share == pytest.approx(expected)


def test_order_of_samples_does_not_matter():
    models, forgotten, golds, originals = drawn()
    model = models(1, 0.3)[0]
    expected = measured(model, golds, originals, forgotten).share
    order = np.random.default_rng(0).permutation(len(model))
    shuffled = measured(model[order], golds[:, order], originals[:, order], forgotten[torch.from_numpy(order)])
    assert shuffled.share == pytest.approx(expected)


def test_golds_that_agree_on_every_sample_are_no_obstacle():
    _, forgotten, golds, _ = drawn()
    same = np.zeros_like(golds)
    found = measured(np.where(forgotten, 1.0, 0.0), same, np.where(forgotten, 2.0, 0.0) + same, forgotten)
    assert found.share == pytest.approx(np.arcsinh(0.5) / np.arcsinh(1))


def test_bad_rulers_are_refused():
    models, forgotten, golds, originals = drawn()
    model = models(1)[0]
    with pytest.raises(DataError, match="3 golds and originals"):
        measured(model, golds[:2], originals, forgotten)
    with pytest.raises(DataError, match="same samples"):
        measured(model[:-1], golds, originals, forgotten)
    with pytest.raises(DataError, match="finite"):
        measured(np.full_like(model, np.nan), golds, originals, forgotten)
    with pytest.raises(DataError, match="nothing that could be left"):
        measured(model, golds, golds.copy(), forgotten)
    with pytest.raises(InvalidParameters, match="at least 3"):
        ResidualMemory(n_models=2)


def test_rulers_are_never_judged_and_are_the_same_for_all():
    measure = ResidualMemory(n_models=3)
    asked = {kind: [request for request, _ in measure.requests(kind)] for kind in ("original", "gold", "unlearned")}
    assert asked["original"] == asked["gold"] == asked["unlearned"]
    assert {type(request) for request in asked["gold"]} == {Retrained, Original}
    assert min(request.number for request in asked["gold"]) == FIRST_FITTED == 1001


@pytest.mark.parametrize("task", ["classification", "binary"])
def test_trained_models_know_what_they_were_trained_on(task):
    population = Population(task=task)
    measure = ResidualMemory(n_models=4)
    left = {way: population.values(measure, way)["memory left", "forget"] for way in ("original", "gold", "identity", "repaired")}
    assert left["identity"] == left["original"] == pytest.approx(1, abs=0.35)
    assert left["gold"] == pytest.approx(0, abs=0.35)
    assert left["gold"] < left["repaired"] <= left["original"] + 0.3
    assert {partition for _, partition in population.asked} == set(SIZES) - {"retain"}


def test_a_run_measures_memory(tmp_path):
    rows = run_rows([{"class": "ResidualMemory", "parameters": {"n_models": 3}}], ["Identity"], tmp_path)
    left = {who: value for (who, measure, _), value in rows.items() if measure == "memory left"}
    assert left["Identity"] == left["original"]
    assert left["GoldModel"] == left["gold"]
    assert left["original"] > left["gold"] + 0.3
