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

from erasure.errors import RequirementNotMet
from erasure.unlearners.advanced_neg_grad import AdvancedNegGrad


@pytest.mark.parametrize("unequal_batches", ["keep", "skip"])
def test_the_trajectory_is_that_of_the_plain_difference(unequal_batches):
    context, model = tiny_task(), tiny_net()  # 18 retain samples: 4 4 4 4 2; 6 forget samples: 4 2 4 2 4
    by_hand = start(model)
    optimizer = SgdByHand(by_hand, 0.05, momentum=0.9)
    retain, forget = Shuffles(context, "retain"), Shuffles(context, "forget")
    n_steps = 0
    for _ in range(3):
        for kept, forgotten in zip(retain.one_pass(), forget.cycled(5), strict=True):
            if unequal_batches == "keep" or len(kept) == len(forgotten):
                optimizer.step(loss_by_hand(by_hand, context, kept) - loss_by_hand(by_hand, context, forgotten))
                n_steps += 1
    unlearner = AdvancedNegGrad(epochs=3, optimizer=sgd(0.05, momentum=0.9), unequal_batches=unequal_batches)
    assert n_steps == (15 if unequal_batches == "keep" else 6)
    assert distance(weights(unlearned(unlearner, model, context)), by_hand) < 1e-10


def test_equal_sets_cancel():
    context, model = tiny_task(batch_size=24), tiny_net()
    after = unlearned(AdvancedNegGrad(retain="forget", epochs=3, optimizer=sgd(1.0)), model, context)
    assert distance(weights(model), weights(after)) < 1e-14


def test_skipping_is_refused_where_every_pair_would_be_skipped():
    with pytest.raises(RequirementNotMet, match="not defined for a partition of 3 samples"):
        unlearned(AdvancedNegGrad(unequal_batches="skip"), tiny_net(), tiny_task(3))


def test_an_empty_forget_set_and_no_epochs_change_nothing():
    model = norm_net()
    assert same_model(model, unlearned(AdvancedNegGrad(optimizer=sgd(weight_decay=0.1)), model, tiny_task(0)))
    assert same_model(model, unlearned(AdvancedNegGrad(unequal_batches="skip"), model, tiny_task(0)))
    assert same_model(model, unlearned(AdvancedNegGrad(epochs=0), model, tiny_task()))


def test_the_running_statistics_follow_both_batches():
    context, model = tiny_task(batch_size=24), norm_net()
    after = unlearned(AdvancedNegGrad(epochs=1, optimizer=sgd(0.0)), model, context)
    expected = model[0][1].running_mean.clone()
    for role in ("retain", "forget"):
        inputs = model[0][0](context.x.values[context.partitions[role]]).detach()
        expected = 0.9 * expected + 0.1 * inputs.mean(0)
    assert torch.allclose(after[0][1].running_mean, expected, rtol=0, atol=1e-12)


def test_forget_sets_of_every_size_work():
    check_forget_sizes(AdvancedNegGrad())
    check_whole_class(AdvancedNegGrad())


def test_memorised_samples_are_forgotten():
    memorised().check_effect(AdvancedNegGrad(epochs=3, optimizer=sgd(0.02), batch_size=64), gap=0.7, retain_at_least=0.75)
