"""Answers of teachers that are asked ahead of a training."""

import gc
import weakref
from dataclasses import replace

import pytest
import torch
from torch import nn
from toys import tiny_net, tiny_task

from erasure.unlearners.contract import frozen_copy
from erasure.unlearners.taught import TaughtBatches

EPOCHS = 3


class Chancy(nn.Module):
    """A network that draws even in eval mode."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return nn.functional.dropout(self.network(x), 0.5, training=True)


def task_and_batches():
    task = replace(tiny_task(), roles={"forget": "forget"})
    return task, task.batches("forget", batch_size=4)


def taught_by(teacher, batches, task, epochs=EPOCHS):
    return TaughtBatches(batches, epochs, (teacher,), lambda batch: teacher(batch.x), task)


def passes(taught, epochs=EPOCHS):
    return [(batch.ids.tolist(), answers()) for _ in range(epochs) for batch, answers in taught]


@pytest.mark.parametrize("network", [tiny_net(), Chancy(tiny_net())], ids=["settled", "chancy"])
def test_answers_and_batches_are_those_of_asking_each_time(network):
    teacher = frozen_copy(network)
    torch.manual_seed(0)
    task, batches = task_and_batches()
    expected = [(batch.ids.tolist(), teacher(batch.x)) for _ in range(EPOCHS) for batch in batches]
    torch.manual_seed(0)
    found = passes(taught_by(teacher, task_and_batches()[1], task))
    assert [ids for ids, _ in found] == [ids for ids, _ in expected]
    assert all(torch.equal(one, other) for (_, one), (_, other) in zip(found, expected, strict=True))
    assert len({tuple(ids) for ids, _ in found}) > len(found) // EPOCHS  # or shuffling is not tried


@pytest.mark.parametrize(("epochs", "is_held"), [(1, False), (10_000, True)])
def test_a_teacher_is_held_only_where_its_answers_are_larger(epochs, is_held):
    task, batches = task_and_batches()
    teacher = frozen_copy(tiny_net())
    seen, taught = weakref.ref(teacher), taught_by(teacher, batches, task, epochs)
    del teacher
    gc.collect()
    assert (seen() is not None) == is_held
    assert len(passes(taught, 1)) == len(batches)


def test_more_epochs_than_announced_are_refused():
    task, batches = task_and_batches()
    taught = taught_by(frozen_copy(tiny_net()), batches, task, 1)
    passes(taught, 1)
    with pytest.raises(RuntimeError, match="more epochs"):
        passes(taught, 1)
