"""Token-weighted ascent against plain formulas, values and gradients, on a tiny Llama in float64."""

import pytest
import torch
from forgetting import DATA, FORGET, After, compare, each_loss, nll, stepped, term_of
from tiny_llama import gradients, llama

from erasure.unlearners.gradient_difference import GradAscent
from erasure.unlearners.weighted_ascent import TNPO, WGA, WTNPO, SatImp, SimImp, SimSat


@pytest.fixture
def model():
    return llama(DATA)


def weighted(model, weight, before=None):
    """The plain formula; ``weight`` takes probabilities now and before."""
    losses = torch.cat(each_loss(model, FORGET))
    p = losses.detach().neg().exp()
    p_0 = p if before is None else torch.cat(each_loss(before, FORGET)).detach().neg().exp()
    return -(weight(p, p_0) * losses).mean()


CASES = [
    (WGA(beta=2.0), lambda p, _: p**2),
    (TNPO(beta=3.0), lambda p, q: 2 * p**3 / (p**3 + q**3)),
    (WTNPO(beta=3.0, extra=1.5), lambda p, q: 2 * p**4.5 / (p**3 + q**3)),
    (SatImp(saturation=2.0, importance=0.5), lambda p, _: p**2 * (1 - p) ** 0.5),
    (SimSat(saturation=2.0), lambda p, _: p**2),
    (SimImp(importance=2.0), lambda p, _: (1 - p) ** 2),
]


@pytest.mark.parametrize(("method", "weight"), CASES, ids=lambda case: type(case).__name__)
def test_the_loss_is_the_weighted_one_and_no_gradient_flows_in_weights(model, method, weight):
    after = After(method, model)
    compare(after.loss(), weighted(after.student, weight, model), after.student)


@pytest.mark.parametrize(
    "method", [WGA(beta=0.0), TNPO(), SatImp(saturation=0.0, importance=0.0)], ids=lambda m: type(m).__name__
)
def test_weights_of_one_are_plain_ascent(model, method):
    torch.testing.assert_close(term_of(method, model), -nll(model, FORGET), rtol=1e-14, atol=1e-15)
    torch.testing.assert_close(
        gradients(model, term_of(method, model)), gradients(model, term_of(GradAscent(), model)), rtol=1e-13, atol=1e-14
    )


def test_saturation_alone_is_weighted_ascent(model):
    torch.testing.assert_close(term_of(SimSat(saturation=1.5), model), term_of(WGA(beta=1.5), model), rtol=1e-14, atol=1e-15)


def test_weights_vanish_at_both_ends_and_are_largest_between():
    class Message:
        losses = torch.tensor([[0.0, 1e4, 0.7, 0.2]], dtype=torch.float64)

    method = SatImp(saturation=5.0, importance=1.0)
    weights = method.weights(None, None)(Message, None)[0]
    assert weights[:2].tolist() == [0, 0]
    grid = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
    Message.losses = -grid.log()[None]
    best = method.weights(None, None)(Message, None)[0].argmax()
    assert grid[best].item() == pytest.approx(5 / 6, abs=2e-3)


@pytest.mark.parametrize("method", [TNPO(), SatImp()], ids=lambda m: type(m).__name__)
def test_a_step_in_pieces_is_the_step_of_the_whole_batch(model, method):
    torch.testing.assert_close(stepped(method.replace(piece_size=1), model), stepped(method, model), rtol=0, atol=1e-12)
