"""Bad Teaching: two teachers, one mixture."""

import dataclasses

import pytest
import torch
from torch import nn
from toys import (
    Memorised,
    SgdByHand,
    Shuffles,
    check_forget_sizes,
    distance,
    logits_by_hand,
    make_task,
    memorised,
    norm_net,
    same_model,
    sgd,
    start,
    tiny_net,
    tiny_task,
    unlearned,
    weights,
    wide_net,
)

from erasure.errors import InvalidParameters, RequirementNotMet
from erasure.unlearners.bad_teaching import BadTeaching


class Incompetent:
    """A bank that has one random network."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def fresh(self, seed: int) -> nn.Module:
        return self.network


def task_with(network: nn.Module, n_forget: int = 6, **fields):
    return tiny_task(n_forget, bank=Incompetent(network), **fields)


def log_softmax_by_hand(logits):
    return logits - logits.logsumexp(1, keepdim=True)


@pytest.mark.parametrize(("reduction", "scale"), [("batchmean", 1.0), ("mean", 1 / 3)])
def test_it_follows_the_paper_step_by_step(reduction, scale):
    teacher, model = tiny_net(99), tiny_net()
    task = task_with(teacher)
    method = BadTeaching(
        epochs=3, optimizer=sgd(0.5, momentum=0.9), batch_size=4, retain_fraction=0.5, temperature=2.0, reduction=reduction
    )
    bad = [p.detach() for p in teacher.parameters()]
    parameters = start(model)
    good = [p.detach().clone() for p in parameters]
    order = torch.randperm(18, generator=task.streams.torch("retain_subset"))
    forget = task.partitions["forget"]
    passes = Shuffles(task, "forget", ids=torch.cat([forget, task.partitions["retain"][order[:9]]]))
    steps = SgdByHand(parameters, 0.5, momentum=0.9)
    for _ in range(3):
        for ids in passes.one_pass():
            x = task.x.values[ids]
            is_forgotten = torch.isin(ids, forget)[:, None].double()
            student, competent, incompetent = (log_softmax_by_hand(logits_by_hand(p, x) / 2) for p in (parameters, good, bad))
            target = is_forgotten * incompetent.exp() + (1 - is_forgotten) * competent.exp()
            steps.step(scale * (target * (target.log() - student)).sum() / len(ids))

    result = weights(unlearned(method, model, task))
    assert distance(weights(model), result) > 1e-2
    assert distance(result, parameters) < 1e-10


def test_the_reductions_differ_by_the_number_of_outputs():
    task = task_with(tiny_net(99))
    moved = []
    for reduction, lr in (("batchmean", 0.1), ("mean", 0.3)):
        moved.append(weights(unlearned(BadTeaching(optimizer=sgd(lr), reduction=reduction), tiny_net(), task)))
    assert distance(moved[0], moved[1]) < 1e-12


def test_teachers_stay_bit_for_bit():
    teacher, model = tiny_net(99), tiny_net()
    before = weights(teacher)
    unlearned(BadTeaching(optimizer=sgd(0.5)), model, task_with(teacher))
    assert distance(before, weights(teacher)) == 0
    assert distance(weights(model), weights(tiny_net())) == 0
    assert all(p.grad is None for p in teacher.parameters())


def test_an_empty_forget_set_changes_nothing_even_with_adam_and_batchnorm():
    model = norm_net()
    assert same_model(unlearned(BadTeaching(batch_size=4), model, task_with(norm_net(5), n_forget=0)), model)


def test_the_first_step_on_retain_samples_alone_has_no_loss():
    # With the incompetent teacher equal to the original the mixture asks for nothing new.
    model = tiny_net()
    moved = unlearned(BadTeaching(optimizer=sgd(10.0)), model, task_with(tiny_net()))
    assert distance(weights(model), weights(moved)) < 1e-14


def test_the_student_approaches_the_incompetent_teacher_on_the_forget_set():
    teacher = tiny_net(99)
    task = task_with(teacher)
    x = task.x.values[task.partitions["forget"]]
    gaps = []
    for epochs in (0, 5, 20):
        method = BadTeaching(epochs=epochs, retain_fraction=0.0, optimizer=sgd(0.5))
        student = unlearned(method, tiny_net(), task)(x).log_softmax(1)
        target = teacher(x).log_softmax(1)
        gaps.append(float((target.exp() * (target - student)).sum(1).mean().detach()))
    assert gaps[0] > gaps[1] > gaps[2]


def test_no_more_than_the_retain_fraction_is_mixed_in():
    method, task = BadTeaching(retain_fraction=0.3), task_with(tiny_net(99))
    subset = method._retain_subset(task.seen_by(method))
    assert len(subset) == 5
    assert set(subset.tolist()) <= set(task.partitions["retain"].tolist())
    other = tiny_task(seed=8, bank=task.models)
    assert subset.tolist() != method._retain_subset(other.seen_by(method)).tolist()


def test_labels_are_not_needed():
    task = task_with(tiny_net(99))
    blind = dataclasses.replace(task, y=torch.zeros_like(task.y))
    assert same_model(unlearned(BadTeaching(), tiny_net(), task), unlearned(BadTeaching(), tiny_net(), blind))


def test_it_needs_a_source_of_random_networks():
    with pytest.raises(RequirementNotMet, match="randomly initialised"):
        BadTeaching().run(tiny_net(), tiny_task())


@pytest.mark.parametrize("bad", [{"temperature": 0.0}, {"retain_fraction": 1.5}, {"epochs": -1}, {"reduction": "sum"}])
def test_impossible_parameters_are_refused(bad):
    with pytest.raises(InvalidParameters, match="expected"):
        BadTeaching(**bad)


def test_it_takes_every_size_and_kind(monkeypatch):
    class Matching:
        def fresh(self, seed):
            return norm_net(5, n_outputs=self.n_outputs)

    for kind, n_outputs in (("classification", 3), ("binary", 1), ("multilabel", 3)):
        Matching.n_outputs = n_outputs
        bank = Matching()
        monkeypatch.setattr("toys.tiny_task", lambda n, kind, bank=bank: tiny_task(n, kind=kind, bank=bank))
        check_forget_sizes(BadTeaching(batch_size=4), kinds=(kind,))


def test_memorised_samples_move_towards_gold():
    learned = memorised()
    given = Memorised(learned.original, learned.gold, dataclasses.replace(learned.task, models=Incompetent(wide_net(3))))
    method = BadTeaching(epochs=10, optimizer=sgd(0.02, momentum=0.9), batch_size=16, retain_fraction=1.0)
    given.check_effect(method)


def test_a_whole_class_can_be_forgotten():
    context = tiny_task()
    forget = [i for i in range(24) if int(context.y[i]) == 0]
    retain = [i for i in range(24) if int(context.y[i]) != 0]
    whole = make_task(context.x.values, context.y, {"forget": forget, "retain": retain}, bank=Incompetent(tiny_net(99)))
    assert not same_model(unlearned(BadTeaching(), tiny_net(), whole), tiny_net())
