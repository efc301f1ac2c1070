import pytest
from toys import (
    SgdByHand,
    Shuffles,
    buffers,
    check_forget_sizes,
    check_whole_class,
    distance,
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

from erasure.errors import Diverged, InvalidParameters
from erasure.training.batches import Batch
from erasure.unlearners.finetuning import Finetuning
from erasure.unlearners.neg_grad import NegGrad


def forget_loss(model, task):
    ids = task.partitions["forget"]
    return float(task.loss(model.eval(), Batch(task.x.values[ids], task.y[ids], ids)).detach())


@pytest.mark.parametrize("steps_per_epoch", ["forget", "retain"])
def test_the_trajectory_is_that_of_plain_gradient_ascent(steps_per_epoch):
    context, model = tiny_task(), tiny_net()
    unlearner = NegGrad(
        epochs=3, optimizer=sgd(0.05, momentum=0.9, weight_decay=0.01), steps_per_epoch=steps_per_epoch, max_grad_norm=None
    )
    by_hand = start(model)
    optimizer = SgdByHand(by_hand, 0.05, momentum=0.9, weight_decay=0.01)
    shuffles = Shuffles(context, "forget")
    for _ in range(3):
        for ids in shuffles.one_pass() if steps_per_epoch == "forget" else shuffles.cycled(5):
            optimizer.step(-loss_by_hand(by_hand, context, ids))
    assert distance(weights(unlearned(unlearner, model, context)), by_hand) < 1e-10


def test_one_small_step_raises_the_forget_loss():
    context, model = tiny_task(batch_size=6), tiny_net()
    after = unlearned(NegGrad(epochs=1, optimizer=sgd(0.01)), model, context)
    assert forget_loss(after, context) > forget_loss(model, context)


def test_it_is_fine_tuning_on_the_forget_set_with_the_opposite_rate():
    context, model = tiny_task(batch_size=6), tiny_net()
    ascent = unlearned(NegGrad(epochs=1, optimizer=sgd(0.05)), model, context)
    descent = unlearned(Finetuning(retain="forget", epochs=1, optimizer=sgd(0.05)), model, context)
    moved_up = {n: w - weights(model)[n] for n, w in weights(ascent).items()}
    moved_down = {n: weights(model)[n] - w for n, w in weights(descent).items()}
    assert distance(moved_up, moved_down) < 1e-14


def test_the_retain_set_is_declared_only_where_its_size_is_used():
    assert NegGrad().partitions() == {"forget": "forget"}
    assert NegGrad(steps_per_epoch="retain", retain="kept").partitions() == {"forget": "forget", "retain": "kept"}


def test_an_empty_forget_set_changes_nothing():
    for steps_per_epoch in ("forget", "retain"):
        model = norm_net()
        unlearner = NegGrad(optimizer=sgd(0.1, weight_decay=0.1), steps_per_epoch=steps_per_epoch)
        assert same_model(model, unlearned(unlearner, model, tiny_task(0)))


def test_no_epochs_change_nothing_and_no_rate_changes_only_running_statistics():
    model, context = norm_net(), tiny_task()
    assert same_model(model, unlearned(NegGrad(epochs=0), model, context))
    still = unlearned(NegGrad(optimizer=sgd(0.0)), model, context)
    assert same(weights(model), weights(still))
    assert not same(buffers(model), buffers(still))


def test_frozen_batch_norm_keeps_its_statistics():
    model, context = norm_net(), tiny_task()
    after = unlearned(NegGrad(optimizer=sgd(0.1), batch_norm="frozen"), model, context)
    assert same(buffers(model), buffers(after))
    assert not same(weights(model), weights(after))


def test_it_stops_after_the_pass_whose_loss_is_high_enough():
    model, context = tiny_net(), tiny_task()
    endless = unlearned(NegGrad(epochs=9, optimizer=sgd(0.3)), model, context)
    stopped = unlearned(NegGrad(epochs=9, optimizer=sgd(0.3), stop_above=1e-9), model, context)
    one_pass = unlearned(NegGrad(epochs=1, optimizer=sgd(0.3)), model, context)
    assert same_model(stopped, one_pass)
    assert not same_model(stopped, endless)


def test_an_exploding_ascent_is_reported():
    with pytest.raises(Diverged):
        unlearned(NegGrad(epochs=40, optimizer=sgd(1e306)), tiny_net(), tiny_task())


def test_choi_and_na_take_as_many_steps_as_the_retain_set_has_batches():
    unlearner = NegGrad.choi_na()
    assert (unlearner.epochs, unlearner.optimizer.learning_rate, unlearner.steps_per_epoch) == (2, 1e-3, "retain")


def test_a_stopping_loss_must_be_positive():
    with pytest.raises(InvalidParameters):
        NegGrad(stop_above=0.0)


def test_forget_sets_of_every_size_work():
    check_forget_sizes(NegGrad(epochs=1))
    check_forget_sizes(NegGrad(epochs=1, steps_per_epoch="retain"))
    check_whole_class(NegGrad(epochs=1))


def test_memorised_samples_are_forgotten():
    memorised().check_effect(NegGrad(epochs=3, optimizer=sgd(0.02)), gap=0.8)
