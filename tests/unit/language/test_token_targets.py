"""UNDIAL, CE-U and the inverted hinge against plain formulas, values and gradients, on a tiny Llama in float64."""

import pytest
import torch
import torch.nn.functional as F
from forgetting import DATA, FORGET, After, compare, stepped
from tiny_llama import gradients, llama, task

from erasure.functional.tokens import UNLABELLED
from erasure.unlearners.token_targets import CEU, UNDIAL, InvertedHinge


@pytest.fixture
def model():
    return llama(DATA)


def rows(model, skipped=0):
    """Logits and label of every token of the forget batch."""
    logits = model(FORGET.x)
    kept = FORGET.y[:, : logits.shape[1]] != UNLABELLED
    kept[:, :skipped] = False
    return logits[kept], FORGET.y[:, : logits.shape[1]][kept]


def test_undial_is_cross_entropy_with_the_lowered_original(model):
    after = After(UNDIAL(beta=4.0), model)
    before, labels = rows(model)
    target = (before.detach() - 4 * F.one_hot(labels, before.shape[1])).softmax(1)
    torch.testing.assert_close(target.sum(1), torch.ones(len(target), dtype=torch.float64))
    logits, _ = rows(after.student)
    compare(after.loss(), F.cross_entropy(logits, target), after.student)


def test_undial_without_a_push_moves_nothing(model):
    method = UNDIAL(beta=0.0)
    term = method.forget_term(model, task(DATA).seen_by(method))
    assert gradients(model, term(FORGET, 4, torch.tensor(1))).abs().max() < 1e-10


def test_a_hard_push_of_undial_is_the_target_of_ce_u(model):
    undial = UNDIAL(beta=700.0)
    ceu = CEU(skipped=0)
    found = [method.forget_term(model, task(DATA).seen_by(method))(FORGET, 4, torch.tensor(9)) for method in (undial, ceu)]
    compare(*found, model)


def test_ce_u_is_cross_entropy_with_the_prediction_without_the_token(model):
    after = After(CEU(skipped=1), model)
    logits, labels = rows(after.student, skipped=1)
    p = logits.detach().softmax(1)
    own = p.gather(1, labels[:, None])
    target = (p / (1 - own)).scatter(1, labels[:, None], 0.0)
    value = after.term(FORGET, 4, CEU().n_tokens(FORGET, "forget"))
    compare(value, F.cross_entropy(logits, target), after.student)
    leaf = logits.detach().requires_grad_()
    (found,) = torch.autograd.grad(F.cross_entropy(leaf, target, reduction="sum"), leaf)
    torch.testing.assert_close(found.sum(1), torch.zeros(len(found), dtype=torch.float64), rtol=0, atol=1e-12)


def test_the_inverted_hinge_is_bounded_and_follows_its_formula(model):
    after = After(InvertedHinge(), model)
    logits, labels = rows(after.student)
    p = logits.softmax(1)
    other = torch.stack([torch.cat([row[:k], row[k + 1 :]]).max() for row, k in zip(p, labels.tolist(), strict=True)])
    wanted = (1 + p.gather(1, labels[:, None])[:, 0] - other).mean()
    compare(after.loss(), wanted, after.student)
    assert 0 <= after.loss().item() <= 2


@pytest.mark.parametrize("method", [UNDIAL(), CEU(), InvertedHinge()], ids=lambda m: type(m).__name__)
def test_a_step_in_pieces_is_the_step_of_the_whole_batch(model, method):
    torch.testing.assert_close(stepped(method.replace(piece_size=3), model), stepped(method, model), rtol=0, atol=1e-12)
