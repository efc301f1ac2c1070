"""Amnesiac unlearning: the sum of the touched updates, taken back."""

import copy
import dataclasses

import pytest
import torch
from torch.nn.utils import parameters_to_vector
from toys import (
    Memorised,
    SgdByHand,
    Shuffles,
    cross_entropy_by_hand,
    distance,
    logits_by_hand,
    loss_by_hand,
    memorised,
    same_model,
    sgd,
    start,
    tiny_net,
    tiny_task,
    unlearned,
    weights,
)

from erasure.errors import RequirementNotMet
from erasure.testing.problems import MemoryModels, problem
from erasure.training.batches import Batch
from erasure.training.calls import Optimizer
from erasure.training.history import Update
from erasure.training.predictor import Model, Predictor
from erasure.unlearners.amnesiac import AmnesiacUnlearning

ALONE = AmnesiacUnlearning(repair_epochs=0)


class TrainingByHand:
    """A bank whose original is trained by plain formulas, in batches of six."""

    def __init__(self, task, n_steps: int = 8, returned_step: int = 8) -> None:
        self.x, self.y, self.n_steps, self.returned_step = task.x.values, task.y, n_steps, returned_step
        self.deltas: list[tuple[torch.Tensor, list[torch.Tensor]]] = []
        self.states: list[list[torch.Tensor]] = []
        self.run(lambda ids, parameters: None)

    def run(self, on_update) -> None:
        parameters = start(tiny_net(5))
        steps = SgdByHand(parameters, 0.3, momentum=0.9)
        self.states, self.deltas = [[p.detach().clone() for p in parameters]], []
        on_update(None, parameters)
        for step in range(self.n_steps):
            ids = torch.arange(6) * 4 + step % 4
            steps.step(cross_entropy_by_hand(logits_by_hand(parameters, self.x[ids]), self.y[ids]))
            before = self.states[-1]
            self.states.append([p.detach().clone() for p in parameters])
            self.deltas.append((ids, [a - b for a, b in zip(self.states[-1], before, strict=True)]))
            on_update(ids, parameters)

    def network(self, parameters):
        model = tiny_net()
        with torch.no_grad():
            for p, value in zip(model.parameters(), parameters, strict=True):
                p.copy_(value)
        return model

    def original(self):
        return self.network(self.states[self.returned_step])

    def replay(self, on_step) -> float:
        self.run(
            lambda ids, p: on_step(
                self.network(p), Update() if ids is None else Update(batch=Batch(self.x[ids], self.y[ids], ids))
            )
        )
        return 12.5


def handmade(forget, **options):
    context = tiny_task()
    bank = TrainingByHand(context, **options)
    retain = [i for i in range(24) if i not in forget]
    partitions = {"forget": torch.tensor(forget, dtype=torch.int64), "retain": torch.tensor(retain), "train": torch.arange(24)}
    return dataclasses.replace(context, models=bank, partitions=partitions), bank


def test_it_follows_the_paper_step_by_step():
    # Samples 0 and 4 are in the first of four batches, 1 in the second: steps 1, 2, 5 and 6 of eight are touched.
    task, bank = handmade([0, 4, 1])
    method = AmnesiacUnlearning(repair_epochs=2, optimizer=sgd(0.1))
    original = bank.original()
    parameters = [
        (p - sum(delta[i] for ids, delta in bank.deltas if bool(torch.isin(ids, task.partitions["forget"]).any())))
        .detach()
        .requires_grad_(True)
        for i, p in enumerate(original.parameters())
    ]
    subtracted = [p.detach().clone() for p in parameters]
    steps, passes = SgdByHand(parameters, 0.1), Shuffles(task, "retain")
    for _ in range(2):
        for ids in passes.one_pass():
            steps.step(loss_by_hand(parameters, task, ids))

    assert distance(weights(unlearned(ALONE, original, task)), subtracted) < 1e-10
    result = weights(unlearned(method, original, task))
    assert distance(weights(original), result) > 1e-2
    assert distance(result, parameters) < 1e-10


def test_the_order_of_the_updates_does_not_matter():
    task, bank = handmade([0, 1, 2])
    expected = weights(unlearned(ALONE, bank.original(), task))
    backwards = [
        p - sum(delta[i] for ids, delta in reversed(bank.deltas) if bool(torch.isin(ids, task.partitions["forget"]).any()))
        for i, p in enumerate(bank.original().parameters())
    ]
    assert distance(expected, backwards) < 1e-14


