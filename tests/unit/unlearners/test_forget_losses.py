"""Methods by losses on forget and retain batches: FCS, DELETE, JiT and LoTUS."""

import math

import pytest
import torch
from torch import nn
from toys import (
    SgdByHand,
    Shuffles,
    check_forget_sizes,
    check_whole_class,
    cross_entropy_by_hand,
    distance,
    logits_by_hand,
    loss_by_hand,
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

from erasure.errors import PartitionError
from erasure.training.calls import Optimizer
from erasure.training.predictor import ModelInput
from erasure.unlearners.delete import DecoupledDistillation, without_class
from erasure.unlearners.finetuning import Finetuning
from erasure.unlearners.forget_contrast_strengthen import ForgetContrastStrengthen, contrast
from erasure.unlearners.jit import JustInTime
from erasure.unlearners.lotus import LoTUS


def log_softmax(logits):
    return logits - logits.logsumexp(1, keepdim=True)


def relabelled(task):
    """The same task with other labels."""
    ids = {name: ids.tolist() for name, ids in task.partitions.items()}
    return make_task(task.x.values, (task.y + 1) % 3, ids)


# Forget, contrast, strengthen


def test_fcs_takes_three_kinds_of_steps_with_a_momentum_each():
    context, model = tiny_task(), tiny_net()
    by_hand = start(model)
    uniform, apart = SgdByHand(by_hand, 0.05, momentum=0.9), SgdByHand(by_hand, 0.02, momentum=0.9)
    repair = SgdByHand(by_hand, 0.03, momentum=0.9, weight_decay=0.01)
    forget, retain, x = Shuffles(context, "forget"), Shuffles(context, "retain"), context.x.values
    for ids in forget.one_pass():
        logits = logits_by_hand(by_hand, x[ids])
        uniform.step((math.log(1 / 3) - log_softmax(logits)).mean(1).mean())
    step = 0
    for _ in range(3):
        for mine, theirs in zip(forget.one_pass(), retain.one_pass(), strict=False):
            z, others = logits_by_hand(by_hand, x[mine]), logits_by_hand(by_hand, x[theirs]).detach()
            terms = [-log_softmax((z[i] * others).sum(1)[None] / 1.15) for i in range(len(mine))]
            apart.lr = 1e-6 + (0.02 - 1e-6) * (1 + math.cos(math.pi * step / 6)) / 2
            apart.step(torch.cat(terms).mean())
            step += 1
        for ids in retain.one_pass():
            repair.step(loss_by_hand(by_hand, context, ids))
    assert step == 6
    method = ForgetContrastStrengthen(
        epochs=3,
        batch_size=4,
        optimizer=sgd(0.03, momentum=0.9, weight_decay=0.01),
        uniform_optimizer=sgd(0.05, momentum=0.9),
        contrast_optimizer=sgd(0.02, momentum=0.9),
    )
    assert distance(weights(unlearned(method, model, context)), by_hand) < 1e-10


def test_the_contrast_is_least_when_all_similarities_are_equal():
    generator = torch.Generator().manual_seed(0)
    z, others = torch.randn(5, 3, generator=generator), torch.randn(7, 3, generator=generator)
    assert float(contrast(z, others, 1.15)) > math.log(7)
    assert float(contrast(z, others[:1].expand(7, 3), 1.15)) == pytest.approx(math.log(7))
    leaf = others.clone().requires_grad_(True)
    assert not contrast(z, leaf, 1.0).requires_grad


def test_fcs_first_pass_makes_predictions_uniform_and_uses_no_forget_labels():
    model, context = tiny_net(), tiny_task()
    ids = context.partitions["forget"]

    def uncertainty(network):
        return float(-log_softmax(logits_by_hand(start(network), context.x.values[ids])).mean().detach())

    still = {"optimizer": sgd(0.0), "contrast_optimizer": sgd(0.0), "contrast_schedule": None}
    first = ForgetContrastStrengthen(epochs=1, uniform_optimizer=sgd(0.3), **still)
    once = unlearned(first, model, context)
    assert uncertainty(once) < uncertainty(model)
    other = relabelled(context)
    assert same(weights(once), weights(unlearned(first, model, other)))
    assert same_model(model, unlearned(ForgetContrastStrengthen(epochs=0), model, context))


def test_fcs_without_a_forget_set_is_fine_tuning_bit_for_bit():
    model, context = norm_net(), tiny_task(0)
    tuned = unlearned(Finetuning(epochs=2, optimizer=sgd()), model, context)
    assert same_model(tuned, unlearned(ForgetContrastStrengthen(epochs=2, batch_size=4, optimizer=sgd()), model, context))


# DELETE


def test_delete_distils_the_answer_without_the_true_class():
    context, model = tiny_task(), tiny_net()
    by_hand, original = start(model), start(model)
    steps, passes = SgdByHand(by_hand, 0.1, momentum=0.9), Shuffles(context, "forget")
    for _ in range(4):
        for ids in passes.one_pass():
            logits, teacher = (logits_by_hand(p, context.x.values[ids]) for p in (by_hand, original))
            log_p, loss = log_softmax(logits), 0.0
            for i, y in enumerate(context.y[ids].tolist()):
                others = [k for k in range(3) if k != y]
                q = teacher[i, others].detach().softmax(0)
                loss = loss + (q * (q.log() - log_p[i, others])).sum() / len(ids)
            steps.step(loss)
    method = DecoupledDistillation(epochs=4, batch_size=4, optimizer=sgd(0.1, momentum=0.9))
    assert distance(weights(unlearned(method, model, context)), by_hand) < 1e-10


def test_delete_target_keeps_the_ranking_and_its_gradient_is_the_difference():
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = torch.tensor([0, 1, 2, 3, 0, 1])
    q = without_class(logits, y).softmax(1)
    assert without_class(logits.half(), y).softmax(1).gather(1, y[:, None]).abs().max() == 0
    assert torch.equal(q.gather(1, y[:, None]), torch.zeros(6, 1, dtype=torch.float64))
    assert torch.allclose(q.sum(1), torch.ones(6, dtype=torch.float64))
    ratio = q / logits.softmax(1)
    for i in range(6):
        assert len({round(float(r), 10) for k, r in enumerate(ratio[i]) if k != y[i]}) == 1
    student = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_(True)
    from erasure.functional.losses import distillation_divergence

    divergence = distillation_divergence(student, without_class(logits, y)).sum()
    assert torch.allclose(torch.autograd.grad(divergence, student)[0], student.softmax(1) - q)


def test_delete_in_binary_tasks_is_training_on_the_other_class():
    context, model = tiny_task(kind="binary"), tiny_net(n_outputs=1)
    by_hand = start(model)
    steps, passes = SgdByHand(by_hand, 0.1), Shuffles(context, "forget")
    for _ in range(2):
        for ids in passes.one_pass():
            logits = logits_by_hand(by_hand, context.x.values[ids])[:, 0]
            steps.step(nn.functional.softplus(torch.where(context.y[ids] == 0, -1.0, 1.0) * logits).mean())
    found = unlearned(DecoupledDistillation(epochs=2, batch_size=4, optimizer=sgd()), model, context)
    assert distance(weights(found), by_hand) < 1e-10


def test_delete_refuses_a_single_class():
    assert "other" in str(
        DecoupledDistillation().unsupported_reason(ModelInput(x_shape=(4,), n_classes=1, task="classification"))
    )


# Just in time


def test_jit_is_the_sum_of_local_lipschitz_quotients():
    context, model = tiny_task(), tiny_net()
    by_hand = start(model)
    steps, passes, noise = SgdByHand(by_hand, 0.05), Shuffles(context, "forget"), context.streams.torch("noise")
    for _ in range(2):
        for ids in passes.one_pass():
            x = context.x.values[ids]
            others = []
            for _ in range(3):
                noisy = (x + 0.4 * torch.randn(x.shape, generator=noise, dtype=torch.float64)).clamp(x.min(), x.max())
                others.append((noisy, logits_by_hand(by_hand, noisy).detach()))
            answer, loss = logits_by_hand(by_hand, x), 0.0
            for noisy, other in others:
                for i in range(len(ids)):
                    loss = loss + ((answer[i] - other[i]) ** 2).sum().sqrt() / ((noisy[i] - x[i]) ** 2).sum().sqrt() / 3
            steps.step(loss)
    method = JustInTime(epochs=2, n_noises=3, noise_std=0.4, optimizer=sgd(0.05))
    assert distance(weights(unlearned(method, model, context)), by_hand) < 1e-10


def test_jit_leaves_a_constant_network_and_reads_no_labels():
    model, context = tiny_net(), tiny_task()
    with torch.no_grad():
        model[2].weight.zero_()
    assert same_model(model, unlearned(JustInTime(optimizer=sgd(1.0)), model, context))
    model = tiny_net()
    other = relabelled(context)
    found = unlearned(JustInTime(optimizer=sgd(0.1)), model, context)
    assert not same_model(model, found)
    assert same_model(found, unlearned(JustInTime(optimizer=sgd(0.1)), model, other))


def test_jit_steps_with_equal_inputs_are_finite():
    context = tiny_task()
    flat = make_task(torch.zeros_like(context.x.values), context.y, {n: i.tolist() for n, i in context.partitions.items()})
    assert same_model(tiny_net(), unlearned(JustInTime(), tiny_net(), flat))


def test_jit_keeps_running_statistics_in_eval_mode_only():
    model, context = norm_net(), tiny_task()
    kept, moved = (unlearned(JustInTime(mode=mode, optimizer=sgd(0.0)), model, context) for mode in ("eval", "train"))
    assert same_model(model, kept)
    assert not same_model(model, moved)


def test_jit_works_in_place_of_activations():
    model = norm_net()
    in_place = norm_net()
    in_place[0][2].inplace = in_place[1][2].inplace = True
    context = tiny_task()
    for mode in ("eval", "train"):
        one, other = (unlearned(JustInTime(mode=mode, optimizer=sgd(0.1)), m, context) for m in (model, in_place))
        assert same_model(one, other)


# LoTUS


def accuracy_by_hand(parameters, task, partition):
    ids = task.partitions[partition]
    return float((logits_by_hand(parameters, task.x.values[ids]).argmax(1) == task.y[ids]).double().mean())


@pytest.mark.parametrize("unseen", ["validation", "zero"])
@pytest.mark.parametrize("sampled", [False, True])
def test_lotus_smooths_by_the_difference_of_accuracies(unseen, sampled):
    context, model = tiny_task(), tiny_net()
    by_hand, original, steps = start(model), start(model), None
    steps = SgdByHand(by_hand, 0.3)
    order = torch.randperm(18, generator=context.streams.torch("subset"))
    subset, forget = context.partitions["retain"][order[:5]], context.partitions["forget"]  # 0.3 * 18 = 5.4
    passes, gumbel = Shuffles(context, "retain", ids=torch.cat([forget, subset])), context.streams.torch("gumbel")
    reference = accuracy_by_hand(original, context, "validation") if unseen == "validation" else 0.0
    trained = 0
    for _ in range(4):
        gap = accuracy_by_hand(by_hand, context, "forget") - reference
        if gap <= -0.01:
            break
        trained += 1
        for ids in passes.one_pass():
            teacher = logits_by_hand(original, context.x.values[ids]).detach()
            if sampled:
                teacher = teacher - torch.empty(teacher.shape, dtype=torch.float64).exponential_(generator=gumbel).log()
            log_p, loss = log_softmax(logits_by_hand(by_hand, context.x.values[ids])), 0.0
            for i, sample in enumerate(ids.tolist()):
                if sample in forget.tolist():
                    target = (teacher[i] / math.exp(2 * gap)).softmax(0)
                else:
                    target = nn.functional.one_hot(teacher[i].argmax(), 3).double()
                loss = loss - (target * log_p[i]).sum() / len(ids)
            steps.step(loss)
    assert trained
    method = LoTUS(epochs=4, batch_size=4, optimizer=sgd(0.3), unseen_accuracy=unseen, targets="gumbel" if sampled else "softmax")
    assert distance(weights(unlearned(method, model, context)), by_hand) < 1e-10


def test_lotus_stops_when_the_student_is_worse_than_on_unseen_data():
    context, model = tiny_task(), tiny_net()
    ids = {n: i.tolist() for n, i in context.partitions.items()}
    wrong = logits_by_hand(start(model), context.x.values).argmax(1)
    y = torch.where(torch.arange(32) < 6, (wrong + 1) % 3, wrong)  # all of the forget set wrong, all else right
    assert same_model(model, unlearned(LoTUS(optimizer=sgd(1.0)), model, make_task(context.x.values, y, ids)))


def test_lotus_with_a_tiny_temperature_is_training_on_its_own_predictions():
    context, model = tiny_task(), tiny_net()
    own = logits_by_hand(start(model), context.x.values).argmax(1)
    y = torch.where(torch.arange(32) < 24, own, (own + 1) % 3)
    y[0] = (own[0] + 1) % 3  # a little worse than unseen data: its accuracy is then 5/6 against 0
    ids = {n: i.tolist() for n, i in context.partitions.items()}
    ids["validation"] = range(1, 24)  # always right: the gap is negative only by -1/6, so training would stop
    given = make_task(context.x.values, y, ids)
    assert same_model(model, unlearned(LoTUS(optimizer=sgd(0.2)), model, given))
    method = LoTUS(epochs=1, batch_size=4, optimizer=sgd(0.2))
    targets = method._targets(torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([True]), 1e-3, torch.Generator().manual_seed(0))
    assert torch.equal(targets, torch.tensor([[0.0, 1.0, 0.0]]))


def test_lotus_takes_any_alpha_and_evens_answers_out():
    model, given = tiny_net(), tiny_task()
    one, other = (
        unlearned(LoTUS(epochs=1, alpha=alpha, optimizer=sgd(0.1), unseen_accuracy="zero"), model, given) for alpha in (1e4, 1e6)
    )
    assert same_model(one, other)
    assert not same_model(one, model)


def test_refusals_call_methods_by_the_names_people_type():
    task = ModelInput(x_shape=(4,), n_classes=3, task="multilabel")
    assert DecoupledDistillation().unsupported_reason(task).startswith("DELETE is not defined for multilabel tasks")


def test_lotus_for_classes_needs_no_validation_set():
    context, model = tiny_task(), tiny_net()
    partitions = {n: i.tolist() for n, i in context.partitions.items() if n != "validation"}
    without = make_task(context.x.values, context.y, partitions)
    unlearned(LoTUS(epochs=1, unseen_accuracy="zero"), model, without)
    with pytest.raises(PartitionError, match="validation"):
        unlearned(LoTUS(epochs=1), model, without)


# All of them


@pytest.mark.parametrize(
    "method",
    [ForgetContrastStrengthen(epochs=1), DecoupledDistillation(epochs=1), JustInTime(n_noises=2), LoTUS(epochs=1)],
    ids=lambda method: type(method).__name__,
)
def test_forget_sets_of_every_size_work(method):
    check_forget_sizes(method, kinds=sorted(method.defined_for))
    check_whole_class(method.replace(optimizer=sgd(0.2)))


@pytest.mark.parametrize(
    "method",
    [
        ForgetContrastStrengthen(
            batch_size=16, uniform_optimizer=sgd(0.1), contrast_optimizer=sgd(0.01), optimizer=sgd(0.05, momentum=0.9)
        ),
        DecoupledDistillation(batch_size=16, epochs=10, optimizer=sgd(0.02)),
        JustInTime(epochs=1, noise_std=0.8, optimizer=sgd(0.06)),
    ],
    ids=lambda method: type(method).__name__,
)
def test_memorised_samples_are_forgotten(method):
    memorised().check_effect(method, gap=0.75, retain_at_least=0.8)


def test_lotus_makes_the_model_unsure_of_memorised_samples():
    learned = memorised()
    method = LoTUS(batch_size=16, epochs=20, alpha=8.0, optimizer=Optimizer.of("AdamW", lr=0.003))
    model = unlearned(method, learned.original, learned.task)

    def confidence(network, partition):
        ids = learned.task.partitions[partition]
        with torch.no_grad():
            return float(network(learned.task.x.values[ids]).softmax(1).gather(1, learned.task.y[ids, None]).mean())

    assert confidence(learned.original, "forget") > 0.9
    assert confidence(model, "forget") < 0.6
    assert learned.accuracy(model, "retain") > 0.95


def test_cross_entropy_by_hand_is_that_of_torch():
    logits, y = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0, 1])
    assert torch.allclose(cross_entropy_by_hand(logits, y), nn.functional.cross_entropy(logits, y))
