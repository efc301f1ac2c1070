"""Logits, loss and labels that do not belong together are told apart before anything is trained."""

import pytest
import torch

from erasure.training.calls import Criterion, Loss
from erasure.training.fit import loss_misfit, output_misfit
from erasure.training.predictor import ModelInput

INPUTS = {
    "classification": ModelInput((4,), 3),
    "binary": ModelInput((4,), 2, task="binary"),
    "multilabel": ModelInput((4,), 3, task="multilabel"),
}
LOGITS = {"classification": torch.randn(2, 3), "binary": torch.randn(2, 1), "multilabel": torch.randn(2, 3)}
LABELS = {
    "classification": torch.tensor([0, 2]),
    "binary": torch.tensor([0, 1]),
    "multilabel": torch.tensor([[0.0, 1, 1], [1, 0, 0]]),
}


def misfit(task, loss=None, logits=None):
    criterion = Criterion(task, loss)
    return loss_misfit(criterion, loss, INPUTS[task], LOGITS[task] if logits is None else logits, LABELS[task])


@pytest.mark.parametrize("task", INPUTS)
@pytest.mark.parametrize(
    ("loss", "tasks"),
    [
        (None, {"classification", "binary", "multilabel"}),
        ("CrossEntropyLoss", {"classification"}),
        ("MultiMarginLoss", {"classification"}),
        ("NLLLoss", set()),
        ("BCELoss", set()),
        ("BCEWithLogitsLoss", {"binary", "multilabel"}),
        ("MultiLabelSoftMarginLoss", {"binary", "multilabel"}),  # of one label it is the same
        ("MSELoss", {"binary", "multilabel"}),
        ("KLDivLoss", {"binary", "multilabel"}),
        ("CosineEmbeddingLoss", set()),
        ("TripletMarginLoss", set()),
    ],
)
def test_a_loss_is_refused_where_it_means_something_else(loss, tasks, task):
    reason = misfit(task, None if loss is None else Loss.of(loss))
    assert (reason is None) == (task in tasks)
    if reason is not None and task != "multilabel" and loss not in {"NLLLoss"}:
        right = {"classification": "CrossEntropyLoss", "binary": "BCEWithLogitsLoss"}[task]
        assert f"leave loss_fn out, or give {right}" in reason


def test_the_loss_of_log_probabilities_needs_a_model_that_gives_them():
    assert "the model has no log-softmax at its end; give CrossEntropyLoss" in misfit("classification", Loss.of("NLLLoss"))
    assert misfit("classification", Loss.of("NLLLoss"), logits=LOGITS["classification"].log_softmax(1)) is None


def test_a_loss_of_one_value_for_each_sample_is_taken():
    assert misfit("classification", Loss.of("CrossEntropyLoss", reduction="none")) is None


@pytest.mark.parametrize(
    ("task", "n_classes", "shape", "says"),
    [
        ("classification", 3, (2, 3), None),
        ("classification", 3, (2, 7), None),  # published weights may have more classes than the data
        ("classification", 3, (2, 1), "asks for 3 logits, one for each class"),
        ("classification", 3, (2,), "asks for 3 logits"),
        ("classification", 2, (2, 1), 'give the data "task": "binary"'),
        ("classification", 3, (1, 3), "shape (1, 3) for 2 samples"),
        ("classification", 3, (2, 3, 5), "shape (2, 3, 5)"),
        ("binary", 2, (2,), None),
        ("binary", 2, (2, 1), None),
        ("binary", 2, (2, 2), 'give the data "task": "classification"'),
        ("multilabel", 3, (2, 3), None),
        ("multilabel", 3, (2, 4), "asks for 3 logits, one for each label"),
        ("multilabel", 3, (2, 1), "asks for 3 logits, one for each label"),
    ],
)
def test_the_width_of_the_output_follows_the_task(task, n_classes, shape, says):
    reason = output_misfit(torch.zeros(shape), ModelInput((4,), n_classes, task=task), 2)
    if says is None:
        assert reason is None
    else:
        assert says in reason
