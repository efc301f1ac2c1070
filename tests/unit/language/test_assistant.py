"""ULD against plain formulas, values and gradients, on a tiny Llama in float64."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from forgetting import DATA, FORGET, After, compare, stepped
from tiny_llama import gradients, llama, task

from erasure.functional.tokens import UNLABELLED
from erasure.training.calls import Optimizer
from erasure.unlearners.assistant import ULD, composed_logits

SGD = Optimizer.of("SGD", lr=0.01)


@pytest.fixture
def model():
    return llama(DATA)


def rows(model, batch=FORGET):
    logits = model(batch.x)
    return logits[batch.y[:, : logits.shape[1]] != UNLABELLED]


def trained_assistant(model, method):
    """The first blocks, one plain step on the forget set (one batch) and the retain batch that the streams give."""
    assistant = copy.deepcopy(model)
    del assistant.network.model.layers[2:]
    own = task(DATA).seen_by(method).step(1)
    retain = next(iter(own.batches("retain")))
    log_p = rows(assistant, retain).log_softmax(1)
    uniform = (-log_p.mean(1) - math.log(log_p.shape[1])).mean()
    loss = F.cross_entropy(rows(assistant), FORGET.y[FORGET.y != UNLABELLED]) + method.uniform_weight * uniform
    with torch.no_grad():
        for parameter, gradient in zip(
            assistant.parameters(), torch.autograd.grad(loss, list(assistant.parameters())), strict=True
        ):
            parameter -= 0.01 * gradient
    return assistant


def test_the_target_is_the_original_less_the_assistant(model):
    method = ULD(strength=0.7, assistant_epochs=1, assistant_optimizer=SGD)
    after = After(method, model)
    before, known = rows(model).detach(), rows(trained_assistant(model, method)).detach()
    target = []
    for z, z_a in zip(before, known, strict=True):
        least = z.sort(descending=True).values[len(z) // 10 - 1]
        kept = z < min(least, z.max() + math.log(0.1))
        target.append(torch.where(kept, z, z - 0.7 * (z_a.log_softmax(0) + math.log(len(z)))).softmax(0))
    compare(after.loss(), F.cross_entropy(rows(after.student), torch.stack(target)), after.student)


def test_an_indifferent_assistant_and_no_strength_teach_the_originals_predictions(model):
    z = torch.randn(5, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(composed_logits(z, torch.full_like(z, 3.5), 2.0, 0.1), z)
    term = ULD(strength=0.0, assistant_epochs=0)
    after = term.forget_term(model, task(DATA).seen_by(term))
    assert gradients(model, after(FORGET, 4, torch.tensor(1))).abs().max() < 1e-10


def test_unlikely_tokens_keep_their_logits_beyond_the_likeliest_tenth():
    z = torch.linspace(0, -19, 20)
    found = composed_logits(z, torch.arange(20.0), 1.0, 0.5)
    assert (found != z).tolist() == [True, True] + [False] * 18


def test_a_step_in_pieces_is_the_step_of_the_whole_batch(model):
    method = ULD(assistant_epochs=1, assistant_optimizer=SGD)
    torch.testing.assert_close(stepped(method.replace(piece_size=3), model), stepped(method, model), rtol=0, atol=1e-12)
