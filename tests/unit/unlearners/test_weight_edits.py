"""Weight arithmetic, subspaces, adversarial neighbours and groups: NegMerge, SVD class forgetting, AMUN and RUM."""

import dataclasses

import pytest
import torch
from torch import nn
from toys import (
    SgdByHand,
    Shuffles,
    check_forget_sizes,
    conv_net,
    cross_entropy_by_hand,
    distance,
    logits_by_hand,
    loss_by_hand,
    make_task,
    memorised,
    norm_net,
    picture_task,
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
from erasure.training.layer_inputs import input_grams, input_rows, weight_matrix, weighted_layers
from erasure.unlearners.amun import AMUN
from erasure.unlearners.contract import frozen_copy
from erasure.unlearners.finetuning import Finetuning
from erasure.unlearners.gold_model import GoldModel
from erasure.unlearners.neg_grad_plus import NegGradPlus
from erasure.unlearners.neg_merge import NegMerge, agreed_mean
from erasure.unlearners.rum import RUM
from erasure.unlearners.svd_class_forgetting import SVDClassForgetting, scaled_subspace

# NegMerge


def learned_by_hand(task, model, rate, number):
    parameters = start(model)
    steps = SgdByHand(parameters, rate, momentum=0.9)
    passes = Shuffles(task.step(number), "forget")
    for _ in range(2):
        for ids in passes.one_pass():
            steps.step(loss_by_hand(parameters, task, ids))
    return [p.detach() - o for p, o in zip(parameters, model.parameters(), strict=True)]


@pytest.mark.parametrize("rates", [(0.1,), (0.1, 0.4, 0.8)])
def test_neg_merge_subtracts_what_all_copies_agree_on(rates):
    context, model = tiny_task(), tiny_net()
    vectors = [learned_by_hand(context, model, rate, number) for number, rate in enumerate(rates)]
    expected, disagreements = [], 0
    for k, weight in enumerate(model.parameters()):
        each = torch.stack([vector[k] for vector in vectors])
        agree = (each > 0).all(0) | (each < 0).all(0)
        disagreements += int((~agree).sum())
        expected.append(weight.detach() - 0.7 * torch.where(agree, each.mean(0), 0.0))
    assert bool(disagreements) == (len(rates) > 1)
    method = NegMerge(epochs=2, learning_rates=rates, scale=0.7)
    assert distance(weights(unlearned(method, model, context)), expected) < 1e-12


def test_neg_merge_has_its_identities():
    model, context = norm_net(), tiny_task()
    assert same_model(model, unlearned(NegMerge(scale=0.0), model, context))
    assert same_model(model, unlearned(NegMerge(epochs=0), model, context))
    vector = torch.tensor([0.5, -2.0, 0.0], dtype=torch.float64)
    assert torch.equal(agreed_mean(3 * vector, 3 * vector.sign(), 3), vector)
    moved = unlearned(NegMerge(learning_rates=(0.1,)), model, context)
    assert all(torch.equal(b, dict(model.named_buffers())[name]) for name, b in moved.named_buffers())
    memorised().check_effect(
        NegMerge(epochs=5, learning_rates=(0.01, 0.02), scale=6.0, batch_size=12), gap=0.9, retain_at_least=0.7
    )


# SVD class forgetting


def subspace_by_hand(rows, scale):
    """From the singular values of the inputs themselves."""
    u, s, _ = torch.linalg.svd(rows.T, full_matrices=True)
    r = torch.zeros(len(u), dtype=rows.dtype)
    r[: len(s)] = s**2 / (s**2).sum()
    return u @ torch.diag(scale * r / ((scale - 1) * r + 1)) @ u.T


def patches_by_hand(x):
    return torch.stack([x[n, 0, i : i + 3, j : j + 3].flatten() for n in range(len(x)) for i in range(3) for j in range(3)])


def of_class(task, label=0):
    chosen = [i for i in range(24) if int(task.y[i]) == label]
    others = [i for i in range(24) if int(task.y[i]) != label]
    return make_task(task.x.values, task.y, {"forget": chosen, "retain": others, "train": range(24)})


def test_svd_projects_each_layer_off_the_inputs_of_the_class():
    task, model = of_class(picture_task()), conv_net()
    kernel, bias, weight, shift = start(model)
    new = [kernel.detach().clone(), bias.detach(), weight.detach().clone(), shift.detach()]
    inputs = {}
    for part in ("forget", "retain"):
        x = task.x.values[task.partitions[part]]
        patches = patches_by_hand(x)
        maps = (patches @ kernel.detach().flatten(1).T + bias.detach()).reshape(len(x), 3, 3, 2).permute(0, 3, 1, 2)
        inputs[part] = (patches, maps.tanh().flatten(1))
    for place, layer in ((0, 0), (2, 1)):
        m_f, m_r = subspace_by_hand(inputs["forget"][layer], 3.0), subspace_by_hand(inputs["retain"][layer], 100.0)
        projection = torch.eye(len(m_f), dtype=torch.float64) - (m_f - m_f @ m_r)
        new[place] = (new[place].flatten(1) @ projection.T).view_as(new[place])
    found = unlearned(SVDClassForgetting(), model, task)
    assert distance(weights(found), new) < 1e-10
    assert not torch.equal(found[0].weight, model[0].weight)


def test_svd_has_its_identities():
    task, model = of_class(tiny_task()), tiny_net()
    assert same_model(model, unlearned(SVDClassForgetting(forget_scale=0.0), model, task))
    kept = unlearned(SVDClassForgetting(retain_scale=1e14), model, task)  # the retain inputs fill every direction
    assert distance(weights(kept), weights(model)) < 1e-9
    gram = torch.diag(torch.tensor([3.0, 1.0, 0.0], dtype=torch.float64))
    assert torch.allclose(scaled_subspace(gram, 1.0).diagonal(), torch.tensor([0.75, 0.25, 0.0], dtype=torch.float64))
    assert torch.equal(scaled_subspace(torch.zeros(2, 2), 5.0), torch.zeros(2, 2))
    # A projection, which twice does what it does once, only where every share counts in full or not at all.
    full, half = scaled_subspace(gram, 1e14), scaled_subspace(gram, 3.0)
    assert torch.allclose(full, full @ full, rtol=0, atol=1e-12)
    assert torch.allclose(half.diagonal(), torch.tensor([0.9, 0.5, 0.0], dtype=torch.float64), rtol=0, atol=1e-15)
    assert float((half - half @ half).abs().max()) == pytest.approx(0.25)


def test_svd_draws_as_many_retain_samples_of_each_class():
    task = of_class(tiny_task())
    method = SVDClassForgetting(max_samples=6)
    ids = method._retain_ids(task.seen_by(method))
    assert sorted(task.y[ids].tolist()) == [1, 1, 1, 2, 2, 2]
    assert len(method._forget_ids(task.seen_by(method))) == 6


def test_svd_forgets_a_class_of_clusters_and_keeps_the_others():
    learned = memorised()
    truth = torch.arange(132) % 3
    parts = {"forget": [i for i in range(12, 108) if i % 3 == 2], "retain": [i for i in range(12, 108) if i % 3 != 2]}
    context = make_task(learned.task.x.values, truth, parts, batch_size=16)
    model = unlearned(SVDClassForgetting(forget_scale=30.0), learned.gold, context)
    right = {
        part: float(
            (model(context.x.values[context.partitions[part]]).argmax(1) == truth[context.partitions[part]]).float().mean()
        )
        for part in parts
    }
    assert right["forget"] < 0.5
    assert right["retain"] > 0.8


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2),
        nn.Conv2d(4, 3, (2, 3), dilation=(2, 1), padding="same", padding_mode="reflect"),
        nn.Conv2d(4, 4, 3, groups=4, bias=False),
        nn.Linear(7, 5),
    ],
)
def test_rows_times_weights_are_what_a_layer_puts_out(layer):
    x = torch.randn(3, 4, 6, 7, generator=torch.Generator().manual_seed(0))
    out = layer(x).detach()
    found = torch.einsum("gnd,god->ngo", input_rows(layer, x), weight_matrix(layer)).flatten(1)
    if layer.bias is not None:
        found = found + layer.bias
    expected = out.movedim(1, -1) if isinstance(layer, nn.Conv2d) else out
    assert torch.allclose(found, expected.reshape(-1, expected.shape[-1]), atol=1e-5)


