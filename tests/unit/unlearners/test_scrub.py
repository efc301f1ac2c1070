import pytest
import torch
from toys import (
    SgdByHand,
    Shuffles,
    check_forget_sizes,
    check_whole_class,
    distance,
    logits_by_hand,
    loss_by_hand,
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

from erasure.errors import InvalidParameters
from erasure.training.calls import Optimizer
from erasure.unlearners.finetuning import Finetuning
from erasure.unlearners.scrub import Scrub


def divergence_by_hand(parameters, teacher, task, ids, temperature):
    x = task.x.values[ids]
    p = (logits_by_hand(teacher, x).detach() / temperature).softmax(1)
    student = logits_by_hand(parameters, x) / temperature
    log_q = student - student.logsumexp(1, keepdim=True)
    return temperature**2 * (p * (p.log() - log_q)).sum(1).mean()


@pytest.mark.parametrize("order", ["max-min", "min-max"])
def test_the_trajectory_is_that_of_plain_distillation(order):
    context, model = tiny_task(), tiny_net()
    by_hand, teacher = start(model), start(model)
    optimizer = SgdByHand(by_hand, 0.05, momentum=0.9)
    forget, retain = Shuffles(context, "forget", batch_size=3), Shuffles(context, "retain")
    for epoch in range(4):
        maximise = [(ids, True) for ids in forget.one_pass()] if epoch < 2 else []
        minimise = [(ids, False) for ids in retain.one_pass()]
        for ids, away in maximise + minimise if order == "max-min" else minimise + maximise:
            kl = divergence_by_hand(by_hand, teacher, context, ids, 3.0)
            optimizer.step(-kl if away else 0.7 * loss_by_hand(by_hand, context, ids) + 0.4 * kl)
    unlearner = Scrub(
        epochs=4,
        max_epochs=2,
        temperature=3.0,
        alpha=0.4,
        gamma=0.7,
        forget_batch_size=3,
        order=order,
        optimizer=sgd(0.05, momentum=0.9),
    )
    assert distance(weights(unlearned(unlearner, model, context)), by_hand) < 1e-10


def test_without_divergence_it_is_fine_tuning_bit_for_bit():
    model, context = norm_net(), tiny_task()
    scrubbed = unlearned(Scrub(epochs=3, max_epochs=0, alpha=0.0, gamma=1.0, optimizer=sgd()), model, context)
    assert same_model(scrubbed, unlearned(Finetuning(epochs=3, optimizer=sgd()), model, context))


def forget_divergence(model, teacher, task):
    ids = task.partitions["forget"]
    return float(divergence_by_hand(start(model), start(teacher), task, ids, 2.0).detach())


def test_a_maximising_pass_after_a_minimising_one_leaves_the_teacher():
    model, context = tiny_net(), tiny_task()
    minimised = unlearned(Scrub(epochs=1, max_epochs=0, optimizer=sgd(0.05)), model, context)
    then_maximised = unlearned(Scrub(epochs=1, max_epochs=1, order="min-max", optimizer=sgd(0.05)), model, context)
    assert forget_divergence(then_maximised, model, context) > forget_divergence(minimised, model, context) > 0


def test_the_first_maximising_pass_has_no_gradient_without_batch_norm():
    model, context = tiny_net(), tiny_task()
    only_max = Scrub(epochs=1, max_epochs=1, alpha=0.0, gamma=0.0, optimizer=sgd(0.5))
    assert distance(weights(model), weights(unlearned(only_max, model, context))) < 1e-13
    norm_model = norm_net()
    assert distance(weights(norm_model), weights(unlearned(only_max, norm_model, context))) > 1e-4


def test_constants_added_to_the_logits_make_no_difference():
    context, model = tiny_task(), tiny_net()
    shifted = tiny_net()
    shifted[2].bias.data += 5.0
    one, other = (unlearned(Scrub(epochs=3, optimizer=sgd()), m, context) for m in (model, shifted))
    expected = weights(one)
    expected["2.bias"] = expected["2.bias"] + 5.0
    assert distance(weights(other), expected) < 1e-10


def test_no_epochs_change_nothing_and_no_rate_leaves_the_weights():
    model, context = norm_net(), tiny_task()
    assert same_model(model, unlearned(Scrub(epochs=0), model, context))
    assert same(weights(model), weights(unlearned(Scrub(optimizer=sgd(0.0)), model, context)))


def test_the_published_settings():
    small, large, choi_na = Scrub.small_scale(), Scrub.large_scale(), Scrub.choi_na()
    assert small == Scrub(batch_size=32, forget_batch_size=64, schedule=small.schedule)
    assert small.schedule is not None
    assert dict(small.schedule.parameters) == {"milestones": (5, 8, 9), "gamma": 0.1}
    assert dict(small.optimizer.parameters) == {"lr": 5e-4, "weight_decay": 0.1}
    assert (large.epochs, large.max_epochs, large.alpha, large.gamma, large.temperature) == (3, 2, 0.001, 0.99, 4.0)
    assert (large.batch_size, large.forget_batch_size) == (128, 32)
    assert (choi_na.epochs, choi_na.max_epochs, choi_na.order, choi_na.temperature) == (2, 2, "min-max", 4.0)


def test_the_small_scale_rate_falls_after_the_fifth_eighth_and_ninth_epoch():
    rates = []
    schedule = Scrub.small_scale().schedule
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    built = schedule.build(optimizer, 10)
    for _ in range(10):
        rates.append(built.get_last_lr()[0])
        optimizer.step()
        built.step()
    assert rates == pytest.approx([1] * 5 + [0.1] * 3 + [0.01] + [0.001])


def test_a_temperature_of_zero_is_refused():
    with pytest.raises(InvalidParameters, match="greater than 0"):
        Scrub(temperature=0.0)


def test_forget_sets_of_every_size_work():
    check_forget_sizes(Scrub(epochs=2))
    check_whole_class(Scrub(epochs=2))


@pytest.mark.parametrize("order", ["max-min", "min-max"])
def test_memorised_samples_are_forgotten(order):
    memorised().check_effect(Scrub(optimizer=Optimizer.of("Adam", lr=0.005), order=order))
