"""RMU on a tiny Llama in float64: what moves, what stays, and where to."""

import copy

import pytest
import torch
from forgetting import DATA, FORGET, RETAIN, moved, stepped
from tiny_llama import gradients, llama, task

from erasure.errors import RequirementNotMet
from erasure.functional.tokens import PADDING
from erasure.training.calls import Optimizer
from erasure.unlearners.rmu import RMU


@pytest.fixture
def model():
    return llama(DATA)


def states(model, block, batch):
    """States after a block of all tokens that are no padding, by the network's own output."""
    n = int((batch.x[:, 1] != PADDING).sum(1).max())
    found = model.network(input_ids=batch.x[:, 0, :n], output_hidden_states=True).hidden_states[block + 1]
    return found[(batch.x[:, 1] != PADDING)[:, :n]]


def test_only_the_chosen_weights_move(model):
    method = RMU(block=1, n_trained=2, steering=3.0, epochs=3, optimizer=Optimizer.of("AdamW", lr=0.01))
    after = method.run(model, task(DATA)).model
    moves = [
        name
        for (name, before), now in zip(model.named_parameters(), after.parameters(), strict=True)
        if not torch.equal(before, now)
    ]
    assert moves == ["network.model.layers.0.mlp.down_proj.weight", "network.model.layers.1.mlp.down_proj.weight"]
    assert all(parameter.requires_grad for parameter in after.parameters())


def test_the_loss_is_the_distance_from_a_direction_of_the_wanted_length(model):
    method = RMU(block=1, steering=3.0)
    given = task(DATA).seen_by(method)
    term = method.forget_term(model, given)
    u = torch.rand(16, generator=given.generator("direction")).double()
    target = 3.0 * u / u.norm()
    n_tokens = method.n_tokens(FORGET, "forget")
    wanted = (states(model, 1, FORGET) - target).square().mean()
    value = term(FORGET, 4, n_tokens)
    torch.testing.assert_close(value, wanted, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(gradients(model, value), gradients(model, wanted), rtol=1e-9, atol=1e-11)


def test_the_length_adapts_to_the_states_of_the_first_batch(model):
    given = task(DATA).seen_by(RMU())
    length = 2.5 * states(model, 1, FORGET).norm(dim=1).mean().item()
    adaptive = RMU(block=1, scale=2.5).forget_term(model, given)(FORGET, 4, torch.tensor(7))
    fixed = RMU(block=1, steering=length).forget_term(model, given)(FORGET, 4, torch.tensor(7))
    torch.testing.assert_close(adaptive, fixed, rtol=1e-6, atol=0)


def test_retained_states_are_held_where_they_were(model):
    method = RMU(block=1)
    student = copy.deepcopy(model)
    term = method.retained_term(student, task(DATA).seen_by(method))
    n_tokens = method.n_tokens(RETAIN, "retain")
    assert term(RETAIN, 4, n_tokens).item() == 0
    student.load_state_dict(moved(model).state_dict())
    wanted = (states(student, 1, RETAIN) - states(model, 1, RETAIN)).square().mean()
    torch.testing.assert_close(term(RETAIN, 4, n_tokens), wanted, rtol=1e-12, atol=1e-14)


def test_a_step_in_pieces_is_the_step_of_the_whole_batch(model):
    method = RMU(block=1, steering=3.0, retain_weight=2.0)
    torch.testing.assert_close(stepped(method.replace(piece_size=1), model), stepped(method, model), rtol=0, atol=1e-11)


def test_blocks_and_weights_that_are_not_there_are_named(model):
    with pytest.raises(RequirementNotMet, match="no block 7; the network has 3"):
        RMU(block=7).try_on(model, FORGET, None)
    with pytest.raises(RequirementNotMet, match=r"no nn\.ModuleList"):
        RMU().try_on(torch.nn.Linear(2, 2), FORGET, None)
    with pytest.raises(RequirementNotMet, match="retain term of its own"):
        RMU(retain_term="nll")