def test_grams_do_not_depend_on_batches_and_leave_the_model_alone():
    context, model = picture_task(), conv_net()
    layers = weighted_layers(model)
    ids = {"forget": context.partitions["train"]}
    one, other = (
        input_grams(
            model, dataclasses.replace(context, roles={"train": "train"}, batch_size=size).batches("train", shuffle=False), layers
        )
        for size in (5, len(ids["forget"]))
    )
    assert all(torch.allclose(one[name], other[name]) for name in layers)
    assert not any(m._forward_pre_hooks for m in model.modules())


# AMUN


def attacked_by_hand(parameters, x0, y, epsilon, n_steps):
    """One sample at a time."""
    x, radius = x0.clone(), epsilon
    for _ in range(21):
        for _ in range(n_steps):
            leaf = x[None].clone().requires_grad_(True)
            logits = logits_by_hand(parameters, leaf)
            if int(logits.argmax()) != int(y):
                return x, int(logits.argmax()), radius
            g = torch.autograd.grad(cross_entropy_by_hand(logits, y[None]), leaf)[0][0]
            delta = x + radius / 10 * g / (g.norm() + 1e-10) - x0
            x = x0 + delta * min(1.0, radius / float(delta.norm()))
        if int(logits_by_hand(parameters, x[None]).argmax()) != int(y):
            break
        radius *= 2
    return x, int(logits_by_hand(parameters, x[None]).argmax()), radius


