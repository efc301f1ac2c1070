"""PDU and GRU against plain formulas, values and gradients, on a tiny Llama in float64."""

import pytest
import torch
from forgetting import DATA, FORGET, After, compare, nll, stepped, term_of
from tiny_llama import gradients, llama, task

from erasure.errors import RequirementNotMet
from erasure.functional.tokens import UNLABELLED
from erasure.training.calls import Optimizer
from erasure.unlearners.gradient_difference import GradAscent, GradDiff
from erasure.unlearners.gradient_rectified import GRU, rectified
from erasure.unlearners.negative_preference import NPO
from erasure.unlearners.primal_dual import PDU
from erasure.unlearners.rmu import RMU


@pytest.fixture
def model():
    return llama(DATA)


def retained_of(method, batch_size=4):
    return next(iter(task(DATA, batch_size=batch_size).seen_by(method).batches("retain")))


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def flatness(model, batch):
    """The plain formula, token by token."""
    found = []
    for row, labels in zip(model(batch.x), batch.y, strict=True):
        found += [(z.max() - z.mean()) ** 2 for z in row[: int((labels != UNLABELLED).sum())]]
    return torch.stack(found).mean()


def test_logits_of_forgotten_tokens_are_flattened(model):
    after = After(PDU(bound=1.0), model)
    compare(after.loss(), flatness(after.student, FORGET), after.student)


def test_flattening_is_blind_to_a_shift_of_the_logits_and_0_where_they_are_equal(model):
    class Shifted(torch.nn.Module):
        def __init__(self, scale, shift):
            super().__init__()
            self.network, self.scale, self.shift = model, scale, shift

        def forward(self, x):
            return self.scale * self.network(x) + self.shift

    found = [term_of(PDU(bound=1.0), Shifted(scale, shift)).item() for scale, shift in ((1, 0), (1, 7.5), (0, 3))]
    assert found[1] == pytest.approx(found[0], rel=1e-12)
    assert found[2] == 0
    assert found[0] > 0.1


@pytest.mark.parametrize("slack", [-1.0, 1.0])
def test_the_weight_of_the_retain_loss_follows_its_excess_and_never_becomes_negative(model, slack):
    """Two batches an epoch at a rate of almost nothing: the weight is seen in the second step."""
    method = PDU(retain_weight=0.3, dual_rate=2.0, warm_up=0, epochs=1)
    given = task(DATA, batch_size=2).seen_by(method)
    first, second = given.batches("retain").cycled(2)
    bound = nll(model, first).item() + slack
    weight = max(0.0, 0.3 - 2 * slack)
    forget = list(given.batches("forget"))
    wanted = -sum(
        gradients(model, flatness(model, f) + w * nll(model, r))
        for f, r, w in zip(forget, (first, second), (0.3, weight), strict=True)
    )
    rate = 1e-9
    after = method.replace(bound=bound, optimizer=Optimizer.of("SGD", lr=rate)).run(model, task(DATA, batch_size=2)).model
    torch.testing.assert_close((flat(after) - flat(model)) / rate, wanted, rtol=1e-4, atol=1e-4)


def test_the_weight_stays_in_the_warm_up(model):
    method = PDU(retain_weight=0.5, bound=0.0, dual_rate=100.0, optimizer=Optimizer.of("SGD", lr=1e-3))
    after = [
        flat(method.replace(epochs=epochs, warm_up=warm_up).run(model, task(DATA, batch_size=2)).model)
        for epochs, warm_up in ((2, 2), (2, 9), (2, 1))
    ]
    assert torch.equal(after[0], after[1])
    assert not torch.equal(after[0], after[2])


def test_the_bound_is_the_originals_loss_and_some_slack(model):
    method = PDU(slack=0.25)
    given = task(DATA).seen_by(method)
    every = next(iter(given.batches("retain", batch_size=99, shuffle=False)))
    term = method.retained_term(model, given)
    n_tokens = (every.y != UNLABELLED).sum()
    assert term(every, len(every.y), n_tokens).item() == pytest.approx(-0.25, abs=1e-12)
    compare(term(every, len(every.y), n_tokens), nll(model, every) - nll(model, every).item() - 0.25, model)


