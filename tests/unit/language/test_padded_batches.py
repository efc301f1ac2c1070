"""What stands beside a sample in its batch, padding or other samples, changes no method's loss and no gradient."""

import copy

import pytest
import torch
import torch.nn.functional as F
from forgetting import DATA, FORGET, moved
from tiny_llama import gradients, llama, task

from erasure.functional.tokens import UNLABELLED
from erasure.training.batches import Batch
from erasure.training.calls import Optimizer
from erasure.unlearners.assistant import ULD
from erasure.unlearners.generic_predictions import WHP
from erasure.unlearners.gradient_difference import GradAscent, GradDiff, KLMin
from erasure.unlearners.negative_preference import NPO, SimNPO
from erasure.unlearners.primal_dual import PDU
from erasure.unlearners.refusal import IDK, IdkDPO
from erasure.unlearners.rmu import RMU
from erasure.unlearners.token_targets import CEU, UNDIAL, InvertedHinge
from erasure.unlearners.weighted_ascent import TNPO, WGA, WTNPO, SatImp, SimImp, SimSat

SGD = Optimizer.of("SGD", lr=0.01)
ASCENTS = [GradAscent(), GradDiff(), KLMin(retain_term="none"), WGA(), TNPO(), WTNPO(), SatImp(), SimSat(), SimImp()]
TARGETS = [UNDIAL(), CEU(), InvertedHinge(), PDU(), WHP(reinforce_epochs=1, reinforce_optimizer=SGD), ULD(assistant_epochs=1)]
METHODS = [*ASCENTS, NPO(), SimNPO(), IdkDPO(), IDK(), *TARGETS, RMU(block=1)]


def padded(batch, width=9):
    """More padding on the right, in tokens of no meaning, and as many unlabelled places."""
    x = F.pad(batch.x, (0, width))
    x[:, ::2, -width:] = 5
    return Batch(x, F.pad(batch.y, (0, width), value=UNLABELLED), batch.ids)


def turned(batch):
    order = torch.tensor([2, 0, 3, 1])
    return Batch(batch.x[order], batch.y[order], batch.ids[order])


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_padding_and_order_change_nothing(method):
    before = llama(DATA)
    student = copy.deepcopy(before)
    term = method.forget_term(student, task(DATA).seen_by(method))
    student.load_state_dict(moved(before).state_dict())
    n_tokens = method.n_tokens(FORGET, "forget")
    value = term(FORGET, 4, n_tokens)
    expected = gradients(student, value)
    for other in (padded(FORGET), turned(FORGET)):
        assert method.n_tokens(other, "forget") == n_tokens
        found = term(other, 4, n_tokens)
        torch.testing.assert_close(found, value, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(gradients(student, found), expected, rtol=1e-9, atol=1e-12)
