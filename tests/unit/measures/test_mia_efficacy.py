import numpy as np
import pytest
import torch
from measure_toys import evaluation_of
from population_toys import Population
from scipy import stats
from sklearn.svm import SVC

from erasure.errors import RequirementNotMet
from erasure.functional.divergences import log_probabilities
from erasure.measures.attacks.mia_efficacy import (
    MIAEfficacy,
    _answers,
    _support_vectors,
    attack_features,
    entropy,
    modified_entropy,
)
from erasure.testing import MeasureConformance

FEATURES = ["correctness", "confidence", "entropy", "modified entropy", "probabilities"]


def _with_confidence(p, n_classes=4):
    """Logits that give class 0 these probabilities, and the other classes equal shares of the rest."""
    p = torch.as_tensor(p, dtype=torch.float64)
    rest = ((1 - p) / (n_classes - 1)).unsqueeze(1).expand(-1, n_classes - 1)
    return torch.cat([p.unsqueeze(1), rest], dim=1).log().float()


def _value(forget, retain, test, *, measure=None, labels=None, **options):
    logits = {"forget": forget, "retain": retain, "test": test}
    labels = labels or {name: torch.zeros(len(z), dtype=torch.int64) for name, z in logits.items()}
    [value] = (measure or MIAEfficacy()).measure(evaluation_of(labels, logits, **options))
    assert value.partition == "forget"
    return value.value


def _uniform(n, low, high, seed=0):
    return torch.as_tensor(np.random.default_rng(seed).uniform(low, high, n))


@pytest.fixture(scope="module")
def population():
    return Population()


@pytest.mark.parametrize(("low", "high", "expected"), [(0.3, 0.4, 1.0), (0.9, 0.99, 0.0)])
def test_forgotten_samples_are_what_they_look_like(low, high, expected):
    retain, test = _with_confidence(_uniform(100, 0.9, 0.99)), _with_confidence(_uniform(60, 0.3, 0.4, seed=1))
    assert _value(_with_confidence(_uniform(30, low, high, seed=2)), retain, test) == expected


def test_half_of_each_is_half():
    retain, test = _with_confidence(_uniform(50, 0.9, 0.99)), _with_confidence(_uniform(50, 0.3, 0.4, seed=1))
    forget = _with_confidence(torch.cat([_uniform(10, 0.9, 0.99), _uniform(10, 0.3, 0.4)]))
    assert _value(forget, retain, test) == 0.5


def _feature_by_hand(said, feature):
    p = torch.softmax(said.logits.double(), 1).numpy()
    y = said.labels.numpy()
    found = []
    for row, label in zip(p, y, strict=True):
        wrong = [j for j in range(len(row)) if j != label]
        found.append(
            {
                "correctness": [float(row.argmax() == label)],
                "confidence": [row[label]],
                "entropy": [stats.entropy(row)],
                "modified entropy": [
                    -(1 - row[label]) * np.log(row[label]) - sum(row[j] * np.log(1 - row[j]) for j in wrong),
                ],
                "probabilities": row,
            }[feature]
        )
    return np.array(found)


@pytest.mark.parametrize("feature", FEATURES)
def test_value_is_that_of_scikit_learn_on_a_trained_model(population, feature):
    model = population.model(None, "original")
    said = {name: population.says(model, name) for name in population.partitions}
    seen = {name: _feature_by_hand(each, feature) for name, each in said.items()}
    for name in seen:
        np.testing.assert_allclose(attack_features(said[name], feature), seen[name], atol=1e-9)
    # As many retain samples as there are test samples, by the measure's own stream.
    streams = population.evaluation(MIAEfficacy(), "original").streams
    kept = np.sort(streams.numpy("subsample", "retain").permutation(len(seen["retain"]))[: len(seen["test"])])
    learned = np.concatenate([seen["retain"][kept], seen["test"]])
    attack = SVC(C=3, gamma="auto").fit(learned, [1] * len(kept) + [0] * len(kept))
    measure = MIAEfficacy(feature=feature)
    found = population.values(measure, "original")[measure.title, "forget"]
    assert found == pytest.approx(1 - attack.predict(seen["forget"]).mean())


def test_gold_has_forgotten_more_than_the_original(population):
    found = {way: population.values(MIAEfficacy(), way)["MIAEfficacy", "forget"] for way in ("gold", "original")}
    assert found["gold"] > found["original"] + 0.2


def test_modified_entropy_is_song_and_mittals():
    log_p = log_probabilities("classification", torch.randn(200, 6, generator=torch.Generator().manual_seed(0)) * 3)
    labels = torch.arange(200) % 6
    expected = []
    for row, label in zip(log_p.exp().tolist(), labels.tolist(), strict=True):
        others = sum(p * np.log(1 - p) for j, p in enumerate(row) if j != label)
        expected.append(-(1 - row[label]) * np.log(row[label]) - others)
    np.testing.assert_allclose(modified_entropy(log_p, labels), expected, rtol=1e-9)
    np.testing.assert_allclose(entropy(log_p), stats.entropy(log_p.exp().numpy(), axis=1))


