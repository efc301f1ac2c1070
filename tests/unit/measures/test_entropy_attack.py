import numpy as np
import pytest
import torch
from measure_toys import evaluation_of
from population_toys import Population
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

from erasure.errors import RequirementNotMet
from erasure.measures.attacks.entropy_attack import EntropyAttack
from erasure.testing import MeasureConformance

VARIANTS = ["svc", "logistic"]
ATTACKS = {"svc": SVC(C=3, gamma="auto", kernel="rbf"), "logistic": LogisticRegression(class_weight="balanced", max_iter=1000)}


def _sure(n, scale, seed=0):
    """Logits of a prediction that is the surer the larger the scale."""
    noise = torch.randn(n, 5, generator=torch.Generator().manual_seed(seed))
    return scale * torch.eye(5)[torch.arange(n) % 5] + 0.1 * noise


def _value(forget, retain, test, variant="svc", seed=0, **parameters):
    logits = {"forget": forget, "retain": retain, "test": test}
    labels = {name: torch.zeros(len(z), dtype=torch.int64) for name, z in logits.items()}
    [value] = EntropyAttack(variant=variant, **parameters).measure(evaluation_of(labels, logits, seed=seed))
    return value.value


@pytest.fixture(scope="module")
def population():
    return Population()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("scale", "expected"), [(6.0, 1.0), (0.5, 0.0)])
def test_forgotten_samples_are_what_they_look_like(variant, scale, expected):
    assert _value(_sure(20, scale, seed=3), _sure(80, 6.0), _sure(50, 0.5, seed=1), variant) == expected


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("way", ["original", "gold"])
def test_value_is_that_of_scikit_learn_on_a_trained_model(population, variant, way):
    model = population.model(None, way)
    entropies = {
        name: stats.entropy(torch.softmax(population.says(model, name).logits.double(), 1).numpy(), axis=1)[:, None]
        for name in population.partitions
    }
    membership = [1] * len(entropies["retain"]) + [0] * len(entropies["test"])
    attack = ATTACKS[variant].fit(np.concatenate([entropies["retain"], entropies["test"]]), membership)
    measure = EntropyAttack(variant=variant)
    found = population.values(measure, way)[measure.title, "forget"]
    assert found == pytest.approx(attack.predict(entropies["forget"]).mean())


@pytest.mark.parametrize("variant", VARIANTS)
def test_labels_play_no_part(variant):
    logits = {"forget": _sure(20, 3.0), "retain": _sure(60, 4.0, seed=1), "test": _sure(60, 2.0, seed=2)}
    values = []
    for label in (0, 3):
        labels = {name: torch.full((len(z),), label) for name, z in logits.items()}
        values += [each.value for each in EntropyAttack(variant=variant).measure(evaluation_of(labels, logits))]
    assert values[0] == values[1]


def test_only_the_logistic_variant_weighs_both_partitions_the_same():
    # Nine tenths are retain samples, and the entropies overlap: the support vector machine calls everything a member.
    retain, test, forget = _sure(450, 2.0), _sure(50, 1.95, seed=1), _sure(100, 1.95, seed=2)
    assert _value(forget, retain, test, "svc") == 1.0
    assert 0.1 < _value(forget, retain, test, "logistic") < 0.5


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_cap_keeps_the_proportion_and_draws_by_the_seed(variant):
    forget, retain, test = _sure(100, 2.2, seed=5), _sure(300, 3.0), _sure(200, 1.5, seed=1)
    few = [_value(forget, retain, test, variant, seed=seed, max_samples=10) for seed in (0, 0, 1, 2, 3, 4)]
    assert few[0] == few[1]
    assert len(set(few)) > 1
    assert _value(forget, retain, test, variant) == _value(forget, retain, test, variant, max_samples=500)
    assert _value(_sure(5, 6.0), _sure(500, 6.0), _sure(1, 0.1), "logistic", max_samples=2) == 1.0


@pytest.mark.parametrize("variant", VARIANTS)
def test_neither_the_order_of_a_partition_nor_the_batch_size_matters(population, variant):
    other = Population(order=2, batch_size=5, models=population.models)
    measure = EntropyAttack(variant=variant, max_samples=30)
    assert population.values(measure, "original") == other.values(measure, "original")


def test_multilabel_tasks_are_refused():
    labels = {name: torch.zeros(4, 3, dtype=torch.int64) for name in ("forget", "retain", "test")}
    logits = {name: torch.zeros(4, 3) for name in labels}
    with pytest.raises(RequirementNotMet, match="not defined for multilabel"):
        EntropyAttack().measure(evaluation_of(labels, logits, task="multilabel"))


def test_a_model_that_diverged_is_refused():
    with pytest.raises(RequirementNotMet, match='unlearned model says of "forget" is not finite'):
        _value(torch.full((5, 5), float("nan")), _sure(5, 1.0), _sure(5, 1.0))


def test_variants_have_titles_of_their_own():
    assert [EntropyAttack(variant=variant).title for variant in VARIANTS] == ["EntropyAttack", "EntropyAttack logistic"]


class TestEntropyAttackOfAnotherKindConformance(MeasureConformance):
    def make(self):
        return EntropyAttack(variant="logistic", max_samples=40)
