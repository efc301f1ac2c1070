"""What must be true of methods for language models whatever the model is, on logits that stand in a table."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from forgetting import DATA, FORGET, RETAIN, nll, stepped
from tiny_llama import gradients, llama, task
from torch import nn

from erasure.functional.tokens import UNLABELLED, answer_tokens, labelled
from erasure.training.batches import Batch
from erasure.unlearners.gradient_difference import GradAscent, GradDiff
from erasure.unlearners.negative_preference import NPO, SimNPO
from erasure.unlearners.refusal import IdkDPO
from erasure.unlearners.rmu import RMU
from erasure.unlearners.token_targets import CEU
from erasure.unlearners.weighted_ascent import TNPO, WGA, WTNPO, SatImp, SimImp, SimSat

N_TOKENS = (FORGET.y != UNLABELLED).sum()


class Table(nn.Module):
    """A model whose logits of the forgotten answers are its parameters."""

    def __init__(self, seed=0, scale=2.0, y=FORGET.y, n_classes=DATA.n_classes):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.logits = nn.Parameter(scale * torch.randn(*y.shape, n_classes, dtype=torch.float64, generator=generator))

    def forward(self, x):
        return self.logits[: len(x)]


def certain(y=FORGET.y):
    """A model that is sure of every answer."""
    model = Table(scale=0.0, y=y)
    with torch.no_grad():
        model.logits.scatter_(-1, y.clamp_min(0).unsqueeze(-1), 1000.0)
    return model


def term_after(method, before, student, context=None):
    """The forget term of a student, of a method that saw the model before."""
    moving = copy.deepcopy(before)
    term = method.forget_term(moving, (context or task(DATA)).seen_by(method))
    moving.load_state_dict(student.state_dict())
    return moving, term


def to_logits(method, student, batch=FORGET, n_tokens=N_TOKENS, before=None):
    """Gradient of the forget term for the logits."""
    moving, term = term_after(method, before or student, student)
    (found,) = torch.autograd.grad(term(batch, len(batch.y), n_tokens), moving.logits)
    return found


def test_ascent_and_descent_on_one_batch_cancel_to_second_order():
    model = llama(DATA)
    plain = GradAscent(retain_term="none", batch_size=4)

    def left(rate):
        up = copy.deepcopy(model)
        step = gradients(model, nll(model, FORGET))
        nn.utils.vector_to_parameters(nn.utils.parameters_to_vector(up.parameters()) + rate * step, up.parameters())
        return (rate * step - rate * gradients(up, nll(up, FORGET))).norm()

    # Up by the method, down by fine-tuning: what is left is a fourth for half the rate.
    torch.testing.assert_close(stepped(plain, model), gradients(model, nll(model, FORGET)), rtol=1e-9, atol=1e-12)
    assert left(1e-4) / left(5e-5) == pytest.approx(4, rel=0.02)


def test_a_difference_of_a_batch_from_itself_moves_nothing():
    model, method = llama(DATA), GradDiff()
    given = task(DATA).seen_by(method)
    loss = sum(term(FORGET, 4, N_TOKENS) for term in (method.forget_term(model, given), method.retained_term(model, given)))
    assert gradients(model, loss).abs().max() < 1e-12


def test_negative_preference_ends_where_answers_have_become_impossible():
    before, student = Table(), certain()
    with torch.no_grad():
        student.logits.neg_()
    moving, term = term_after(NPO(beta=0.5), before, student)
    value = term(FORGET, 4, N_TOKENS)
    assert 0 <= value.item() < 1e-12
    assert torch.autograd.grad(value, moving.logits)[0].abs().max() < 1e-12


def test_simple_negative_preference_is_the_one_that_was_sure_of_everything():
    context = task(DATA)
    for sample in range(4):
        batch = Batch(FORGET.x[[sample]], answer_tokens(FORGET.x[[sample]]), FORGET.ids[[sample]])
        n_tokens = labelled(batch.y).sum()
        student = Table(y=batch.y)
        length = int(n_tokens)
        alone = replace(context, partitions={**context.partitions, "forget": batch.ids})
        _, with_reference = term_after(NPO(beta=0.7 / length), certain(batch.y), student, alone)
        _, without = term_after(SimNPO(beta=0.7), student, student, alone)
        torch.testing.assert_close(without(batch, 1, n_tokens), with_reference(batch, 1, n_tokens) / length, rtol=1e-9, atol=0)


def test_a_preference_without_a_winner_is_negative_preference():
    """Where the probability of the alternates stays, only that of the forgotten answers is left."""

    class Sides(Table):
        """Logits of forgotten answers, and of alternates that stay."""

        def forward(self, x):
            if torch.equal(x[:, :2], FORGET.x[:, :2]):
                return self.logits
            return torch.zeros(*answer_tokens(x).shape, DATA.n_classes, dtype=torch.float64)

    before, student = Sides(seed=0), Sides(seed=1)
    given = to_logits(IdkDPO(beta=0.3), student, before=before)
    torch.testing.assert_close(given, to_logits(NPO(beta=0.3), student, before=before), rtol=1e-9, atol=1e-14)


def test_states_that_are_the_target_cost_nothing():
    class Cell(nn.Module):
        def __init__(self):
            super().__init__()
            self.down_proj = nn.Parameter(torch.zeros(16, dtype=torch.float64))

        def forward(self, x):
            return self.down_proj.expand(len(x), int((x[:, 1] != 0).sum(1).max()), 16)

    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([Cell()])

        def forward(self, x):
            return self.layers[0](x)

    method, model = RMU(steering=3.0, block=0), Constant()
    given = task(DATA).seen_by(method)
    term = method.forget_term(model, given)
    n_tokens = method.n_tokens(FORGET, "forget")
    assert term(FORGET, 4, n_tokens) > 0
    with torch.no_grad():
        u = torch.rand(16, generator=given.generator("direction")).double()
        model.layers[0].down_proj.copy_(3.0 * u / u.norm())
    assert term(FORGET, 4, n_tokens).item() < 1e-28


@pytest.mark.parametrize("method", [WGA(beta=2.0), SimSat(), SimImp(), SatImp()], ids=lambda method: type(method).__name__)
def test_weighted_ascent_pushes_no_token_harder_than_plain_ascent(method):
    student = Table()
    with torch.no_grad():  # some likely tokens too
        student.logits[:2] += 0.02 * certain().logits[:2]
    weighted, plain = (to_logits(each, student).norm(dim=-1) for each in (method, GradAscent()))
    assert (weighted <= plain * (1 + 1e-12)).all()
    assert (weighted < 0.9 * plain).any()


def test_token_preference_at_the_original_is_ascent_and_weighs_at_most_twice():
    student, other = Table(seed=0), Table(seed=1)
    plain = to_logits(GradAscent(), student)
    torch.testing.assert_close(to_logits(TNPO(), student), plain, rtol=1e-12, atol=1e-16)
    for method in (TNPO(), WTNPO()):
        moved = to_logits(method, student, before=other).norm(dim=-1)
        assert (moved <= 2 * plain.norm(dim=-1) * (1 + 1e-12)).all()


def test_the_gradient_of_ce_u_is_bounded_sums_to_0_and_vanishes_with_the_token():
    method, student = CEU(skipped=0), Table()
    found = to_logits(method, student) * N_TOKENS
    p = student.logits.detach().softmax(-1)
    label = FORGET.y.clamp_min(0).unsqueeze(-1)
    own = p.gather(-1, label)
    wanted = (p - p / (1 - own)).scatter(-1, label, own) * labelled(FORGET.y).unsqueeze(-1)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-13)
    assert found.sum(-1).abs().max() < 1e-13
    assert found.abs().max() <= 1
    with torch.no_grad():
        student.logits.scatter_(-1, label, -1000.0)
    assert to_logits(method, student).abs().max() < 1e-15


def test_ce_u_ends_at_the_entropy_of_its_target():
    student = Table()
    with torch.no_grad():
        student.logits.scatter_(-1, FORGET.y.clamp_min(0).unsqueeze(-1), -1000.0)
    _, term = term_after(CEU(skipped=0), student, student)
    log_q = student.logits.detach().log_softmax(-1)
    entropy = -(log_q.exp() * log_q.clamp_min(-900)).sum(-1)[labelled(FORGET.y)].mean()
    torch.testing.assert_close(term(FORGET, 4, N_TOKENS).detach(), entropy, rtol=1e-10, atol=0)


def test_ce_u_with_two_tokens_teaches_the_other_one():
    y = torch.tensor([[0, 1, 1], [1, 0, UNLABELLED]])
    batch = Batch(FORGET.x[:2], y, FORGET.ids[:2])
    student = Table(y=y, n_classes=2)
    _, term = term_after(CEU(skipped=0), student, student)
    other = torch.where(labelled(y), 1 - y, y)
    wanted = F.cross_entropy(student.logits.flatten(0, 1), other.flatten(), ignore_index=UNLABELLED)
    torch.testing.assert_close(term(batch, 2, labelled(y).sum()), wanted, rtol=1e-12, atol=0)


def test_every_term_of_retained_answers_is_blind_to_the_cut_of_the_batch():
    model = llama(DATA)
    for method in (GradDiff(), GradDiff(retain_term="kl")):
        student = copy.deepcopy(model)
        term = method.retained_term(student, task(DATA).seen_by(method))
        n_tokens = labelled(RETAIN.y).sum()
        whole = term(RETAIN, 4, n_tokens)
        halves = sum(
            term(Batch(RETAIN.x[part], RETAIN.y[part], RETAIN.ids[part]), 4, n_tokens) for part in (slice(0, 1), slice(1, 4))
        )
        torch.testing.assert_close(whole, halves, rtol=1e-12, atol=1e-14)
