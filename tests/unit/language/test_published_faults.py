"""The field ``legacy``: losses as reference codes compute them, by plain loops on a tiny Llama in float64."""

import math

import pytest
import torch
from forgetting import DATA, FORGET, RETAIN, compare, moved
from tiny_llama import gradients, llama, task

from erasure.errors import RequirementNotMet
from erasure.functional.tokens import ANSWER, END, PADDING, PARAPHRASE, WRONG, n_versions
from erasure.measures.truth_ratio import TruthRatio, ratios_of_losses, version_losses
from erasure.testing.evaluations import language_bench
from erasure.unlearners.gradient_difference import KLMin
from erasure.unlearners.negative_preference import NPO
from erasure.unlearners.primal_dual import PDU
from erasure.unlearners.token_targets import UNDIAL


@pytest.fixture
def model():
    return llama(DATA)


def everywhere(model, batch):
    """Logits of a padded batch; padding is the token that ends answers, and is masked."""
    real = batch.x[:, 1] != PADDING
    length = int(real.sum(1).max())
    end = int(batch.x[:, 0][batch.x[:, 1] == END][0])
    ids = torch.where(real, batch.x[:, 0], end)[:, :length]
    return model.network(input_ids=ids, attention_mask=real[:, :length].long()).logits


def labels(batch, length):
    return torch.where(batch.x[:, 1] >= ANSWER, batch.x[:, 0], -100)[:, :length]


def after(method, model, batch=FORGET, role="forget"):
    """The method's term on a model that has moved since."""
    student = moved(model, scale=0.0)
    given = task(DATA).seen_by(method)
    term = method.forget_term(student, given) if role == "forget" else method.retained_term(student, given)
    student.load_state_dict(moved(model).state_dict())
    return student, term(batch, len(batch.y), (batch.y != -100).sum())


def test_the_divergence_of_klmin_is_averaged_over_prompts_and_padding(model):
    student, found = after(KLMin(legacy=True), model, RETAIN, "retain")
    p, q = everywhere(model, RETAIN).detach().softmax(-1), everywhere(student, RETAIN).softmax(-1)
    compare(found, (p * (p.log() - q.log())).sum() / (p.shape[0] * p.shape[1]), student)


def test_the_ratios_of_npo_are_those_of_logits(model):
    student, found = after(NPO(legacy=True, beta=0.3), model)
    difference = everywhere(student, FORGET) - everywhere(model, FORGET).detach()
    compare(found, (2 / 0.3) * (1 + (0.3 * difference).exp()).log().mean(), student)
    first = {}
    for legacy in (False, True):
        method = NPO(legacy=legacy, beta=0.3)
        value = method.forget_term(model, task(DATA).seen_by(method))(FORGET, 4, torch.tensor(1))
        first[legacy] = (value.item(), gradients(model, value))
    assert first[True][0] == pytest.approx(2 / 0.3 * math.log(2))
    assert first[False][0] == pytest.approx(first[True][0])  # a test of the first value does not find the fault
    assert first[True][1].norm() < first[False][1].norm() / 2


def test_undial_pushes_an_unrelated_token_down_on_prompts_and_padding(model):
    student, found = after(UNDIAL(legacy=True, beta=4.0), model)
    before, logits = everywhere(model, FORGET).detach()[:, :-1], everywhere(student, FORGET)[:, :-1]
    target = before.clone()
    for row, line in enumerate(labels(FORGET, before.shape[1] + 1)[:, 1:].tolist()):
        for place, label in enumerate(line):
            target[row, place, label] -= 4.0  # label -100 counts from the end
    compare(found, -(target.softmax(-1) * logits.log_softmax(-1)).sum(-1).mean(), student)


def test_pdu_flattens_one_position_too_late(model):
    student, found = after(PDU(legacy=True, bound=1.0), model)
    logits = everywhere(student, FORGET)
    chosen = logits[labels(FORGET, logits.shape[1]) != -100]
    compare(found, (chosen.amax(1) - chosen.mean(1)).square().mean(), student)


@pytest.mark.parametrize("method", [KLMin, NPO, UNDIAL, PDU])
def test_batches_stay_whole_and_networks_must_show_every_position(method, model):
    with pytest.raises(RequirementNotMet, match="leave piece_size out"):
        method(legacy=True, piece_size=2)
    chosen = method(legacy=True)
    with pytest.raises(RequirementNotMet, match="prompts and padding"):
        (chosen.retained_term if method is KLMin else chosen.forget_term)(torch.nn.Linear(1, 1), task(DATA).seen_by(chosen))


def test_the_floor_under_probabilities_makes_every_ratio_of_a_ruined_model_vanish():
    given = language_bench()
    evaluation = given.evaluation(TruthRatio(), "fair")
    wrong = torch.stack([version_losses(evaluation, "forget", WRONG + k) for k in range(n_versions(given.x[:1]) - WRONG)])
    true = version_losses(evaluation, "forget", PARAPHRASE)
    for far in (0.0, 40.0):  # nats that the model has lost
        losses = {"true": true + far, "wrong": wrong.nanmean(0) + far}
        plain = (-losses["wrong"]).exp() / ((-losses["true"]).exp() + 1e-10)
        found = ratios_of_losses(losses["true"], losses["wrong"], legacy=True).exp()
        torch.testing.assert_close(found, plain)
        assert bool((found < 1e-6).all()) == (far > 0)
        torch.testing.assert_close(ratios_of_losses(losses["true"], losses["wrong"]), true - wrong.nanmean(0))
    assert TruthRatio(legacy=True).measure(evaluation)[0].value == pytest.approx(
        TruthRatio().measure(evaluation)[0].value, rel=1e-4
    )
