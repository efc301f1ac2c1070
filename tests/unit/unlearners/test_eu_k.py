import pytest
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

from erasure.training.randomness import isolated
from erasure.unlearners.cf_k import CFk
from erasure.unlearners.eu_k import EUk
from erasure.unlearners.finetuning import Finetuning
from erasure.unlearners.last_layers import LastLayers

PLAIN = {"epochs": 3, "optimizer": sgd(0.1, momentum=0.9), "schedule": None, "max_grad_norm": None}


def test_the_trajectory_is_that_of_a_fresh_head():
    context, model = tiny_task(), tiny_net()
    frozen = start(model)[:2]
    bound = 6**-0.5
    generator = torch.Generator().manual_seed(context.streams.child("reset").seed)
    head = [torch.empty(shape).double().uniform_(-bound, bound, generator=generator).requires_grad_() for shape in ((3, 6), (3,))]
    optimizer = SgdByHand(head, 0.1, momentum=0.9)
    retain = Shuffles(context, "retain")
    for _ in range(3):
        for ids in retain.one_pass():
            optimizer.step(loss_by_hand([*frozen, *head], context, ids))
    assert distance(weights(unlearned(EUk(k=1, **PLAIN), model, context)), [*frozen, *head]) < 1e-10


@pytest.mark.parametrize("build", [tiny_net, norm_net])
def test_with_all_layers_it_is_retraining_from_the_same_initial_weights(build):
    context = tiny_task()
    gold = build()
    with isolated(context.streams.child("reset").seed):
        for module in gold.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
    gold = unlearned(Finetuning(**PLAIN), gold, context)
    assert same_model(unlearned(EUk(k=99, **PLAIN), build(seed=5), context), gold)


def test_it_is_reset_and_fine_tuning_of_the_last_layers():
    model, context = norm_net(), tiny_task()
    for k in (0, 1, 2):
        expected = unlearned(LastLayers(inner=Finetuning(**PLAIN), n_layers=k, reset=True), model, context)
        assert same_model(unlearned(EUk(k=k, **PLAIN), model, context), expected)
    assert same_model(unlearned(EUk(k=0, **PLAIN), model, context), model)
    assert not same_model(unlearned(EUk(k=1, **PLAIN), model, context), unlearned(CFk(k=1, **PLAIN), model, context))


def test_without_training_the_last_layers_are_merely_reset():
    model, context = norm_net(), tiny_task()
    after = unlearned(EUk(k=1, epochs=0), model, context)
    assert not torch.equal(model[2].weight, after[2].weight)
    assert torch.equal(model[1][0].weight, after[1][0].weight)


def test_forget_sets_of_every_size_work():
    check_forget_sizes(EUk(k=2, epochs=2))
    check_whole_class(EUk(epochs=2))


def test_memorised_samples_are_forgotten():
    memorised().check_effect(EUk(k=2), gap=0.3)
