"""UNSIR by classes and by samples: noise, impair, repair."""

import dataclasses
import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from toys import (
    Memorised,
    SgdByHand,
    Shuffles,
    check_forget_sizes,
    cross_entropy_by_hand,
    distance,
    logits_by_hand,
    make_task,
    memorised,
    norm_net,
    same,
    same_model,
    sgd,
    start,
    tiny_net,
    tiny_task,
    unlearned,
    weights,
)

from erasure.errors import RequirementNotMet
from erasure.testing.problems import problem
from erasure.training.calls import Optimizer
from erasure.training.inputs import fixed, logits_on, optimised, value_range, values_of
from erasure.training.predictor import ModelInput
from erasure.unlearners.finetuning import Finetuning
from erasure.unlearners.unsir import UNSIR
from erasure.unlearners.unsir_sample import SampleUNSIR


def class_task(*forgotten: int, **fields):
    """The tiny task with whole classes to forget."""
    context = tiny_task()
    is_forgotten = torch.isin(context.y, torch.tensor(forgotten))
    partitions = {
        "forget": [i for i in range(24) if is_forgotten[i]],
        "retain": [i for i in range(24) if not is_forgotten[i]],
        "train": range(24),
    }
    return make_task(context.x.values, context.y, partitions, **fields)


def adam_by_hand(value, gradient_of, steps, lr, low, high):
    value, m, v = value.clamp(low, high), torch.zeros_like(value), torch.zeros_like(value)
    for t in range(1, steps + 1):
        g = gradient_of(value)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        value = value - lr * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
        value = value.clamp(low, high)
    return value


def gradient(function):
    def of(value):
        leaf = value.clone().requires_grad_(True)
        return torch.autograd.grad(function(leaf), leaf)[0]

    return of


def adam(lr):
    return Optimizer.of("Adam", lr=lr)


# Class version


def test_unsir_follows_the_paper_step_by_step():
    task, model = class_task(1, 2, batch_size=1000), tiny_net()
    method = UNSIR(
        noise_batch_size=5, noise_steps=6, noise_copies=2, optimizer=sgd(0.1), repair_optimizer=sgd(0.05), batch_size=1000,
        repair_epochs=2, epochs=3, noise_penalty=0.2, noise_lr=0.3,
    )  # fmt: skip
    retain = task.partitions["retain"]
    x = task.x.values[retain]
    low, high = x.min(0).values, x.max(0).values
    parameters = start(model)
    original = [p.detach().clone() for p in parameters]

    noise = []
    for label in (1, 2):
        labels = torch.full((5,), label)

        def objective(values, labels=labels):
            return 0.2 * (values**2).sum() / 5 - cross_entropy_by_hand(logits_by_hand(original, values), labels)

        drawn = torch.randn(5, 4, generator=task.streams.torch("noise", label), dtype=torch.float64)
        noise.append(adam_by_hand(drawn, gradient(objective), 6, 0.3, low, high))
    mixed = torch.cat([noise[0], noise[1], noise[0], noise[1], x])
    labels = torch.cat([torch.tensor([1, 2, 1, 2]).repeat_interleave(5), task.y[retain]])
    impair, repair = SgdByHand(parameters, 0.1), SgdByHand(parameters, 0.05)
    for _ in range(3):
        impair.step(cross_entropy_by_hand(logits_by_hand(parameters, mixed), labels))
    for _ in range(2):
        repair.step(cross_entropy_by_hand(logits_by_hand(parameters, x), task.y[retain]))

    result = weights(unlearned(method, model, task))
    assert distance(weights(model), result) > 1e-2
    assert distance(result, parameters) < 1e-10


def test_repairing_alone_is_fine_tuning():
    task = class_task(0)
    repaired = UNSIR(epochs=0, repair_epochs=2, repair_optimizer=sgd(0.1), retain_per_class=None, batch_size=4)
    assert same_model(
        unlearned(repaired, tiny_net(), task), unlearned(Finetuning(epochs=2, optimizer=sgd(0.1)), tiny_net(), task)
    )


