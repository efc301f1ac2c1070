import pytest
import torch
from measure_toys import evaluation_of, predicting
from sklearn.metrics import confusion_matrix

from erasure.errors import InvalidParameters, RequirementNotMet
from erasure.measures.confusion import ConfusionMatrix, InterclassConfusion
from erasure.training.predictor import ModelInput

_LABELS = torch.tensor([0] * 10 + [1] * 6 + [2] * 4)
_PREDICTED = torch.tensor([0] * 7 + [1] * 2 + [2] + [1] * 5 + [0] + [2] * 3 + [1])


def _values(measure, labels=_LABELS, predicted=_PREDICTED, n_classes=3, **options):
    evaluation = evaluation_of({"test": labels}, {"test": predicting(predicted, n_classes)}, **options)
    return {value.name or measure.title: value.value for value in measure.measure(evaluation)}


def test_every_cell_is_scikit_learns():
    counts = confusion_matrix(_LABELS, _PREDICTED)
    expected = {f"confusion[{a},{b}]": counts[a, b] for a in range(3) for b in range(3)}
    assert _values(ConfusionMatrix()) == expected


def test_shares_are_of_the_true_class_and_classes_without_samples_have_none():
    normalized = confusion_matrix(_LABELS, _PREDICTED, normalize="true")
    found = _values(ConfusionMatrix(normalized=True), n_classes=4)
    assert {name for name in found if "[3," in name} == set()
    for a in range(3):
        assert [found[f"confusion share[{a},{b}]"] for b in range(4)] == pytest.approx([*normalized[a], 0.0])


def test_chosen_classes_leave_the_rest_to_other():
    found = _values(ConfusionMatrix(classes=("dog", 2)), facts={"class_names": ("cat", "dog", "owl")})
    assert found == {
        "confusion[dog,dog]": 5,
        "confusion[dog,owl]": 0,
        "confusion[dog,other]": 1,
        "confusion[owl,dog]": 1,
        "confusion[owl,owl]": 3,
        "confusion[owl,other]": 0,
    }


def test_a_single_logit_makes_a_matrix_of_two_classes():
    evaluation = evaluation_of({"test": [0, 0, 1]}, {"test": torch.tensor([[-1.0], [1.0], [1.0]])}, task="binary")
    assert [value.value for value in ConfusionMatrix().measure(evaluation)] == [1, 1, 0, 1]


def test_a_matrix_of_very_many_classes_must_be_asked_for_by_name():
    assert "name those" in ConfusionMatrix().unsupported_reason(ModelInput((3,), 100))
    assert ConfusionMatrix(classes=(7, 9)).unsupported_reason(ModelInput((3,), 100)) is None


def test_unknown_classes_are_refused_with_the_nearest():
    with pytest.raises(RequirementNotMet, match='did you mean "dog"'):
        _values(ConfusionMatrix(classes=("dgo",)), facts={"class_names": ("cat", "dog", "owl")})
    with pytest.raises(RequirementNotMet, match="classes are 0 to 2"):
        _values(InterclassConfusion(first=0, second=3))


def test_interclass_confusion_is_the_brute_force_count():
    for a, b in ((0, 1), (1, 0), (0, 2), (1, 2)):
        pairs = list(zip(_LABELS.tolist(), _PREDICTED.tolist(), strict=True))
        found = _values(InterclassConfusion(first=a, second=b))
        assert found[f"InterclassConfusion[{a},{b}]"] == sum((y, p) in {(a, b), (b, a)} for y, p in pairs)
        inside = [(y, p) for y, p in pairs if y in {a, b}]
        assert found[f"IC-Err[{a},{b}]"] == pytest.approx(sum(y != p for y, p in inside) / len(inside))


def test_swapped_labels_are_read_the_other_way_round():
    swapped = torch.where(_LABELS == 0, 1, torch.where(_LABELS == 1, 0, _LABELS))
    plain = _values(InterclassConfusion(first=0, second=1))
    assert _values(InterclassConfusion(first=0, second=1, swapped=True), labels=swapped) == plain
    # A model that learned the swapped labels by heart is all confusion.
    heart = _values(InterclassConfusion(first=0, second=1, swapped=True), labels=swapped, predicted=swapped)
    assert heart == {"InterclassConfusion[0,1]": 16, "IC-Err[0,1]": 1.0}


def test_one_class_twice_and_classes_without_samples_are_refused():
    with pytest.raises(InvalidParameters, match="same class"):
        InterclassConfusion(first=1, second=1)
    with pytest.raises(RequirementNotMet, match="same class"):
        _values(InterclassConfusion(first=0, second="cat"), facts={"class_names": ("cat", "dog", "owl")})
    with pytest.raises(RequirementNotMet, match="no sample"):
        _values(InterclassConfusion(first=0, second=1), labels=torch.full((4,), 2), predicted=torch.zeros(4, dtype=torch.int64))
