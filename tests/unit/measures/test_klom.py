import numpy as np
import pytest
import torch
from population_toys import SIZES, Population, PopulationBench, run_rows
from scipy.special import logsumexp
from scipy.stats import entropy

from erasure.errors import InvalidParameters, RequirementNotMet
from erasure.measures.attacks.klom import KLoM
from erasure.measures.requested_models import FIRST_FITTED, Repeated, Retrained
from erasure.testing import MeasureConformance
from erasure.testing.evaluations import bench

N = 12


@pytest.fixture(scope="module")
def population():
    return Population()


def _margins(population, requests, partition, way):
    rows = []
    for request in requests:
        said = population.says(population.model(request, way), partition)
        z, y = said.logits.double().numpy(), said.labels.numpy()
        rows.append([row[label] - logsumexp(np.delete(row, label)) for row, label in zip(z, y, strict=True)])
    return np.array(rows)


def _expected(population, way, partition, origins):
    mine = _margins(population, [Repeated(number=k, origin=k * origins) for k in range(1, N + 1)], partition, way)
    golds = _margins(population, [Retrained(number=FIRST_FITTED + k) for k in range(N)], partition, way)
    found = []
    for a, b in zip(mine.T, golds.T, strict=True):
        edges = (min(a.min(), b.min()), max(a.max(), b.max()))
        p, q = (np.histogram(each, bins=20, range=edges)[0] / N for each in (a, b))
        found.append(entropy(p, np.where(p > 0, np.maximum(q, 1e-5), q)))
    return np.array(found)


@pytest.mark.parametrize(("choice", "origins"), [("many", 1), ("one", 0)])
def test_values_are_those_of_numpy_and_scipy_on_trained_models(population, choice, origins):
    measure = KLoM(n_models=N, origins=choice)
    values = population.values(measure)
    for partition in SIZES:
        expected = _expected(population, "repaired", partition, origins)
        assert values[f"{measure.title} mean", partition] == pytest.approx(expected.mean())
        assert values[f"{measure.title} 95th percentile", partition] == pytest.approx(np.percentile(expected, 95))
        assert values[f"{measure.title} 99th percentile", partition] == pytest.approx(np.percentile(expected, 99))
    assert len(values) == 10


def test_a_method_that_forgets_nothing_is_farther_from_gold_than_gold(population):
    measure = KLoM(n_models=N)
    mean = {way: population.values(measure, way)["KLoM mean", "forget"] for way in ("gold", "identity", "original")}
    assert mean["identity"] > mean["gold"] + 0.5
    assert mean["original"] > mean["gold"] + 0.5


def test_gold_against_gold_is_the_null_value_of_independent_populations(population):
    # Golds are drawn twice from one distribution: the measure cannot tell which side is which.
    values = population.values(KLoM(n_models=N), "gold")
    null = [values["KLoM mean", partition] for partition in SIZES]
    assert min(null) > 0.5
    assert max(null) - min(null) < 2


@pytest.mark.parametrize(
    ("subject", "origins", "expected"),
    [
        ("unlearned", "many", [1, 2, 3]),
        ("unlearned", "one", [0, 0, 0]),
        ("gold", "many", [0, 0, 0]),
        ("original", "many", [0, 0, 0]),
    ],
)
def test_a_plan_sees_the_models_it_needs(subject, origins, expected):
    asked = KLoM(n_models=3, origins=origins).requests(subject)
    assert [r.origin for r, _ in asked if isinstance(r, Repeated)] == expected
    assert [r.number for r, _ in asked if isinstance(r, Retrained)] == [1001, 1002, 1003]
    assert {partitions for _, partitions in asked} == {("forget", "retain", "test")}


def test_everything_that_is_declared_is_used(population):
    population.asked.clear()
    measure = KLoM(n_models=4)
    population.values(measure)
    assert population.asked == {(request, name) for request, names in measure.requests("unlearned") for name in names}


