"""Weights of classes in a configuration, and sections that are misspelled."""

import pytest
import torch
from torch import nn

from erasure.errors import ConfigError, InvalidParameters
from erasure.experiment.configuration import load_experiment
from erasure.training.calls import Criterion, Loss, Optimizer, Schedule
from erasure.training.fit import loss_misfit
from erasure.training.predictor import ModelInput


def test_weights_of_classes_can_be_written_as_numbers():
    logits, y = torch.randn(6, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 0, 1, 1, 0])
    written = Criterion("classification", Loss.of("CrossEntropyLoss", weight=[1.0, 8.0]))
    plain = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 8.0]))
    torch.testing.assert_close(written(logits, y), plain(logits, y))
    assert Loss.of("BCEWithLogitsLoss", pos_weight=3.0)().pos_weight == torch.tensor(3.0)


@pytest.mark.parametrize("weights", [[1.0], [1.0, 2.0, 3.0]])
def test_weights_for_another_number_of_classes_are_refused_with_both_numbers(weights):
    loss = Loss.of("CrossEntropyLoss", weight=weights)
    logits, y = torch.zeros(4, 2), torch.tensor([0, 1, 0, 1])
    data = ModelInput((3,), 2, class_names=("common", "rare"))
    message = loss_misfit(Criterion("classification", loss), loss, data, logits, y)
    assert f"weight has {len(weights)} numbers, expected 2: one for each of the classes, in their order (common, rare)" in message


def test_the_losses_of_single_samples_are_weighted_as_torch_does():
    logits, y = torch.randn(6, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 0, 1, 1, 0])
    written = Criterion("classification", Loss.of("CrossEntropyLoss", weight=[1.0, 8.0]))
    weighted = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 8.0]), reduction="none")(logits, y)
    torch.testing.assert_close(written.per_sample(logits, y), weighted)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: Optimizer.of("LBFGS", lr=0.1), "LBFGS cannot take the steps of training here .*closure"),
        (lambda: Optimizer.of("SparseAdam", lr=0.1), "SparseAdam cannot take the steps"),
        (lambda: Optimizer.of("Adam", betas=[0.9]), "Adam does not accept its parameters"),
        (lambda: Optimizer.of("Adam", capturable=True), "Adam cannot take the steps of training here .*capturable"),
        (lambda: Schedule.of("ReduceLROnPlateau"), "ReduceLROnPlateau cannot be stepped once an epoch"),
        (lambda: Schedule.of("StepLR", step_size=0), "StepLR cannot be stepped once an epoch .*zero"),
        (lambda: Schedule.of("CosineAnnealingLR", T_max=0), "CosineAnnealingLR .*zero"),
        (lambda: Loss.of("CrossEntropyLoss", weight=[0, 0.0]), '"weight" holds 0 for every class'),
    ],
)
def test_what_training_cannot_step_or_learn_from_is_refused_at_once(made, said):
    with pytest.raises(InvalidParameters, match=said):
        made()


def test_a_schedule_with_a_length_of_its_own_is_taken():
    assert Schedule.of("OneCycleLR", max_lr=0.1, total_steps=1).name == "OneCycleLR"


def test_a_misspelled_section_is_an_error_with_the_right_name():
    source = {"class": "Sklearn", "parameters": {"name": "iris"}}
    configuration = {"data": {"data_source": source}, "predictor": {"model": "MLP"}, "unlerners": ["Identity"]}
    with pytest.raises(ConfigError, match='no section "unlerners"') as raised:
        load_experiment(configuration)
    assert any("unlearners" in problem.hint for problem in raised.value.problems)


@pytest.mark.parametrize(
    ("loss", "weights", "message"),
    [
        ("CrossEntropyLoss", "balanced", r"expected one number for each class, such as \[1.0, 2.5\], found 'balanced'"),
        ("CrossEntropyLoss", 2.0, "expected a list with one number for each class, found 2.0"),
        ("CrossEntropyLoss", [1.0, -1.0], r"holds -1.0, expected numbers from 0"),
        ("NLLLoss", [1.0, "2"], "expected one number for each class"),
        ("BCEWithLogitsLoss", float("nan"), "expected numbers from 0"),
    ],
)
def test_weights_that_cannot_be_meant_are_refused(loss, weights, message):
    name = "pos_weight" if loss == "BCEWithLogitsLoss" else "weight"
    with pytest.raises(ConfigError, match=f'"{name}".*{message}'):
        Loss.of(loss, **{name: weights})
