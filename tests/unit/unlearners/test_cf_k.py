import torch
from toys import (
    SgdByHand,
    Shuffles,
    check_forget_sizes,
    check_whole_class,
    distance,
    loss_by_hand,
    memorised,
    norm_net,
    same_model,
    sgd,
    start,
    tiny_net,
    tiny_task,
    unlearned,
    weights,
)

from erasure.unlearners.cf_k import CFk
from erasure.unlearners.finetuning import Finetuning
from erasure.unlearners.last_layers import LastLayers

PLAIN = {"epochs": 3, "optimizer": sgd(0.1, momentum=0.9, weight_decay=0.05), "schedule": None, "max_grad_norm": None}


def test_the_trajectory_is_that_of_training_the_head_alone():
    context, model = tiny_task(), tiny_net()
    frozen, head = start(model)[:2], start(model)[2:]
    optimizer = SgdByHand(head, 0.1, momentum=0.9, weight_decay=0.05)
    retain = Shuffles(context, "retain")
    for _ in range(3):
        for ids in retain.one_pass():
            optimizer.step(loss_by_hand([*frozen, *head], context, ids))
    after = weights(unlearned(CFk(k=1, **PLAIN), model, context))
    assert distance(after, [*frozen, *head]) < 1e-10
    assert torch.equal(after["0.weight"], model[0].weight)


def test_it_is_fine_tuning_of_the_last_layers():
    model, context = norm_net(), tiny_task()
    for k in (0, 1, 2, 3, 50):
        expected = unlearned(LastLayers(inner=Finetuning(**PLAIN), n_layers=k), model, context)
        assert same_model(unlearned(CFk(k=k, **PLAIN), model, context), expected)
    assert same_model(unlearned(CFk(k=50, **PLAIN), model, context), unlearned(Finetuning(**PLAIN), model, context))
    assert same_model(unlearned(CFk(k=0, **PLAIN), model, context), model)


def test_no_epochs_change_nothing():
    model = norm_net()
    assert same_model(model, unlearned(CFk(epochs=0), model, tiny_task()))


def test_the_defaults_are_the_authors():
    method = CFk()
    assert dict(method.optimizer.parameters) == {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-5}
    assert method.schedule is not None
    assert (method.epochs, method.k, method.max_grad_norm, method.schedule.name) == (62, 1, 10.0, "CosineAnnealingWarmRestarts")


def test_it_never_reads_the_forget_set():
    assert CFk().partitions() == {"retain": "retain"}


def test_forget_sets_of_every_size_work():
    check_forget_sizes(CFk(k=2, epochs=2))
    check_whole_class(CFk(epochs=2))


def test_memorised_samples_are_forgotten_a_little():
    memorised().check_effect(CFk(k=2), gap=0.8)