def test_pdu_has_a_retain_term_of_its_own():
    with pytest.raises(RequirementNotMet, match="leave retain_term out"):
        PDU(retain_term="kl")


def test_a_rectified_step_is_the_projection(model):
    kept = gradients(model, nll(model, retained_of(GRU())))
    for inner, forget in ((GradAscent(), -nll(model, FORGET)), (NPO(retain_term="none"), term_of(NPO(), model))):
        wanted = gradients(model, forget)
        assert wanted @ kept < 0  # else nothing is shown
        plain = wanted - (wanted @ kept) / (kept @ kept) * kept
        chosen = inner.replace(epochs=1, optimizer=Optimizer.of("SGD", lr=1.0))
        after = GRU(inner=chosen).run(model, task(DATA)).model
        found = flat(model) - flat(after)
        torch.testing.assert_close(found, plain, rtol=1e-9, atol=1e-11)
        assert abs(found @ kept) < 1e-8 * (found.norm() * kept.norm())


def test_a_step_that_does_no_harm_is_left_alone(model):
    inner = GradDiff(forget_weight=0.1, retain_weight=5.0, epochs=1, optimizer=Optimizer.of("SGD", lr=0.01))
    torch.testing.assert_close(
        flat(GRU(inner=inner).run(model, task(DATA)).model), flat(inner.run(model, task(DATA)).model), rtol=0, atol=1e-15
    )


def test_a_rectified_gradient_never_points_against_what_is_kept():
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        wanted, kept = ([torch.randn(n, generator=generator, dtype=torch.float64) for n in (3, 5)] for _ in range(2))
        found = rectified(wanted, kept)
        inner = sum(float(a @ b) for a, b in zip(found, kept, strict=True))
        assert inner > -1e-12
        if sum(float(a @ b) for a, b in zip(wanted, kept, strict=True)) >= 0:
            assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    still = rectified(wanted, [torch.zeros_like(each) for each in kept])
    assert all(torch.equal(a, b) for a, b in zip(still, wanted, strict=True))


def test_earlier_retain_gradients_are_remembered(model):
    inner = GradAscent(epochs=1, optimizer=Optimizer.of("SGD", lr=1e-9))
    given = task(DATA, batch_size=2).seen_by(GRU(inner=inner))
    first, second = (gradients(model, nll(model, batch)) for batch in given.batches("retain").cycled(2))
    wanted = torch.zeros_like(first)
    for batch, kept in zip(given.seen_by(inner).batches("forget"), (first, 0.4 * first + 0.6 * second), strict=True):
        ascent = gradients(model, -nll(model, batch))
        wanted += ascent - min(0.0, float(ascent @ kept)) / float(kept @ kept) * kept
    after = GRU(inner=inner, smoothing=0.4).run(model, task(DATA, batch_size=2)).model
    torch.testing.assert_close((flat(model) - flat(after)) / 1e-9, wanted, rtol=1e-4, atol=1e-4)


def test_only_what_the_inner_method_trains_is_changed(model):
    inner = RMU(block=1, n_trained=1, steering=3.0, epochs=1, optimizer=Optimizer.of("SGD", lr=0.1))
    after = GRU(inner=inner).run(model, task(DATA)).model
    before = dict(model.named_parameters())
    changed = {name for name, p in after.named_parameters() if not torch.equal(p, before[name])}
    assert changed
    assert all("layers.1.mlp.down_proj" in name for name in changed)


@pytest.mark.parametrize("method", [PDU(warm_up=0), PDU(bound=0.5), GRU()], ids=["PDU", "PDU bounded", "GRU"])
def test_a_step_in_pieces_is_the_step_of_the_whole_batch(model, method):
    if isinstance(method, GRU):
        inner = method.inner.replace(epochs=1, optimizer=Optimizer.of("SGD", lr=1.0))
        first, second = (
            flat(method.replace(inner=inner.replace(piece_size=size)).run(model, task(DATA)).model) for size in (None, 1)
        )
    else:
        first, second = (stepped(method.replace(piece_size=size), model) for size in (None, 3))
    torch.testing.assert_close(second, first, rtol=0, atol=1e-12)