def test_no_forget_sample_is_read():
    given = problem(forget="class")
    UNSIR(noise_batch_size=4, noise_steps=2, noise_copies=1).run(given.model, given.context)
    assert given.column.gathered
    assert not given.column.gathered & set(given.context.partitions["forget"].tolist())


def test_named_classes_need_no_forget_partition():
    task = class_task(1)
    named = dataclasses.replace(task, partitions={"retain": task.partitions["retain"]})
    method = UNSIR(classes=(1,), noise_batch_size=4, noise_steps=3)
    assert method.partitions() == {"retain": "retain"}
    derived = UNSIR(noise_batch_size=4, noise_steps=3)
    assert same_model(unlearned(method, tiny_net(), named), unlearned(derived, tiny_net(), task))


def test_parts_of_a_class_are_refused():
    with pytest.raises(RequirementNotMet, match="also in the retain set; use SampleUNSIR"):
        UNSIR().run(tiny_net(), tiny_task())


def test_classes_that_do_not_exist_are_refused():
    assert "there is no class 3; classes are 0 to 2" in UNSIR(classes=(3,)).unsupported_reason(ModelInput((4,), 3))
    assert "there is no class -1" in UNSIR(classes=(-1,)).unsupported_reason(ModelInput((4,), 3))
    assert UNSIR(classes=(2,)).unsupported_reason(ModelInput((4,), 3)) is None


def test_a_class_is_meant_as_the_data_call_it():
    task, model = class_task(1), tiny_net()
    by_code = unlearned(UNSIR(classes=(1,), noise_batch_size=4, noise_steps=3), model, task)
    for names, label in ((("1", "2", "4"), 2), (("cat", "dog", "eel"), "dog"), (("cat", "dog", "eel"), 1)):
        data = dataclasses.replace(task.model_input, class_names=names)
        method = UNSIR(classes=(label,), noise_batch_size=4, noise_steps=3)
        assert same_model(unlearned(method, model, dataclasses.replace(task, model_input=data)), by_code)
    assert "there is no class 3; classes are 1, 2, 4" in UNSIR(classes=(3,)).unsupported_reason(
        ModelInput((4,), 3, class_names=("1", "2", "4"))
    )


def test_graphs_are_refused_by_the_class_version_only():
    assert "not defined for graphs" in UNSIR().unsupported_reason(ModelInput((4,), 3, modality="graph"))
    assert SampleUNSIR().unsupported_reason(ModelInput((4,), 3, modality="graph")) is None


def test_multilabel_tasks_are_refused_by_the_class_version_only():
    assert "not defined for multilabel" in UNSIR().unsupported_reason(ModelInput((4,), 3, task="multilabel"))
    assert SampleUNSIR().unsupported_reason(ModelInput((4,), 3, task="multilabel")) is None


@pytest.mark.parametrize("method", [UNSIR(noise_batch_size=4), SampleUNSIR()])
def test_an_empty_retain_set_is_refused(method):
    context = make_task(torch.randn(4, 4).double(), torch.zeros(4, dtype=torch.int64), {"forget": range(4), "retain": []})
    with pytest.raises(RequirementNotMet, match="empty retain set"):
        method.run(tiny_net(), context)


@pytest.mark.parametrize("method", [UNSIR(), SampleUNSIR()])
def test_an_empty_forget_set_changes_nothing(method):
    model = norm_net()
    assert same_model(unlearned(method, model, tiny_task(0)), model)


def test_the_retain_subset_is_random_and_of_the_size_asked_per_class():
    task = class_task(2, seed=1)
    subset = UNSIR(retain_per_class=3)._retain_subset(task.seen_by(UNSIR()))
    assert len(subset) == len(subset.unique()) == 6
    assert task.y[subset].bincount().tolist() == [3, 3]
    other = UNSIR(retain_per_class=3)._retain_subset(class_task(2, seed=2).seen_by(UNSIR()))
    assert subset.tolist() != other.tolist()
    assert subset.tolist() == sorted(subset.tolist())


