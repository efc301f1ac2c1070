import numpy as np
import pytest
import torch
from measure_toys import evaluation_of
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit, cross_val_score

from erasure.errors import InvalidParameters, RequirementNotMet
from erasure.measures.attacks.umia import UMIA
from erasure.training.randomness import derive


def _evaluation(forget_losses, test_losses, forget_labels=None, test_labels=None, seed=0, task="classification"):
    losses = {"forget": torch.as_tensor(forget_losses), "test": torch.as_tensor(test_losses)}
    labels = {
        "forget": torch.zeros(len(forget_losses), dtype=torch.int64) if forget_labels is None else forget_labels,
        "test": torch.zeros(len(test_losses), dtype=torch.int64) if test_labels is None else test_labels,
    }
    logits = {name: torch.zeros(len(y), 4) for name, y in labels.items()}
    return evaluation_of(labels, logits, losses=losses, seed=seed, task=task)


def _accuracy(*args, measure=None, **options):
    [value] = (measure or UMIA()).measure(_evaluation(*args, **options))
    return value.value


def _exponential(n, scale=1.0, seed=0):
    return torch.as_tensor(np.random.default_rng(seed).exponential(scale, n))


def test_members_of_lower_loss_are_found():
    assert _accuracy(_exponential(200) * 0.01, 1 + _exponential(200, seed=1)) == 1.0


def test_equal_losses_give_chance():
    assert _accuracy(torch.ones(100), torch.ones(100)) == 0.5


def test_two_samples_of_one_distribution_are_near_chance():
    # Null calibration: the mean over many draws must be within three standard errors of one half.
    found = [_accuracy(_exponential(150, seed=2 * k), _exponential(150, seed=2 * k + 1)) for k in range(30)]
    assert abs(np.mean(found) - 0.5) < 3 * np.std(found, ddof=1) / np.sqrt(len(found))


@pytest.mark.parametrize(("protocol", "n_splits"), [("kurmanji", 5), ("choi-na", 10)])
def test_the_value_is_scikit_learns_cross_validated_accuracy(protocol, n_splits):
    members, others = _exponential(60, 0.5), _exponential(60, 1.0, seed=1)
    evaluation = _evaluation(members, others)
    splits = StratifiedShuffleSplit(
        n_splits=n_splits, test_size=0.1, random_state=derive(evaluation.streams.seed, "splits") % 2**32
    )
    features = torch.cat([members.float(), others.float()]).double().numpy()[:, None]
    membership = np.repeat([1, 0], 60)
    expected = cross_val_score(LogisticRegression(max_iter=1000), features, membership, cv=splits).mean()
    [value] = UMIA(protocol=protocol).measure(evaluation)
    assert value.value == pytest.approx(expected)


def test_kurmanji_compares_with_held_out_samples_of_the_forgotten_classes_only():
    forget_labels, test_labels = torch.zeros(60, dtype=torch.int64), torch.tensor([0] * 60 + [1] * 60)
    losses = torch.cat([torch.ones(60), torch.full((60,), 50.0)])
    assert _accuracy(torch.ones(60), losses, forget_labels, test_labels) == 0.5
    assert _accuracy(torch.ones(60), losses, forget_labels, test_labels, measure=UMIA(protocol="choi-na")) > 0.6


def test_kurmanji_clips_losses_and_choi_and_na_do_not():
    members, others = torch.full((40,), 1e4), torch.full((40,), 100.0)
    assert _accuracy(members, others) == 0.5
    assert _accuracy(members, others, measure=UMIA(protocol="choi-na")) == 1.0


def test_an_unequal_number_of_samples_is_balanced():
    # Without balancing, the majority alone would give an accuracy of 0.9.
    assert abs(_accuracy(torch.ones(20), torch.ones(180)) - 0.5) < 1e-9


def test_the_larger_side_is_subsampled_at_random_not_from_the_front():
    others = torch.cat([torch.ones(50), torch.full((450,), 20.0)])
    assert _accuracy(torch.ones(50), others) > 0.8


def test_the_seed_chooses_the_subsample_and_the_splits():
    found = {_accuracy(_exponential(30), _exponential(300, seed=1), seed=seed) for seed in range(6)}
    assert len(found) > 1
    assert _accuracy(_exponential(30), _exponential(300, seed=1), seed=3) == _accuracy(
        _exponential(30), _exponential(300, seed=1), seed=3
    )


@pytest.mark.parametrize("n", [1, 2, 5])
def test_too_few_samples_are_refused_with_their_number(n):
    with pytest.raises(RequirementNotMet, match=f'{n} in "forget" and 40 .*in "test"'):
        _accuracy(torch.ones(n), torch.ones(40))


def test_six_samples_a_side_are_enough():
    assert 0 <= _accuracy(_exponential(6), _exponential(6, seed=1)) <= 1


def test_a_larger_share_to_score_on_allows_fewer_samples():
    assert 0 <= _accuracy(_exponential(3), _exponential(3, seed=1), measure=UMIA(test_size=0.5)) <= 1


def test_no_held_out_sample_of_the_forgotten_classes_is_refused():
    with pytest.raises(RequirementNotMet, match='of the forgotten classes; "test" has none'):
        _accuracy(torch.ones(20), torch.ones(20), test_labels=torch.ones(20, dtype=torch.int64))


def test_losses_that_are_not_numbers_are_refused():
    with pytest.raises(RequirementNotMet, match="not finite"):
        _accuracy(torch.full((20,), float("nan")), torch.ones(20))


def test_infinite_losses_are_clipped_by_kurmanji_and_refused_by_choi_and_na():
    infinite = torch.full((20,), float("inf"))
    assert _accuracy(infinite, torch.ones(20)) == 1.0
    with pytest.raises(RequirementNotMet, match="not finite"):
        _accuracy(infinite, torch.ones(20), measure=UMIA(protocol="choi-na"))


def test_multilabel_samples_have_no_class_to_match_and_are_all_compared():
    forget, test = torch.zeros(20, 4, dtype=torch.int64), torch.ones(20, 4, dtype=torch.int64)
    assert _accuracy(torch.ones(20), torch.ones(20), forget, test, task="multilabel") == 0.5
    assert _accuracy(torch.ones(20), torch.full((20,), 9.0), forget, test, task="multilabel") == 1.0


def test_an_unknown_protocol_is_refused():
    with pytest.raises(InvalidParameters, match="protocol"):
        UMIA(protocol="carlini")
