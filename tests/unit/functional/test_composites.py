import torch
from hypothesis import given
from hypothesis import strategies as st

from erasure.functional.composites import adaptive_unlearning_score
from erasure.functional.counts import label_counts

_SHARE = st.floats(0, 1)


@given(_SHARE, _SHARE, _SHARE, st.booleans())
def test_aus_stays_between_zero_and_two(test, original, forget, whole_classes):
    assert 0 <= adaptive_unlearning_score(test, original, forget, whole_classes=whole_classes) <= 2


@given(_SHARE)
def test_aus_of_a_lossless_method_is_one(accuracy):
    assert adaptive_unlearning_score(accuracy, accuracy, accuracy, whole_classes=False) == 1
    assert adaptive_unlearning_score(accuracy, accuracy, 0.0, whole_classes=True) == 1


@given(_SHARE, _SHARE, _SHARE)
def test_aus_falls_when_a_forgotten_class_is_recognised(test, original, forget):
    lossless = adaptive_unlearning_score(test, original, 0.0, whole_classes=True)
    assert adaptive_unlearning_score(test, original, forget, whole_classes=True) <= lossless


def test_counts_cover_classes_without_samples():
    assert label_counts("binary", torch.tensor([1, 1]), 1).tolist() == [0, 2]
    assert label_counts("classification", torch.zeros(0, dtype=torch.int64), 3).tolist() == [0, 0, 0]
