import pytest
import torch
from measure_toys import evaluation_of
from sklearn.metrics import brier_score_loss, log_loss

from erasure.errors import RequirementNotMet
from erasure.functional.calibration import expected_calibration_error
from erasure.measures.calibration import ECE, NLL, Brier


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _number(measure, labels, logits, task="classification"):
    [value] = measure.measure(evaluation_of({"test": labels}, {"test": logits}, task=task))
    assert value.partition == "test"
    return value.value


_LABELS = torch.arange(40) % 4
_LOGITS = 2 * torch.randn(40, 4, generator=_generator())
_YES_NO, _LOGIT = torch.arange(40) % 2, torch.randn(40, 1, generator=_generator(1))


def test_several_classes_have_scikit_learns_log_loss_and_brier_score():
    p = _LOGITS.double().softmax(1).numpy()
    assert _number(NLL(), _LABELS, _LOGITS) == pytest.approx(log_loss(_LABELS, p, labels=range(4)))
    assert _number(Brier(), _LABELS, _LOGITS) == pytest.approx(brier_score_loss(_LABELS, p, labels=range(4), scale_by_half=False))


def test_a_single_logit_has_scikit_learns_log_loss_and_brier_score():
    p = _LOGIT.double().sigmoid().reshape(-1).numpy()
    assert _number(NLL(), _YES_NO, _LOGIT, "binary") == pytest.approx(log_loss(_YES_NO, p))
    assert _number(Brier(), _YES_NO, _LOGIT, "binary") == pytest.approx(brier_score_loss(_YES_NO, p))


def test_labels_of_a_multilabel_task_are_averaged():
    labels = (torch.rand(30, 3, generator=_generator(2)) < 0.5).long()
    logits = torch.randn(30, 3, generator=_generator(3))
    p = logits.double().sigmoid().numpy()
    assert _number(NLL(), labels, logits, "multilabel") == pytest.approx(
        sum(log_loss(labels[:, k], p[:, k]) for k in range(3)) / 3
    )
    expected = sum(brier_score_loss(labels[:, k], p[:, k]) for k in range(3)) / 3
    assert _number(Brier(), labels, logits, "multilabel") == pytest.approx(expected)


def test_ece_looks_at_the_largest_probability_of_both_kinds_of_task():
    confidence, predicted = _LOGITS.double().softmax(1).max(1)
    expected = expected_calibration_error(confidence, predicted == _LABELS)
    assert _number(ECE(), _LABELS, _LOGITS) == pytest.approx(expected)
    p = _LOGIT.double().sigmoid().reshape(-1)
    expected = expected_calibration_error(torch.maximum(p, 1 - p), (p > 0.5).long() == _YES_NO, n_bins=5)
    assert _number(ECE(n_bins=5), _YES_NO, _LOGIT, "binary") == pytest.approx(expected)


def test_the_two_kinds_of_bins_have_two_names():
    assert (ECE().title, ECE(bins="equal-mass").title) == ("ECE", "adaptive ECE")


def test_sure_and_right_is_best_and_sure_and_wrong_is_worst():
    sure = 100.0 * torch.nn.functional.one_hot(_LABELS).float()
    for measure in (ECE(), Brier(), NLL()):
        assert _number(measure, _LABELS, sure) == pytest.approx(0.0, abs=1e-9)
    wrong = (_LABELS + 1) % 4
    assert _number(ECE(), wrong, sure) == 1.0
    assert _number(Brier(), wrong, sure) == 2.0
    assert _number(NLL(), wrong, sure) == 100.0


def test_ece_is_refused_for_several_labels_at_once():
    labels = torch.ones(4, 2, dtype=torch.int64)
    with pytest.raises(RequirementNotMet, match="multilabel"):
        _number(ECE(), labels, torch.zeros(4, 2), "multilabel")
