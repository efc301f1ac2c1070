from dataclasses import replace

import numpy as np
import pytest
import torch
from population_toys import Answers, Population, PopulationBench, run_rows

from erasure.errors import InvalidParameters, RequirementNotMet
from erasure.functional.margins import epsilons, forgetting_scores
from erasure.measures.attacks.forgetting_quality import ForgettingQuality
from erasure.measures.requested_models import FIRST_FITTED, Repeated, Retrained
from erasure.testing import MeasureConformance
from erasure.testing.evaluations import bench

N = 16
MEASURE = ForgettingQuality(n_models=N, relabellings=49)


@pytest.fixture(scope="module")
def population():
    return Population()


def _margins(population, requests, way):
    rows = []
    for request in requests:
        said = population.says(population.model(request, way), "forget")
        p = said.logits.double().softmax(1)[torch.arange(len(said)), said.labels]
        rows.append(torch.logit(p))
    return torch.stack(rows)


def _accuracy(population, requests, way, partition):
    said = [population.says(population.model(request, way), partition) for request in requests]
    return np.mean([(each.logits.argmax(1) == each.labels).double().mean() for each in said])


@pytest.mark.parametrize("thresholds", ["both", "single"])
def test_values_follow_the_definition_on_trained_models(population, thresholds):
    measure = ForgettingQuality(n_models=N, relabellings=49, thresholds=thresholds)
    values = population.values(measure)
    mine, golds = [Repeated(number=k) for k in range(1, N + 1)], [Retrained(number=FIRST_FITTED + k) for k in range(N)]
    found = epsilons(_margins(population, mine, "repaired"), _margins(population, golds, "gold"), families=thresholds)
    quality = float(forgetting_scores(found, N).mean())
    ratio = 1.0
    for partition in ("retain", "test"):
        ratio *= _accuracy(population, mine, "repaired", partition) / _accuracy(population, golds, "gold", partition)
    assert values[measure.title, "forget"] == pytest.approx(quality)
    assert values[f"{measure.title} score", "forget"] == pytest.approx(quality * ratio)
    assert values[f"{measure.title} mean epsilon", "forget"] == pytest.approx(float(found.mean()), rel=1e-5)


def test_originals_are_told_from_golds_and_golds_are_not(population):
    found = {way: population.values(MEASURE, way) for way in ("gold", "original", "identity")}
    epsilon = {way: values["ForgettingQuality mean epsilon", "forget"] for way, values in found.items()}
    quality = {way: values["ForgettingQuality", "forget"] for way, values in found.items()}
    assert epsilon["original"] > epsilon["gold"] + 1
    assert quality["gold"] > quality["original"] + 0.05
    # Equal models have no spread: every sample stands out.
    assert epsilon["identity"] == 50.0
    assert quality["identity"] == 0.0


def test_all_runs_of_the_method_start_from_the_same_original(population):
    asked = MEASURE.requests("unlearned")
    assert {request for request, _ in asked if isinstance(request, Repeated)} == {Repeated(number=k) for k in range(1, N + 1)}
    assert {request for request, _ in asked if isinstance(request, Retrained)} == {
        Retrained(number=FIRST_FITTED + k) for k in range(N)
    }
    population.asked.clear()
    population.values(MEASURE)
    assert population.asked == {(request, name) for request, names in asked for name in names}


def test_neither_the_order_of_a_partition_nor_the_batch_size_matters(population):
    other = Population(order=1, batch_size=7, models=population.models)
    assert population.values(MEASURE) == pytest.approx(other.values(MEASURE), rel=1e-5)


def test_binary_tasks_are_measured():
    values = Population(task="binary").values(ForgettingQuality(n_models=3), "original")
    assert 0 <= values["ForgettingQuality", "forget"] <= 1


def test_two_models_are_refused():
    with pytest.raises(InvalidParameters, match="at least 3"):
        ForgettingQuality(n_models=2)


def test_a_gold_that_is_never_right_is_refused():
    population = Population()
    population.values(ForgettingQuality(n_models=3), "original")
    population.y[population.partitions["test"]] = 2
    with torch.no_grad():
        for k in range(3):
            last = list(population.models[Retrained(number=FIRST_FITTED + k), ""].parameters())[-1]
            last += torch.tensor([1e4, 0.0, 0.0])
    with pytest.raises(RequirementNotMet, match='accuracy of gold on "test", which is 0'):
        population.values(ForgettingQuality(n_models=3), "original")


# Not a number, and a weight with which logits are finite on one processor and infinite on another.
@pytest.mark.parametrize("weight", [float("nan"), 1e20])
def test_models_that_diverged_are_refused(weight):
    population = Population()
    population.values(ForgettingQuality(n_models=3), "original")
    with torch.no_grad():
        next(iter(population.models[Retrained(number=FIRST_FITTED + 1), ""].parameters())).fill_(weight)
    with pytest.raises(
        RequirementNotMet, match=r'ForgettingQuality is not defined: .* says of "forget" is not finite or runs away'
    ):
        population.values(ForgettingQuality(n_models=3), "original")


def test_a_gold_that_is_finite_on_the_forget_set_alone_is_refused(population, monkeypatch):
    said = Answers.outputs

    def outputs(self, request, partition):
        found = said(self, request, partition)
        broken = partition == "retain" and request == Retrained(number=FIRST_FITTED + 1)
        return replace(found, logits=torch.full_like(found.logits, float("nan"))) if broken else found

    monkeypatch.setattr(Answers, "outputs", outputs)
    with pytest.raises(RequirementNotMet, match='says of "retain" is not finite'):
        population.values(ForgettingQuality(n_models=3), "original")


def test_an_empty_partition_is_refused(population):
    other = Population(models=population.models)
    other.partitions = {**other.partitions, "retain": torch.zeros(0, dtype=torch.int64)}
    with pytest.raises(RequirementNotMet, match='looks at "retain", which is empty'):
        other.values(ForgettingQuality(n_models=3))


def test_in_a_run_a_method_that_does_nothing_is_found_out(tmp_path):
    measure = {"class": "erasure.measures.attacks.forgetting_quality.ForgettingQuality", "parameters": {"n_models": 8}}
    rows = run_rows([measure], ["Identity"], tmp_path)
    assert rows["GoldModel", "ForgettingQuality", "forget"] == rows["gold", "ForgettingQuality", "forget"] > 0
    assert rows["Identity", "ForgettingQuality", "forget"] == 0
    assert rows["Identity", "ForgettingQuality mean epsilon", "forget"] == 50
    assert rows["original", "ForgettingQuality mean epsilon", "forget"] > rows["gold", "ForgettingQuality mean epsilon", "forget"]


class TestForgettingQualityConformance(MeasureConformance):
    def make(self):
        return ForgettingQuality(n_models=12, relabellings=49)

    def bench(self, task="classification", seed=0):
        return PopulationBench.of(bench(task, seed=seed))


@pytest.mark.nightly  # another setting of the measure above
class TestForgettingQualityBySingleThresholdsConformance(TestForgettingQualityConformance):
    def make(self):
        return ForgettingQuality(n_models=20, thresholds="single", relabellings=49)