@pytest.mark.parametrize("label", [0, 1, 2])
def test_unsir_forgets_a_class_and_keeps_the_others(label):
    learned = memorised()
    forget = [i for i in range(12, 108) if int(learned.task.y[i]) == label]
    retain = [i for i in range(12, 108) if int(learned.task.y[i]) != label]
    context = make_task(learned.task.x.values, learned.task.y, {"forget": forget, "retain": retain}, batch_size=16)
    given = Memorised(learned.gold, learned.gold, context)
    assert given.accuracy(learned.gold, "forget") > 0.7
    method = UNSIR(noise_batch_size=8, noise_copies=1, batch_size=32, epochs=4, optimizer=adam(0.05), repair_epochs=5)
    model = unlearned(method, learned.gold, context)
    assert given.accuracy(model, "forget") < 0.5
    assert given.accuracy(model, "retain") > 0.7


# Noise


def test_noise_maximises_the_error_of_a_class_and_leaves_the_model_alone():
    task, model = class_task(1), norm_net().train()
    before, modes = model.state_dict(), [m.training for m in model.modules()]
    before = {name: value.clone() for name, value in before.items()}
    x, labels, errors = task.x.values[:6], torch.ones(6, dtype=torch.int64), []

    def objective(logits, values):
        loss = F.cross_entropy(logits, labels)
        errors.append(float(loss.detach()))
        return -loss

    optimised(model, x, torch.zeros_like(x), objective, steps=30, lr=0.1)
    assert all(later > earlier for earlier, later in itertools.pairwise(errors))
    assert errors[-1] > errors[0] + 0.1
    assert same(before, model.state_dict())
    assert [m.training for m in model.modules()] == modes
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_noise_stays_in_the_range_of_each_column():
    task, model = class_task(1), tiny_net()
    x = task.x.values[:6]
    low, high = value_range(model, task.seen_by(UNSIR()).batches("retain"))
    kept = task.x.values[task.partitions["retain"]]
    assert torch.equal(low[0], kept.min(0).values)
    assert torch.equal(high[0], kept.max(0).values)
    noise = optimised(model, x, 100 * torch.ones_like(x), lambda z, v: -v.sum(), steps=5, lr=1.0, bounds=(low, high))
    assert torch.equal(noise, high.expand_as(x))


def test_images_have_a_range_per_channel():
    given = problem("image")
    low, high = value_range(given.model, given.context.seen_by(SampleUNSIR()).batches("retain"))
    x = given.column.gather(given.context.partitions["retain"])
    assert low.shape == (1, 1, 1, 1)
    assert (low.item(), high.item()) == (x.min().item(), x.max().item())


def test_a_frozen_weight_stays_frozen_after_noise():
    model = tiny_net()
    model[0].bias.requires_grad_(False)
    with fixed(model):
        assert not any(p.requires_grad for p in model.parameters())
    assert [p.requires_grad for p in model.parameters()] == [True, False, True, True]


# Tokens


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(9, 3)
        self.head = nn.Linear(3, 3)

    def forward(self, x):
        return self.head(self.embedding(x).mean(1))


def test_tokens_are_noised_in_the_space_of_the_embeddings():
    model, x = Tokens(), torch.randint(0, 9, (4, 5))
    values = values_of(model, x)
    assert torch.equal(values, model.embedding.weight[x])
    assert torch.allclose(logits_on(model, x, values), model(x))
    noise = torch.randn_like(values)
    assert torch.allclose(logits_on(model, x, noise), model.head(noise.mean(1)))
    rows = torch.tensor([True, False, False, True])
    mixed = logits_on(model, x, noise, rows)
    assert torch.allclose(mixed[rows], model.head(noise.mean(1))[rows])
    assert torch.allclose(mixed[~rows], model(x)[~rows])
    assert not model.embedding._forward_hooks
    low, high = value_range(model, problem("text").context.seen_by(SampleUNSIR()).batches("retain"))
    assert torch.equal(low, model.embedding.weight.min(0).values)
    assert torch.equal(high, model.embedding.weight.max(0).values)


def test_the_hook_goes_even_if_the_model_fails():
    model = Tokens()
    with pytest.raises(RuntimeError):
        logits_on(model, torch.zeros(2, 5, dtype=torch.int64), torch.zeros(2, 5, 4))
    assert not model.embedding._forward_hooks


def test_integers_without_an_embedding_are_refused():
    with pytest.raises(RequirementNotMet, match=r"no nn\.Embedding"):
        values_of(tiny_net(), torch.zeros(2, 4, dtype=torch.int64))


