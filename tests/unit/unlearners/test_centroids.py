"""DUCK: features that move to the nearest centroid of another class."""

import dataclasses
import math

import pytest
import torch
from toys import (
    SgdByHand,
    Shuffles,
    check_forget_sizes,
    check_whole_class,
    cross_entropy_by_hand,
    distance,
    make_task,
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
from erasure.training.calls import Optimizer
from erasure.unlearners.duck import DUCK


def features_by_hand(parameters, x):
    return (x @ parameters[0].T + parameters[1]).tanh()


def cosine_by_hand(a, b):
    return (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))


def nearest_by_hand(features, centroids, labels):
    """For each row the class that is not its own and whose centroid is at the smallest angle."""
    chosen = []
    for row, label in zip(features, labels.tolist(), strict=True):
        angles = {k: float(cosine_by_hand(row, c)) for k, c in centroids.items() if k != label}
        chosen.append(max(angles, key=angles.get))
    return torch.stack([centroids[k] for k in chosen])


def test_duck_moves_and_repairs_step_by_step():
    context, model = tiny_task(), tiny_net()
    by_hand, x, y = start(model), context.x.values, context.y
    forget, kept = context.partitions["forget"], context.partitions["retain"]
    with torch.no_grad():
        embedded = features_by_hand(by_hand, x)
        centroids = {k: embedded[kept[y[kept] == k]].mean(0) for k in range(3)}
        own = dict(zip(forget.tolist(), nearest_by_hand(embedded[forget], centroids, y[forget]), strict=True))

    def logits(ids):
        return features_by_hand(by_hand, x[ids]) @ by_hand[2].T + by_hand[3]

    steps, forgotten, retained = SgdByHand(by_hand, 0.1), Shuffles(context, "forget"), Shuffles(context, "retain")
    for _ in range(2):
        for ids in forgotten.one_pass():
            for others in retained.one_pass()[:3]:
                away = torch.stack([own[i] for i in ids.tolist()])
                loss = 0.8 * (1 - cosine_by_hand(features_by_hand(by_hand, x[ids]), away)).mean()
                steps.step(loss + 1.2 * cross_entropy_by_hand(logits(others) / 2, y[others]))
    # The second stage: three forget samples of each batch (the last has two), two retain batches of eight, a cosine over 4 steps.
    steps, forgotten, retained, number = (
        SgdByHand(by_hand, 0.0),
        Shuffles(context, "forget"),
        Shuffles(context, "retain", None, 8),
        0,
    )
    for batch in forgotten.one_pass():
        ids, away = batch[:3], None
        for others in retained.one_pass()[:2]:
            features = features_by_hand(by_hand, x[ids])
            away = nearest_by_hand(features.detach(), centroids, y[ids]) if away is None else away
            loss = 0.08 * (1 - cosine_by_hand(features, away)).mean() + cross_entropy_by_hand(logits(others) / 2, y[others])
            steps.lr = 0.05 * (1 + math.cos(math.pi * number / 4)) / 2
            steps.step(loss)
            number += 1
    method = DUCK(
        epochs=2,
        optimizer=sgd(0.1),
        batch_size=4,
        distance_weight=0.8,
        retain_weight=1.2,
        retain_batches=3,
        target_accuracy=0.0,
        repair_epochs=1,
        repair_optimizer=sgd(0.05),
        repair_batches=2,
        repair_batch_size=8,
        repair_forget_size=3,
    )
    assert distance(weights(unlearned(method, model, context)), by_hand) < 1e-10


def test_duck_ends_the_first_stage_at_the_target():
    model, context = tiny_net(), tiny_task()
    method = DUCK(epochs=3, target_accuracy=1.0, repair_epochs=0, optimizer=sgd(0.1))
    stopped = unlearned(method, model, context)
    accuracy = float((stopped(context.x.values[:6]).argmax(1) == context.y[:6]).double().mean())
    assert accuracy < 1.0
    assert same_model(stopped, unlearned(method.replace(epochs=1), model, context))


def test_duck_needs_another_class_and_a_linear_map():
    context = tiny_task()
    labels = torch.zeros_like(context.y)
    alone = make_task(context.x.values, labels, {name: ids.tolist() for name, ids in context.partitions.items()})
    with pytest.raises(RequirementNotMet, match="another class"):
        unlearned(DUCK(epochs=1), tiny_net(), alone)
    with pytest.raises(RequirementNotMet, match="linear map"):
        unlearned(DUCK(epochs=1), torch.nn.BatchNorm1d(4).double(), context)


def test_duck_takes_forget_sets_of_every_size():
    method = DUCK(epochs=1, repair_epochs=1)
    check_forget_sizes(method, kinds=("classification", "binary"))
    check_whole_class(method)


def test_duck_forgets_memorised_samples():
    learned = memorised()
    method = DUCK(epochs=20, batch_size=16, target_accuracy=0.4, repair_epochs=1, optimizer=Optimizer.of("Adam", lr=0.001))
    learned.check_effect(method, retain_at_least=0.85)
    whole = dataclasses.replace(learned.task, partitions={**learned.task.partitions, "forget": torch.arange(12, 15)})
    assert not same_model(learned.original, unlearned(method.replace(epochs=1), learned.original, whole))