@pytest.mark.parametrize("data", ["all", "forget", "adversarial"])
def test_amun_trains_on_neighbours_and_the_classes_they_are_taken_for(data):
    context, model = tiny_task(), tiny_net()
    by_hand, original = start(model), start(model)
    x, y, forget = context.x.values, context.y, context.partitions["forget"]
    found = [attacked_by_hand(original, x[i], y[i], 0.3, 7) for i in forget.tolist()]
    xs, ys = torch.cat([x, torch.stack([f[0] for f in found])]), torch.cat([y, torch.tensor([f[1] for f in found])])
    extra = torch.arange(32, 38)
    ids = {"adversarial": [extra], "forget": [extra, forget], "all": [extra, forget, context.partitions["retain"]]}[data]
    passes, steps = Shuffles(context, "forget", ids=torch.cat(ids)), SgdByHand(by_hand, 0.0, momentum=0.9)
    for epoch in range(3):
        steps.lr = 0.2 * 0.1**epoch
        for batch in passes.one_pass():
            steps.step(cross_entropy_by_hand(logits_by_hand(by_hand, xs[batch]), ys[batch]))
    method = AMUN(epochs=3, batch_size=4, data=data, epsilon=0.3, attack_steps=7, optimizer=sgd(0.2, momentum=0.9))
    assert distance(weights(unlearned(method, model, context)), by_hand) < 1e-10


def test_amun_neighbours_are_near_and_wrong_and_wrong_samples_stay():
    context, model = tiny_task(), tiny_net()
    method = AMUN(epsilon=0.3, attack_steps=7)
    inner = context.seen_by(method)
    found = method._attacked(model, inner)
    x, y = context.x.values[:6], context.y[:6]
    right = logits_by_hand(start(model), x).argmax(1) == y
    assert 0 < int(right.sum()) < 6
    assert bool((found["y"] != y).all())
    assert torch.equal(found["x"][~right], x[~right])
    radii = [attacked_by_hand(start(model), x[i], y[i], 0.3, 7)[2] for i in range(6)]
    assert all(float((found["x"][i] - x[i]).norm()) <= radii[i] + 1e-12 for i in range(6))


def test_amun_stays_in_the_range_of_images_and_refuses_text():
    given = problem("image")
    method = AMUN(epsilon=5.0, attack_steps=3)
    context = given.context.seen_by(method)
    found = method._attacked(frozen_copy(given.model), context)["x"]
    seen = context.x.gather(context.ids("forget"))
    assert float(found.max()) <= float(seen.max())
    assert float(found.min()) >= float(seen.min())
    with pytest.raises(RequirementNotMet, match="text"):
        AMUN().run(problem("text").model, problem("text").context)