@pytest.mark.parametrize(
    ("method", "forget"), [(UNSIR(noise_batch_size=4, noise_copies=2, optimizer=sgd(0.1)), "class"), (SampleUNSIR(), "some")]
)
def test_both_versions_unlearn_tokens(method, forget):
    given = problem("text", forget=forget)
    result = unlearned(method, given.model, given.context)
    assert not same_model(result, given.model)
    assert all(not m._forward_hooks for m in result.modules())


# Sample version


def test_sample_unsir_follows_the_authors_step_by_step():
    context, model = tiny_task(), tiny_net()
    method = SampleUNSIR(
        epochs=2, optimizer=sgd(0.1), noise_steps=5, noise_lr=0.2, repair_epochs=2, repair_optimizer=sgd(0.05), batch_size=4
    )
    x, y = context.x.values, context.y
    kept = x[context.partitions["retain"]]
    low, high = kept.min(0).values, kept.max(0).values
    parameters = start(model)
    impair, repair = SgdByHand(parameters, 0.1), SgdByHand(parameters, 0.05)
    forget, retain, draws = Shuffles(context, "forget"), Shuffles(context, "retain"), context.streams.torch("noise")
    for _ in range(2):
        for f, r in zip(forget.one_pass(), retain.cycled(2), strict=False):
            size = min(len(f), len(r))
            f, r = f[:size], r[:size]
            fixed_weights = [p.detach().clone() for p in parameters]
            target = logits_by_hand(fixed_weights, x[f])

            def objective(values, fixed_weights=fixed_weights, target=target):
                return -((logits_by_hand(fixed_weights, values) - target) ** 2).mean()

            drawn = torch.randn(size, 4, generator=draws, dtype=torch.float64)
            noise = adam_by_hand(drawn, gradient(objective), 5, 0.2, low, high)
            on_noise = cross_entropy_by_hand(logits_by_hand(parameters, noise), y[r])
            impair.step(on_noise + cross_entropy_by_hand(logits_by_hand(parameters, x[r]), y[r]))
    for _ in range(2):
        for r in retain.one_pass():
            repair.step(cross_entropy_by_hand(logits_by_hand(parameters, x[r]), y[r]))

    result = weights(unlearned(method, model, context))
    assert distance(weights(model), result) > 1e-2
    assert distance(result, parameters) < 1e-10


def test_impairing_alone_leaves_out_the_repair():
    context = tiny_task()
    alone = unlearned(SampleUNSIR(epochs=1, repair_epochs=0, optimizer=sgd(0.1)), tiny_net(), context)
    both = unlearned(SampleUNSIR(epochs=1, repair_epochs=1, optimizer=sgd(0.1), repair_optimizer=sgd(0.1)), tiny_net(), context)
    assert not same_model(alone, both)


def test_the_authors_cut_to_the_unit_interval_is_an_option():
    context = tiny_task()
    results = [
        unlearned(SampleUNSIR(noise_range=kind, optimizer=sgd(0.1)), tiny_net(), context) for kind in ("inputs", "unit", "none")
    ]
    assert not same_model(results[0], results[1])
    assert not same_model(results[1], results[2])


def test_sample_unsir_keeps_batchnorm_statistics_unless_asked():
    context, model = tiny_task(), norm_net()
    kept = unlearned(SampleUNSIR(optimizer=sgd(0.1)), model, context)
    moved = unlearned(SampleUNSIR(optimizer=sgd(0.1), batch_norm="train"), model, context)
    assert same(dict(model.named_buffers()), dict(kept.named_buffers()))
    assert not same(dict(model.named_buffers()), dict(moved.named_buffers()))


def test_sample_unsir_takes_every_size_and_kind():
    check_forget_sizes(SampleUNSIR(batch_size=4, optimizer=sgd(0.1)))


def test_sample_unsir_moves_memorised_samples_towards_gold():
    method = SampleUNSIR(epochs=10, optimizer=sgd(0.05, momentum=0.9), repair_epochs=10, repair_optimizer=sgd(0.1), batch_size=16)
    memorised().check_effect(method)
