import pytest
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

from erasure.errors import InvalidParameters
from erasure.unlearners.advanced_neg_grad import AdvancedNegGrad
from erasure.unlearners.finetuning import Finetuning
from erasure.unlearners.neg_grad import NegGrad
from erasure.unlearners.neg_grad_plus import NegGradPlus


@pytest.mark.parametrize("alpha", [0.95, 0.3])
def test_the_trajectory_is_that_of_the_weighted_difference(alpha):
    context, model = tiny_task(), tiny_net()
    by_hand = start(model)
    optimizer = SgdByHand(by_hand, 0.05, weight_decay=0.02)
    retain, forget = Shuffles(context, "retain"), Shuffles(context, "forget")
    for _ in range(3):
        for kept, forgotten in zip(retain.one_pass(), forget.cycled(5), strict=True):
            optimizer.step(alpha * loss_by_hand(by_hand, context, kept) - (1 - alpha) * loss_by_hand(by_hand, context, forgotten))
    after = unlearned(NegGradPlus(alpha=alpha, epochs=3, optimizer=sgd(0.05, weight_decay=0.02)), model, context)
    assert distance(weights(after), by_hand) < 1e-10


def test_with_all_weight_on_retain_it_is_fine_tuning():
    context, model = tiny_task(), tiny_net()
    plus = unlearned(NegGradPlus(alpha=1.0, epochs=2, optimizer=sgd()), model, context)
    assert distance(weights(plus), weights(unlearned(Finetuning(epochs=2, optimizer=sgd()), model, context))) < 1e-14


def test_with_no_weight_on_retain_it_is_gradient_ascent_with_as_many_steps():
    context, model = tiny_task(), tiny_net()
    plus = unlearned(NegGradPlus(alpha=0.0, epochs=2, optimizer=sgd()), model, context)
    ascent = unlearned(NegGrad(epochs=2, optimizer=sgd(), steps_per_epoch="retain"), model, context)
    assert distance(weights(plus), weights(ascent)) < 1e-14


def test_equal_weights_are_half_of_the_plain_difference():
    context, model = tiny_task(), tiny_net()
    plus = unlearned(NegGradPlus(alpha=0.5, epochs=2, optimizer=sgd(0.2)), model, context)
    difference = unlearned(AdvancedNegGrad(epochs=2, optimizer=sgd(0.1)), model, context)
    assert distance(weights(plus), weights(difference)) < 1e-13


def test_equal_weights_on_equal_sets_cancel():
    context, model = tiny_task(batch_size=24), tiny_net()
    after = unlearned(NegGradPlus(alpha=0.5, retain="forget", epochs=3, optimizer=sgd(1.0)), model, context)
    assert distance(weights(model), weights(after)) < 1e-14


def test_an_empty_forget_set_and_no_epochs_change_nothing():
    model = norm_net()
    assert same_model(model, unlearned(NegGradPlus(optimizer=sgd(weight_decay=0.1)), model, tiny_task(0)))
    assert same_model(model, unlearned(NegGradPlus(epochs=0), model, tiny_task()))


def test_a_weight_above_one_is_refused():
    with pytest.raises(InvalidParameters, match="less than or equal to 1"):
        NegGradPlus(alpha=1.1)


def test_forget_sets_of_every_size_work():
    check_forget_sizes(NegGradPlus(epochs=2))
    check_whole_class(NegGradPlus(epochs=2))


def test_memorised_samples_are_forgotten():
    memorised().check_effect(NegGradPlus(epochs=10, optimizer=sgd(0.1)))
