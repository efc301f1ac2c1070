"""Whole persons are found out where single samples are not, at false positive rates that are counted, or nobody can tell."""

from dataclasses import replace

import pytest
import torch
from attack_bank import World

from erasure.errors import RequirementNotMet
from erasure.measures.attacks.lira import LiRA
from erasure.measures.attacks.person_lira import PersonLiRA


@pytest.fixture(scope="module")
def world():
    return World(seed=1)


def _people(world, size=5):
    """Persons of ``size`` samples, nobody on two sides."""
    z = torch.full((len(world.x),), -1)
    for side, name in enumerate(("forget", "test")):
        ids = world.partitions[name]
        z[ids] = 100 * side + torch.arange(len(ids)) // size
    return z


def _values(world, measure, subject, z):
    evaluation = replace(world.evaluation(measure, subject), z=z)
    return {value.name: value for value in measure.measure(evaluation)}


def test_persons_are_told_where_nothing_was_forgotten_and_not_after_retraining(world):
    attack, z = PersonLiRA(fpr=0.1), _people(world)
    identity, gold = (_values(world, attack, subject, z) for subject in ("identity", "gold 1"))
    single = world.values(LiRA(), "identity")["LiRA AUC"].value
    assert identity["person LiRA AUC"].value > single + 0.05
    assert identity["person LiRA AUC"].low > 0.5
    assert gold["person LiRA AUC"].low <= 0.5 <= gold["person LiRA AUC"].high
    assert identity["person LiRA TPR at 10% FPR"].value > gold["person LiRA TPR at 10% FPR"].value
    assert identity["person LiRA resolution"].value == pytest.approx(1 / 13)  # 12 other persons


def test_one_persons_rate_is_the_share_of_others_who_score_as_high(world):
    attack, z = PersonLiRA(fpr=0.1), _people(world)
    evaluation = replace(world.evaluation(attack, "identity"), z=z)
    sides = attack.sides(evaluation)
    sums = attack._scores(evaluation, sides).reshape(-1, 5).sum(1)  # persons are consecutive: 8 forgotten, 12 others
    rates = [(1 + sum(float(other) >= float(own) for other in sums[8:])) / 13 for own in sums[:8]]
    found = _values(world, attack, "identity", z)
    assert found["person LiRA FPR"].value == pytest.approx(float(torch.tensor(rates, dtype=torch.float64).quantile(0.5)))
    assert found["person LiRA TPR at 10% FPR"].value == sum(rate <= 0.1 for rate in rates) / 8


def test_persons_of_different_sizes_meet_groups_of_their_own_size(world):
    z = _people(world)
    z[world.partitions["forget"][:3]] = 50  # one person of 3, one of 2
    found = _values(world, PersonLiRA(fpr=0.1), "identity", z)
    assert 0 <= found["person LiRA AUC"].value <= 1
    z[world.partitions["test"][:4]] = 150  # a person of 4 and one of 1, who have no group of five
    assert _values(world, PersonLiRA(fpr=0.1), "identity", z)["person LiRA resolution"].value == pytest.approx(1 / 12)


def test_too_few_persons_or_none_is_an_answer(world):
    with pytest.raises(RequirementNotMet, match=r"none can tell.*12 other persons with 5 samples or more"):
        _values(world, PersonLiRA(fpr=0.05), "identity", _people(world))
    with pytest.raises(RequirementNotMet, match="none can tell persons apart"):
        _values(world, PersonLiRA(), "identity", None)
    same = torch.zeros(len(world.x), dtype=torch.int64)  # who is forgotten has samples in test: nobody else is there
    with pytest.raises(RequirementNotMet, match="has 0 other persons"):
        _values(world, PersonLiRA(), "identity", same)
    with pytest.raises(RequirementNotMet, match="no column 1"):
        _values(world, PersonLiRA(column=1), "identity", _people(world))


def test_too_few_shadow_models_are_refused(world):
    with pytest.raises(Exception, match="at least 4"):
        PersonLiRA(n_shadows=2)
