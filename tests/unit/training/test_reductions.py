"""Losses as people pass them in: a mean, one value for each sample, a sum, or a plain function."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import erasure
from erasure.errors import ConfigError, InvalidParameters, RequirementNotMet
from erasure.experiment.configuration import load_experiment
from erasure.training.calls import Criterion, Loss

GENERATOR = torch.Generator().manual_seed(0)
X, Y = torch.randn(24, 4, generator=GENERATOR), torch.arange(24) % 3
FORGET, RETAIN = (X[:5], Y[:5]), (X[5:], Y[5:])


class Focal(nn.Module):
    """Of the user's own, with a reduction."""

    def __init__(self, reduction):
        super().__init__()
        self.reduction = reduction

    def forward(self, logits, y):
        losses = F.cross_entropy(logits, y, reduction="none")
        losses = (1 - torch.exp(-losses)) ** 2 * losses
        return losses.mean() if self.reduction == "mean" else losses


def function(logits, y):
    return F.cross_entropy(logits, y)


def weighted(logits, y):
    return F.cross_entropy(logits, y, weight=torch.tensor([1.0, 5.0, 9.0]))


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def weights(loss, method, **parameters):
    new = erasure.unlearn(network(), method, forget=FORGET, retain=RETAIN, loss_fn=loss, device="cpu", **parameters)
    return torch.cat([parameter.detach().flatten() for parameter in new.parameters()])


@pytest.mark.parametrize(("method", "parameters"), [("Finetuning", {}), ("SCRUB", {}), ("SSD", {"selection_weighting": 1.0})])
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (nn.CrossEntropyLoss(reduction="none"), None),
        (Focal("none"), Focal("mean")),
        (function, None),
        (lambda logits, y: F.cross_entropy(logits, y, reduction="none"), None),
    ],
    ids=["torch", "module", "function", "values"],
)
def test_every_form_of_a_loss_gives_the_same_model(method, parameters, one, other):
    start = torch.cat([parameter.detach().flatten() for parameter in network().parameters()])
    found, expected = weights(one, method, **parameters), weights(other, method, **parameters)
    assert not torch.equal(expected, start)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("method", ["Finetuning", "SSD"])
@pytest.mark.parametrize(
    ("loss", "says"),
    [
        (nn.CrossEntropyLoss(reduction="sum"), 'reduction="sum" makes every step as many times larger'),
        (lambda logits, y: logits.mean(0), r"gives shape \(3,\) for 2 samples"),
        (lambda logits, y: 1.0, "gives float for 2 samples"),
        (lambda logits, y: logits.detach().sum(), "no gradient with respect to the logits"),
        (nn.BCEWithLogitsLoss(), "the loss does not take logits"),
    ],
    ids=["sum", "shape", "number", "constant", "labels"],
)
def test_a_loss_that_cannot_be_used_is_one_error_before_any_work(loss, says, method):
    with pytest.raises(RequirementNotMet, match=says):
        weights(loss, method)


def test_a_function_whose_batch_is_no_mean_of_its_samples_gives_no_losses_of_samples():
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    with pytest.raises(RequirementNotMet, match="weighted gives no per-sample losses"):
        Criterion("classification", weighted).per_sample(logits, Y[:6])
    given = Criterion("classification", weighted)
    torch.testing.assert_close(given.over_samples(logits, Y[:6]), given(logits, Y[:6]))


def test_a_function_is_asked_for_one_sample_at_a_time():
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(1), requires_grad=True)
    losses = Criterion("classification", function).per_sample(logits, Y[:6])
    torch.testing.assert_close(losses, F.cross_entropy(logits, Y[:6], reduction="none"))
    assert losses.requires_grad
    assert Criterion("classification", function).per_sample(logits[:0], Y[:0]).shape == (0,)


def test_several_values_for_a_sample_are_averaged_too():
    logits, y = torch.randn(4, 3, generator=torch.Generator().manual_seed(2)), torch.tensor([[1, 0, 1]] * 4)
    given = Criterion("multilabel", Loss.of("BCEWithLogitsLoss", reduction="none"))
    torch.testing.assert_close(given(logits, y), Criterion("multilabel")(logits, y))
    torch.testing.assert_close(given.per_sample(logits, y), Criterion("multilabel").per_sample(logits, y))


def test_a_sum_is_refused_in_a_configuration_too():
    with pytest.raises(InvalidParameters, match='give reduction="mean"'):
        Loss.of("CrossEntropyLoss", reduction="sum")
    loss = {"class": "CrossEntropyLoss", "parameters": {"reduction": "sum"}}
    source = {"class": "Sklearn", "parameters": {"name": "iris"}}
    with pytest.raises(ConfigError, match='reduction="sum"'):
        load_experiment({"data": {"data_source": source}, "predictor": {"model": "MLP", "loss_fn": loss}})
