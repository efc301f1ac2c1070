"""A method for language models that is stopped goes on from a checkpoint, and ends with the same weights."""

from dataclasses import replace

import pytest
import torch
from forgetting import DATA
from tiny_llama import llama, task

from erasure.training.calls import Optimizer
from erasure.unlearners.advanced_neg_grad import AdvancedNegGrad
from erasure.unlearners.assistant import ULD
from erasure.unlearners.generic_predictions import WHP
from erasure.unlearners.gradient_difference import GradDiff
from erasure.unlearners.gradient_rectified import GRU
from erasure.unlearners.l1_sparse import L1Sparse
from erasure.unlearners.masked_small_gradients import MaskedSmallGradients
from erasure.unlearners.neg_merge import NegMerge
from erasure.unlearners.negative_preference import NPO
from erasure.unlearners.ortho_grad import OrthoGrad
from erasure.unlearners.primal_dual import PDU
from erasure.unlearners.rmu import RMU
from erasure.unlearners.task_vector import TaskVector
from erasure.unlearners.uam import UAM

RATE = Optimizer.of("AdamW", lr=0.01)
COMMON = {"epochs": 4, "batch_size": 2, "optimizer": RATE}
METHODS = [
    GradDiff(**COMMON),
    NPO(**COMMON, retain_term="kl"),
    RMU(**COMMON),
    PDU(**COMMON, warm_up=1, dual_rate=5.0, bound=0.0),
    GRU(inner=PDU(**COMMON, warm_up=1, dual_rate=5.0, bound=0.0)),
    TaskVector(**COMMON),
    AdvancedNegGrad(**COMMON),
    L1Sparse(**COMMON),
    OrthoGrad(**COMMON),
    MaskedSmallGradients(**COMMON, layers="all"),
    UAM(**COMMON),
]
TWICE = [
    WHP(**COMMON, reinforce_epochs=4, reinforce_optimizer=RATE),
    ULD(**COMMON, assistant_epochs=4, assistant_optimizer=RATE),
    GRU(inner=WHP(**COMMON, reinforce_epochs=4, reinforce_optimizer=RATE)),
    NegMerge(epochs=4, batch_size=2, optimizer=RATE, learning_rates=(0.01, 0.02)),
]


class Stopped(Exception):
    """What a stop looks like to the test."""


class Memory:
    """The last checkpoint of a method, in this process, and those of its steps."""

    def __init__(self, stop_at=None):
        self.checkpoint, self.parts, self.stop_at, self.first_epoch = None, {}, stop_at, None

    def part(self, number):
        return self.parts.setdefault(number, Memory(self.stop_at))

    def found(self):
        self.first_epoch = 0 if self.checkpoint is None else self.checkpoint.epoch
        return self.checkpoint

    def is_due(self):
        return True

    def keep(self, checkpoint):
        self.checkpoint = checkpoint
        if checkpoint.epoch == self.stop_at:
            raise Stopped


def name_of(method):
    return type(method).__name__


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("method", METHODS, ids=name_of)
def test_it_goes_on_to_the_same_weights(method):
    whole = weights(method.run(llama(DATA), task(DATA)).model)
    memory, epochs = Memory(), []

    def note(epoch, n_epochs, model):
        epochs.append(epoch)
        if len(epochs) == 3:
            raise Stopped

    context = replace(task(DATA), checkpoints=(method, memory), on_epoch=note)
    with pytest.raises(Stopped):
        method.run(llama(DATA), context)
    assert memory.checkpoint.epoch == 2
    resumed = method.run(llama(DATA), replace(context, streams=task(DATA).streams)).model
    assert epochs == [1, 2, 3, 3, 4]
    assert torch.equal(weights(resumed), whole)


@pytest.mark.parametrize("method", TWICE, ids=name_of)
def test_what_is_trained_before_goes_on_too(method):
    whole = weights(method.run(llama(DATA), task(DATA)).model)
    memory = Memory(stop_at=3)
    with pytest.raises(Stopped):
        method.run(llama(DATA), replace(task(DATA), checkpoints=(method, memory)))
    assert memory.checkpoint is None
    (part,) = memory.parts.values()
    part.stop_at = memory.stop_at = None
    resumed = method.run(llama(DATA), replace(task(DATA), checkpoints=(method, memory))).model
    assert part.first_epoch == 3
    assert torch.equal(weights(resumed), whole)