def test_neither_the_order_of_a_partition_nor_the_batch_size_matters(population):
    measure = KLoM(n_models=4, max_samples=10)
    other = Population(order=1, batch_size=7, models=population.models)
    assert population.values(measure) == pytest.approx(other.values(measure), abs=1e-9)


def test_a_cap_looks_at_a_random_part_by_the_seed(population):
    capped = [population.values(KLoM(n_models=4, max_samples=5), seed=seed)["KLoM mean", "retain"] for seed in (0, 0, 1, 2)]
    assert capped[0] == capped[1]
    assert len(set(capped)) > 1
    whole = population.values(KLoM(n_models=4, max_samples=None))
    assert whole == population.values(KLoM(n_models=4, max_samples=max(SIZES.values())))


def test_binary_tasks_are_measured():
    values = Population(task="binary").values(KLoM(n_models=3), "identity")
    assert all(0 <= value <= 11.6 for value in values.values())


# Not a number, and a weight with which logits are finite on one processor and infinite on another.
@pytest.mark.parametrize("weight", [float("nan"), 1e20])
def test_models_that_diverged_are_refused(weight):
    population = Population()
    for name in ("gold", "repaired"):
        population.values(KLoM(n_models=2), name)
    with torch.no_grad():
        next(iter(population.models[Retrained(number=FIRST_FITTED + 1), ""].parameters())).fill_(weight)
    with pytest.raises(RequirementNotMet, match=r'KLoM is not defined: .* says of "forget" is not finite or runs away'):
        population.values(KLoM(n_models=2))


def test_one_model_is_refused():
    with pytest.raises(InvalidParameters, match="at least 2"):
        KLoM(n_models=1)


def test_an_empty_partition_is_refused(population):
    other = Population(models=population.models)
    other.partitions = {**other.partitions, "forget": torch.zeros(0, dtype=torch.int64)}
    with pytest.raises(RequirementNotMet, match="is empty"):
        other.values(KLoM(n_models=2))


def test_outside_a_run_the_reason_is_given(population):
    from dataclasses import replace

    measure = KLoM(n_models=2)
    with pytest.raises(RequirementNotMet, match="needs an experiment run"):
        measure.measure(replace(population.evaluation(measure), provider=None))


def test_in_a_run_the_engines_models_are_compared(tmp_path):
    parameters = [{"n_models": 12}, {"n_models": 12, "origins": "one"}]
    measures = [{"class": "erasure.measures.attacks.klom.KLoM", "parameters": each} for each in parameters]
    rows = run_rows(measures, ["Identity"], tmp_path)
    for partition in SIZES:
        # A method that does nothing makes originals, and one original again and again is farther from gold than many.
        assert rows["GoldModel", "KLoM mean", partition] == rows["gold", "KLoM mean", partition]
        assert rows["Identity", "KLoM of one original mean", partition] > rows["Identity", "KLoM mean", partition]
    assert rows["Identity", "KLoM mean", "forget"] > rows["gold", "KLoM mean", "forget"] + 1


class TestKLoMConformance(MeasureConformance):
    def make(self):
        return KLoM(n_models=5, max_samples=30)

    def bench(self, task="classification", seed=0):
        return PopulationBench.of(bench(task, seed=seed))


@pytest.mark.nightly  # another setting of the measure above
class TestKLoMOfOneOriginalConformance(TestKLoMConformance):
    def make(self):
        return KLoM(n_models=5, origins="one", max_samples=None)


def test_a_method_that_forgets_nothing_is_told_from_gold_and_gold_is_not(population):
    p = {way: population.values(KLoM(n_models=N), way)["KLoM p", "forget"] for way in ("gold", "identity", "original")}
    assert p["identity"] <= 0.01
    assert p["original"] <= 0.01
    assert p["gold"] > 0.05
    assert ("KLoM p", "forget") not in population.values(KLoM(n_models=N, relabellings=0))
