"""Methods for language models against plain formulas, values and gradients, on a tiny Llama in float64."""

import copy
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from forgetting import DATA, FORGET, RETAIN, After, compare, means, moved, nll, stepped, sums, term_of
from tiny_llama import gradients, llama, task

from erasure.errors import RequirementNotMet
from erasure.functional.tokens import ALTERNATE, UNLABELLED, version_of
from erasure.training.batches import TensorColumn
from erasure.training.calls import Optimizer
from erasure.unlearners.answers import Reference
from erasure.unlearners.assistant import ULD
from erasure.unlearners.contract import frozen_copy
from erasure.unlearners.gradient_difference import GradAscent, GradDiff, KLMin
from erasure.unlearners.gradient_rectified import GRU
from erasure.unlearners.negative_preference import NPO, SimNPO
from erasure.unlearners.refusal import IDK, IdkDPO
from erasure.unlearners.task_vector import TaskVector


@pytest.fixture
def model():
    return llama(DATA)


def test_ascent_is_minus_the_loss(model):
    compare(term_of(GradAscent(), model), -nll(model, FORGET), model)


def retained_of(given):
    """The retain batch of the first step."""
    return next(iter(given.batches("retain")))


@pytest.mark.parametrize(
    "method", [GradAscent(), GradDiff(), KLMin(), NPO(), SimNPO(), NPO(retain_term="kl"), NPO(retain_term="none")]
)
def test_a_step_in_pieces_is_the_step_of_the_whole_batch(model, method):
    whole = stepped(method, model)
    for size in (1, 3):
        torch.testing.assert_close(stepped(method.replace(piece_size=size), model), whole, rtol=0, atol=1e-12)


def test_the_step_of_a_difference_is_the_difference_of_the_steps(model):
    method = GradDiff(forget_weight=0.7, retain_weight=1.3)
    retain = retained_of(task(DATA).seen_by(method))
    wanted = -gradients(model, -0.7 * nll(model, FORGET) + 1.3 * nll(model, retain))
    torch.testing.assert_close(stepped(method, model), wanted, rtol=1e-9, atol=1e-11)


def test_partners_from_the_retain_set_differ_between_epochs(model):
    seen = []
    given = task(DATA, batch_size=2)
    method = GradDiff(epochs=6, optimizer=Optimizer.of("SGD", lr=0.0))

    def note(module, inputs):
        seen.append(inputs[0][:, 0, :24].sum(1).tolist())

    student = copy.deepcopy(model)
    handle = student.register_forward_pre_hook(note)
    method.unlearn(student, given.seen_by(method))
    handle.remove()
    retained = [tuple(rows) for rows in seen[1::2]]
    assert len(set(retained)) > 3


def test_keeping_predictions_costs_nothing_at_the_original(model):
    method = KLMin()
    term = method.retained_term(model, task(DATA).seen_by(method))
    value = term(RETAIN, len(RETAIN.y), (RETAIN.y != UNLABELLED).sum())
    assert abs(value.item()) < 1e-14
    assert gradients(model, value).abs().max() < 1e-12


def test_keeping_predictions_is_a_divergence_of_the_original_and_blind_to_padding(model):
    method = KLMin()
    student = copy.deepcopy(model)
    term = method.retained_term(student, task(DATA).seen_by(method))
    student.load_state_dict(moved(model).state_dict())
    value = term(RETAIN, len(RETAIN.y), (RETAIN.y != UNLABELLED).sum())
    log_0, log_p = model(RETAIN.x).log_softmax(-1).detach(), student(RETAIN.x).log_softmax(-1)
    wanted = F.kl_div(log_p, log_0, reduction="none", log_target=True).sum(-1)[RETAIN.y[:, : log_p.shape[1]] != UNLABELLED].mean()
    compare(value, wanted, student)
    wide = RETAIN._replace(x=F.pad(RETAIN.x, (0, 30)), y=F.pad(RETAIN.y, (0, 9), value=UNLABELLED))
    torch.testing.assert_close(term(wide, 4, (RETAIN.y != UNLABELLED).sum()), value, rtol=0, atol=1e-13)


@pytest.mark.parametrize("beta", [0.1, 2.0])
def test_negative_preference_starts_at_log_2_with_the_gradient_of_summed_ascent(model, beta):
    loss = term_of(NPO(beta=beta), model)
    assert loss.item() == pytest.approx(2 / beta * math.log(2), rel=1e-12)
    torch.testing.assert_close(gradients(model, loss), gradients(model, -sums(model, FORGET).mean()), rtol=1e-9, atol=1e-10)


def test_sums_of_whole_answers_keep_more_than_half_precision(model):
    assert term_of(NPO(beta=1.0), model.to(torch.bfloat16)).item() == pytest.approx(2 * math.log(2), rel=1e-4)