def test_forgetting_everything_gives_the_initial_weights():
    task, bank = handmade(list(range(24)))
    assert distance(weights(unlearned(ALONE, bank.original(), task)), bank.states[0]) < 1e-14


def test_nothing_to_forget_and_samples_never_trained_on_change_nothing():
    task, bank = handmade([])
    assert same_model(unlearned(ALONE, bank.original(), task), bank.original())
    assert same_model(unlearned(AmnesiacUnlearning(repair_epochs=3), bank.original(), task), bank.original())
    task, bank = handmade([30])
    assert same_model(unlearned(ALONE, bank.original(), task), bank.original())


def test_after_early_stopping_only_updates_up_to_the_returned_weights_count():
    task, bank = handmade([0], returned_step=3)
    expected = [p - bank.deltas[0][1][i] for i, p in enumerate(bank.original().parameters())]
    assert distance(weights(unlearned(ALONE, bank.original(), task)), expected) < 1e-14


def test_a_model_that_is_not_the_original_loses_all_touched_updates():
    task, bank = handmade([0])
    other = tiny_net(77)
    expected = [p - bank.deltas[0][1][i] - bank.deltas[4][1][i] for i, p in enumerate(other.parameters())]
    assert distance(weights(unlearned(ALONE, other, task)), expected) < 1e-14


@pytest.mark.parametrize("optimizer", [Optimizer.of("SGD", lr=0.7), Optimizer.of("Adam", lr=0.3)])
@pytest.mark.parametrize("kind", ["table", "image"])
def test_samples_of_the_last_update_only_are_undone_exactly(optimizer, kind):
    given = problem(kind)
    bank = dataclasses.replace(given.models, predictor=given.models.predictor.replace(epochs=1, optimizer=optimizer))
    seen = []
    bank.replay(lambda model, update: seen.append((update.batch, copy.deepcopy(model))))
    forget = seen[-1][0].ids
    context = dataclasses.replace(given.context, models=bank, partitions={**given.context.partitions, "forget": forget})
    result = unlearned(ALONE, bank.trained("train"), context)
    checkpoint = seen[-2][1]
    assert torch.equal(parameters_to_vector(result.parameters()), parameters_to_vector(checkpoint.parameters()))
    assert not torch.equal(parameters_to_vector(result.parameters()), parameters_to_vector(bank.trained("train").parameters()))


def test_running_statistics_stay_those_of_the_original():
    given = problem("image")
    result = unlearned(ALONE, given.model, given.context)
    assert all(torch.equal(a, b) for a, b in zip(result.buffers(), given.model.buffers(), strict=True))
    assert not same_model(result, given.model)


def test_the_replay_is_precomputation():
    task, bank = handmade([0])
    result = ALONE.run(bank.original(), task)
    assert result.precompute_s == 12.5
    assert result.elapsed_s < 5


def test_an_enclosing_mask_is_kept():
    task, bank = handmade([0])
    original = bank.original()
    mask = {"0.weight": torch.zeros(6, 4)}
    result = unlearned(ALONE, original, task.masked(mask))
    assert torch.equal(result[0].weight, original[0].weight)
    assert not torch.equal(result[2].weight, original[2].weight)


def test_without_a_repair_the_retain_set_is_not_needed():
    assert "retain" not in ALONE.partitions()
    assert "retain" in AmnesiacUnlearning().partitions()


def test_it_needs_the_original_training():
    with pytest.raises(RequirementNotMet, match="original's training"):
        ALONE.run(tiny_net(), tiny_task())


class Wide(Model):
    def build(self, data):
        return torch.nn.Sequential(torch.nn.Linear(12, 64), torch.nn.ReLU(), torch.nn.Linear(64, 3))


def test_memorised_samples_move_towards_gold():
    context = memorised().task
    predictor = Predictor(model=Wide(), epochs=25, optimizer=Optimizer.of("Adam", lr=0.01))
    bank = MemoryModels(
        predictor, context.x, context.y, context.partitions, context.model_input, context.criterion, batch_size=16
    )
    given = Memorised(bank.trained("train"), bank.trained("retain"), dataclasses.replace(context, models=bank))
    given.check_effect(AmnesiacUnlearning(repair_epochs=3, optimizer=Optimizer.of("Adam", lr=0.01)))
