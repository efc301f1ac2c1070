"""Methods that have further models trained: KGA."""

import dataclasses

import pytest
import torch
from torch import nn
from toys import (
    SgdByHand,
    Shuffles,
    distance,
    divergence_by_hand,
    logits_by_hand,
    make_task,
    memorised,
    same_model,
    sgd,
    start,
    tiny_net,
    tiny_task,
    unlearned,
    weights,
    wide_net,
)

from erasure.errors import RequirementNotMet
from erasure.training.calls import Optimizer
from erasure.unlearners.kga import KGA


class GivenModels:
    """A bank that hands out networks which are there already."""

    def __init__(self, **models):
        self.models = models

    def retrained(self, partition):
        return self.models[partition], 0.0


def apart(teacher, student, x):
    """How far two networks' answers are from one another."""
    return divergence_by_hand(logits_by_hand(teacher, x), logits_by_hand(student, x))


# KGA


def given_task(n_forget=6, **fields):
    return tiny_task(n_forget, bank=GivenModels(forget=tiny_net(2), validation=tiny_net(3)), **fields)


def test_kga_aligns_the_gaps_step_by_step():
    task, model = given_task(), tiny_net()
    by_hand, original = start(model), start(model)
    of_forget, of_unseen = start(tiny_net(2)), start(tiny_net(3))
    x, steps, step = task.x.values, SgdByHand(by_hand, 0.0), 0
    passes = {role: Shuffles(task, role) for role in ("retain", "forget", "validation")}
    forgotten, unseen = (passes[role].cycled(6) for role in ("forget", "validation"))
    for _ in range(2):
        kept = passes["retain"].one_pass()  # 18 samples in batches of 4, two a step: three steps, the last with one batch
        for group in (kept[:2], kept[2:4], kept[4:]):
            target = apart(original, of_unseen, x[unseen[step]]).detach()
            loss = (apart(of_forget, by_hand, x[forgotten[step]]) - target).abs()
            for ids in group:
                loss = loss + 0.7 / len(group) * apart(original, by_hand, x[ids])
            steps.lr = 0.2 * (1 - step / 6)
            steps.step(loss)
            step += 1
    method = KGA(epochs=2, inner_steps=2, alignment_share=0.3, optimizer=sgd(0.2))
    assert distance(weights(unlearned(method, model, task)), by_hand) < 1e-10


def test_kga_stays_where_the_gaps_are_equal():
    model = tiny_net()
    same = GivenModels(forget=model, validation=model)  # both gaps and the retain divergence are 0, and so is their gradient
    context = dataclasses.replace(tiny_task(), models=same)
    assert distance(weights(unlearned(KGA(epochs=2, optimizer=sgd(0.5)), model, context)), weights(model)) < 1e-12


def test_kga_needs_unseen_samples_and_a_forget_set():
    model = tiny_net()
    assert same_model(model, unlearned(KGA(), model, given_task(0)))
    task = given_task()
    partitions = {name: ids.tolist() for name, ids in task.partitions.items()}
    none = make_task(task.x.values, task.y, {**partitions, "validation": []}, bank=task.models)
    with pytest.raises(RequirementNotMet, match="unseen"):
        unlearned(KGA(), model, none)


def fitted(task, ids):
    model = wide_net(1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(task.x.values[ids]), task.y[ids]).backward()
        optimizer.step()
    return model.eval()


def test_kga_forgets_memorised_samples():
    learned = memorised()
    models = {name: fitted(learned.task, learned.task.partitions[name]) for name in ("forget", "validation")}
    given = dataclasses.replace(learned, task=dataclasses.replace(learned.task, models=GivenModels(**models)))
    given.check_effect(KGA(epochs=20, inner_steps=3, optimizer=Optimizer.of("Adam", lr=0.003)), retain_at_least=0.8)
