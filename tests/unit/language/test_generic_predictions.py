"""WHP against plain formulas, values and gradients, on a tiny Llama in float64."""

import copy

import pytest
import torch
import torch.nn.functional as F
from forgetting import DATA, FORGET, After, compare, stepped
from tiny_llama import llama

from erasure.functional.tokens import UNLABELLED
from erasure.training.calls import Optimizer
from erasure.unlearners.generic_predictions import WHP, generic_logits


@pytest.fixture
def model():
    return llama(DATA)


def rows(model):
    logits = model(FORGET.x)
    return logits[FORGET.y[:, : logits.shape[1]] != UNLABELLED]


def reinforced(model, method):
    """Plain training of a copy on the forget set, which is one batch."""
    tuned = copy.deepcopy(model)
    for _ in range(method.reinforce_epochs):
        labels = FORGET.y[FORGET.y != UNLABELLED]
        loss = F.cross_entropy(rows(tuned), labels)
        gradients = torch.autograd.grad(loss, list(tuned.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(tuned.parameters(), gradients, strict=True):
                parameter -= 0.01 * gradient
    return tuned


def test_the_target_is_the_likeliest_token_that_reinforcing_does_not_raise(model):
    method = WHP(strength=3.0, reinforce_epochs=2, reinforce_optimizer=Optimizer.of("SGD", lr=0.01))
    after = After(method, model)
    before, raised = rows(model).detach(), rows(reinforced(model, method)).detach()
    tokens = torch.stack([(z - 3 * (up - z).clamp_min(0)).argmax() for z, up in zip(before, raised, strict=True)])
    assert (tokens != before.argmax(1)).any()
    compare(after.loss(), F.cross_entropy(rows(after.student), tokens), after.student)


@pytest.mark.parametrize("changes", [{"strength": 0.0}, {"reinforce_epochs": 0}], ids=["strength", "epochs"])
def test_without_reinforcement_the_originals_own_predictions_are_taught(model, changes):
    after = After(WHP(**changes), model)
    compare(after.loss(), F.cross_entropy(rows(after.student), rows(model).detach().argmax(1)), after.student)


def test_logits_that_are_not_raised_stay():
    before, raised = torch.tensor([[2.0, -1.0, 0.0]]), torch.tensor([[1.0, -1.0, 0.25]])
    assert torch.equal(generic_logits(before, raised, 8.0), torch.tensor([[2.0, -1.0, -2.0]]))
    assert torch.equal(generic_logits(before, before, 8.0), before)


def test_a_step_in_pieces_is_the_step_of_the_whole_batch(model):
    method = WHP(reinforce_optimizer=Optimizer.of("SGD", lr=0.01))
    torch.testing.assert_close(stepped(method.replace(piece_size=3), model), stepped(method, model), rtol=0, atol=1e-12)