def test_modified_entropy_of_saturated_predictions_is_finite_and_tells_right_from_wrong():
    log_p = log_probabilities("classification", torch.tensor([[900.0, 0.0, 0.0], [900.0, 0.0, 0.0], [80.0, 0.0, 0.0]]))
    found = modified_entropy(log_p, torch.tensor([0, 1, 1]))
    assert found[0] == 0
    assert found[1].item() == pytest.approx(1800 - np.log(2), rel=1e-6)
    assert found[2].item() == pytest.approx(160 - np.log(2), rel=1e-6)


def test_the_retain_samples_are_drawn_at_random_by_the_seed():
    retain = _with_confidence(_uniform(400, 0.2, 0.99))
    test, forget = _with_confidence(_uniform(20, 0.2, 0.9, seed=1)), _with_confidence(_uniform(50, 0.2, 0.99, seed=2))
    found = [_value(forget, retain, test, seed=seed) for seed in (0, 0, 1, 2, 3, 4)]
    assert found[0] == found[1]
    assert len(set(found)) > 1
    # The first 20 retain samples are like the test set: only a random part looks like the others.
    retain[:20] = _with_confidence(torch.full((20,), 0.3))
    retain[20:] = _with_confidence(torch.full((380,), 0.9))
    assert _value(_with_confidence(torch.full((10,), 0.9)), retain, _with_confidence(torch.full((20,), 0.3))) == 0


def test_a_cap_learns_from_fewer_samples():
    retain, test = _with_confidence(_uniform(300, 0.2, 0.99)), _with_confidence(_uniform(300, 0.1, 0.9, seed=1))
    forget = _with_confidence(_uniform(50, 0.1, 0.99, seed=2))
    few = [_value(forget, retain, test, measure=MIAEfficacy(max_samples=3), seed=seed) for seed in range(6)]
    assert len(set(few)) > 1
    assert _value(forget, retain, test) == _value(forget, retain, test, measure=MIAEfficacy(max_samples=300))


@pytest.mark.parametrize("feature", FEATURES)
def test_neither_the_order_of_a_partition_nor_the_batch_size_matters(population, feature):
    other = Population(order=2, batch_size=5, models=population.models)
    measure = MIAEfficacy(feature=feature, max_samples=15)
    assert population.values(measure, "original") == other.values(measure, "original")


@pytest.mark.parametrize("feature", FEATURES)
def test_binary_tasks_are_measured(feature):
    labels = {name: torch.arange(20) % 2 for name in ("forget", "retain", "test")}
    sign = 2.0 * labels["forget"] - 1
    logits = {"forget": 0.1 * sign, "retain": 4 * sign, "test": -0.2 * sign}
    values = [
        _value(
            *(logits[name].reshape(shape) for name in ("forget", "retain", "test")),
            labels=labels,
            task="binary",
            measure=MIAEfficacy(feature=feature),
        )
        for shape in ((20,), (20, 1))
    ]
    assert values[0] == values[1]
    if feature in {"confidence", "modified entropy", "entropy"}:
        assert values[0] == 1.0


def test_multilabel_tasks_are_refused():
    labels = {name: torch.zeros(4, 3, dtype=torch.int64) for name in ("forget", "retain", "test")}
    logits = {name: torch.zeros(4, 3) for name in labels}
    with pytest.raises(RequirementNotMet, match="not defined for multilabel"):
        MIAEfficacy().measure(evaluation_of(labels, logits, task="multilabel"))


def test_a_model_that_diverged_is_refused():
    fine, broken = torch.zeros(5, 4), torch.full((5, 4), float("nan"))
    with pytest.raises(RequirementNotMet, match='model says of "retain" is not finite'):
        _value(fine, broken, fine, measure=MIAEfficacy(feature="correctness"))


def test_one_sample_of_each_is_enough():
    assert _value(_with_confidence([0.3]), _with_confidence([0.9]), _with_confidence([0.31])) == 1.0


def test_features_have_titles_of_their_own():
    assert len({MIAEfficacy(feature=feature).title for feature in FEATURES}) == len(FEATURES)


class TestMIAEfficacyOfAnotherKindConformance(MeasureConformance):
    def make(self):
        return MIAEfficacy(feature="modified entropy", max_samples=20)


@pytest.mark.parametrize(("scale", "n_features"), [(1.0, 1), (1.0, 3), (1.3, 1), (10.0, 1)])
def test_answers_are_those_of_libsvm_also_where_most_samples_are_equal(scale, n_features):
    generator = np.random.default_rng(0)
    members, others, asked = (np.minimum(scale * generator.beta(8, 2, (n, n_features)), 1) for n in (60, 60, 300))
    machine = _support_vectors(members, others)
    assert (_answers(machine, asked) == machine.predict(asked)).all()