def test_amun_without_a_forget_set_is_fine_tuning_and_forgets_memorised_samples():
    context, model = tiny_task(0), tiny_net()
    method = AMUN(epochs=2, batch_size=4, schedule=None, optimizer=sgd())
    by_hand = start(model)
    passes, steps = Shuffles(context, "forget", ids=context.partitions["retain"]), SgdByHand(by_hand, 0.1)
    for _ in range(2):
        for ids in passes.one_pass():
            steps.step(loss_by_hand(by_hand, context, ids))
    assert distance(weights(unlearned(method, model, context)), by_hand) < 1e-10
    learned = memorised()
    tuned = AMUN(epochs=10, batch_size=16, data="adversarial", schedule=None, optimizer=sgd(0.02))
    learned.check_effect(tuned, gap=0.8, retain_at_least=0.8)


# RUM


def test_rum_forgets_the_least_memorised_group_first():
    context, model = tiny_task(), tiny_net()
    steps = (
        NegGradPlus(alpha=0.9, epochs=1, optimizer=sgd(0.1)),
        Finetuning(epochs=1, optimizer=sgd(0.2)),
        NegGradPlus(alpha=0.5, epochs=2, optimizer=sgd(0.05)),
    )
    losses = [float(loss_by_hand(start(model), context, torch.tensor([i])).detach()) for i in range(6)]
    order = torch.tensor(sorted(range(6), key=losses.__getitem__))
    groups, retain, expected = order.split(2), context.partitions["retain"], model
    for number, step in enumerate(steps):
        left = torch.cat([retain, *groups[number + 1 :]])
        request = dataclasses.replace(
            context.step(number), partitions={**context.partitions, "forget": groups[number], "retain": left}
        )
        expected = step.unlearn(frozen_copy(expected).requires_grad_(True), request.seen_by(step)).eval()
    assert distance(weights(unlearned(RUM(steps=steps), model, context)), weights(expected)) < 1e-12


def test_rum_of_one_step_is_that_step():
    context, model, step = tiny_task(), tiny_net(), NegGradPlus(epochs=1, optimizer=sgd())
    inner = dataclasses.replace(context, streams=context.step(0).streams)
    scored = RUM(steps=(step,))._memorisation(model, context.seen_by(RUM()))
    alone = dataclasses.replace(
        inner, partitions={**context.partitions, "forget": context.partitions["forget"][scored.argsort()]}
    )
    assert same_model(unlearned(RUM(steps=(step,)), model, context), unlearned(step, model, alone))


def test_rum_scores_by_held_out_samples_and_reads_them_only_then():
    context, model = tiny_task(), tiny_net()
    method = RUM(score="holdout", holdout_epochs=2, holdout_optimizer=sgd(0.3))
    assert "validation" in method.partitions()
    assert "validation" not in RUM().partitions()
    tuned = start(model)
    steps, passes = SgdByHand(tuned, 0.3), Shuffles(context, "validation")
    for _ in range(2):
        for ids in passes.one_pass():
            steps.step(loss_by_hand(tuned, context, ids))
    x = context.x.values[:6]
    p, q = (logits_by_hand(w, x).detach().softmax(1) for w in (start(model), tuned))
    expected = ((p - q) * (p.log() - q.log())).sum(1) / 2
    assert torch.allclose(method._memorisation(model, context.seen_by(method)), expected)


def test_rum_gives_no_step_a_model_retrained_on_another_partition():
    given = problem()
    with pytest.raises(RequirementNotMet, match="another one for each group"):
        RUM(steps=(GoldModel(), GoldModel())).run(given.model, given.context)


def test_rum_forgets_memorised_samples():
    steps = tuple(NegGradPlus(alpha=0.9, epochs=5, batch_size=16, optimizer=sgd(0.02)) for _ in range(2))
    memorised().check_effect(RUM(steps=steps), gap=0.8, retain_at_least=0.8)


def test_neg_merge_forgets_memorised_samples():
    memorised().check_effect(NegMerge(learning_rates=(0.05, 0.1), epochs=2, scale=2.0), gap=0.8)


@pytest.mark.parametrize(
    "method",
    [NegMerge(), AMUN(epochs=1, attack_steps=3), SVDClassForgetting(), RUM(steps=(Finetuning(epochs=1), NegGradPlus(epochs=1)))],
    ids=lambda method: type(method).__name__,
)
def test_forget_sets_of_every_size_work(method):
    check_forget_sizes(method, kinds=sorted(method.defined_for - {"generation"}))
