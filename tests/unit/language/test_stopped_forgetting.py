"""A method for language models that is stopped goes on from a checkpoint, and ends with the same weights."""

from dataclasses import replace

import pytest
import torch
from forgetting import DATA
from tiny_llama import llama, task

from erasure.training.calls import Optimizer
from erasure.unlearners.gradient_difference import GradDiff
from erasure.unlearners.gradient_rectified import GRU
from erasure.unlearners.negative_preference import NPO
from erasure.unlearners.primal_dual import PDU
from erasure.unlearners.rmu import RMU

COMMON = {"epochs": 4, "batch_size": 2, "optimizer": Optimizer.of("AdamW", lr=0.01)}
METHODS = [
    GradDiff(**COMMON),
    NPO(**COMMON, retain_term="kl"),
    RMU(**COMMON),
    PDU(**COMMON, warm_up=1, dual_rate=5.0, bound=0.0),
    GRU(inner=PDU(**COMMON, warm_up=1, dual_rate=5.0, bound=0.0)),
]


class Stopped(Exception):
    """What a stop looks like to the test."""


class Memory:
    """The last checkpoint of a method, in this process."""

    checkpoint = None

    def found(self):
        return self.checkpoint

    def is_due(self):
        return True

    def keep(self, checkpoint):
        self.checkpoint = checkpoint


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
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