def test_negative_preference_follows_its_formula_away_from_the_original(model):
    after = After(NPO(beta=0.3), model)
    ratios = sums(model, FORGET).detach() - sums(after.student, FORGET)
    compare(after.loss(), (2 / 0.3) * torch.log1p(torch.exp(0.3 * ratios)).mean(), after.student)


def test_negative_preference_with_a_small_beta_is_ascent(model):
    after = After(NPO(beta=1e-6), model)
    torch.testing.assert_close(
        gradients(after.student, after.loss()),
        gradients(after.student, -sums(after.student, FORGET).mean()),
        rtol=1e-3,
        atol=1e-4,
    )


def test_simple_negative_preference_follows_its_formula_and_needs_no_reference(model):
    after = After(SimNPO(beta=2.5, delta=0.4), model)
    wanted = -(2 / 2.5) * torch.log(torch.sigmoid(2.5 * (means(after.student, FORGET) - 0.4))).mean()
    compare(after.loss(), wanted, after.student)
    again = SimNPO(beta=2.5, delta=0.4).forget_term(after.student, task(DATA).seen_by(SimNPO()))
    torch.testing.assert_close(again(FORGET, 4, (FORGET.y != UNLABELLED).sum()), after.loss(), rtol=0, atol=0)


def test_a_reference_does_not_move_with_the_model(model):
    before = frozen_copy(model)
    after = After(NPO(), model)
    log_ratio = sums(before, FORGET)
    given = task(DATA).seen_by(NPO())
    torch.testing.assert_close(Reference(model, given).sums("forget")[:4], log_ratio, rtol=0, atol=1e-12)
    assert not torch.equal(sums(after.student, FORGET), log_ratio)


def alternates(batch):
    return batch._replace(x=batch.x[:, 2:4], y=version_of(batch.x, ALTERNATE)[1])


def test_refusals_are_learned_as_any_answer(model):
    method = IDK()
    given = task(DATA).seen_by(method)
    value = method.forget_term(model, given)(FORGET, 4, method.n_tokens(FORGET, "forget"))
    compare(value, nll(model, alternates(FORGET)), model)
    torch.testing.assert_close(stepped(method.replace(piece_size=1), model), stepped(method, model), rtol=0, atol=1e-12)


def test_preference_follows_its_formula_and_starts_at_log_2(model):
    assert term_of(IdkDPO(beta=0.2), model).item() == pytest.approx(10 * math.log(2), rel=1e-12)
    after = After(IdkDPO(beta=0.2), model)
    won = sums(model, alternates(FORGET)).detach() - sums(after.student, alternates(FORGET))
    lost = sums(model, FORGET).detach() - sums(after.student, FORGET)
    compare(after.loss(), 10 * torch.log1p(torch.exp(-0.2 * (won - lost))).mean(), after.student)


def test_a_preference_for_the_same_answer_moves_nothing(model):
    same = FORGET.x.clone()
    same[:, 2:4] = same[:, 0:2]
    values = DATA.x.values.clone()
    values[:4] = same
    given = replace(task(DATA), x=TensorColumn(values)).seen_by(IdkDPO())
    student = copy.deepcopy(model)
    term = IdkDPO().forget_term(student, given)
    student.load_state_dict(moved(model).state_dict())
    value = term(FORGET._replace(x=same), 4, torch.tensor(1))
    assert value.item() == pytest.approx(20 * math.log(2), rel=1e-12)
    assert gradients(student, value).abs().max() < 1e-10


@pytest.mark.parametrize("method", [IDK(), IdkDPO()])
def test_a_sample_without_an_alternate_is_refused_by_its_number(model, method):
    values = DATA.x.values.clone()
    values[2, 2:4] = 0
    with pytest.raises(RequirementNotMet, match="forgotten sample 2 has no alternate"):
        method.run(model, replace(task(DATA), x=TensorColumn(values)))


@pytest.mark.parametrize("method", [KLMin(), TaskVector(), ULD(assistant_epochs=1), GRU()], ids=lambda m: type(m).__name__)
def test_of_low_rank_updates_each_moves_and_nothing_else(method):
    model = llama(DATA, lora_rank=2, n_layers=2)
    steps = {"epochs": 2, "optimizer": Optimizer.of("AdamW", lr=0.01)}
    method = method.replace(inner=method.inner.replace(**steps)) if isinstance(method, GRU) else method.replace(**steps)
    after = method.run(model, task(DATA)).model
    moving = "lora_B" if isinstance(method, TaskVector) else "lora_"
    for (name, before), now in zip(model.named_parameters(), after.named_parameters(), strict=True):
        assert torch.equal(before, now[1]) == (moving not in name), name
        assert now[1].requires_grad == ("lora_" in name)
