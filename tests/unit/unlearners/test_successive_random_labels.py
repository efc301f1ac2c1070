import pytest
import torch
from toys import (
    SgdByHand,
    Shuffles,
    check_forget_sizes,
    check_whole_class,
    distance,
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

from erasure.errors import InvalidParameters, RequirementNotMet
from erasure.training.predictor import ModelInput
from erasure.unlearners.finetuning import Finetuning
from erasure.unlearners.successive_random_labels import SuccessiveRandomLabels

REDRAWS, CLASSES, ORDERS = ("batch", "epoch", "once"), ("other", "all"), ("mixed", "sequential")


def draws(task, classes, n=3000):
    """Labels drawn for ``n`` samples of each class."""
    y = torch.arange(task.n_classes).repeat_interleave(n)
    return y, SuccessiveRandomLabels(classes=classes)._drawing(task)(y)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("redraw", REDRAWS)
def test_the_trajectory_is_that_of_training_on_wrong_labels(redraw, classes, order):
    context, model = tiny_task(), tiny_net()
    by_hand = start(model)
    optimizer = SgdByHand(by_hand, 0.05, momentum=0.9, weight_decay=0.01)
    generator = context.streams.torch("labels")

    def draw(y):
        low, high = (1, 3) if classes == "other" else (0, 3)
        number = torch.randint(low, high, y.shape, generator=generator)
        return (y + number) % 3 if classes == "other" else number

    forget, retain = context.partitions["forget"], context.partitions["retain"]
    mixed = Shuffles(context, "retain", torch.cat([forget, retain]))
    first, second = Shuffles(context, "forget"), Shuffles(context, "retain")
    table = context.y
    for epoch in range(3):
        if redraw == "epoch" or (redraw == "once" and epoch == 0):
            table = draw(context.y)
        for ids in mixed.one_pass() if order == "mixed" else first.one_pass() + second.one_pass():
            wrong = draw(context.y[ids]) if redraw == "batch" else table[ids]
            labels = torch.tensor([int(w) if int(i) < 6 else int(context.y[i]) for i, w in zip(ids, wrong, strict=True)])
            optimizer.step(loss_by_hand(by_hand, context, ids, labels))
    unlearner = SuccessiveRandomLabels(
        epochs=3, optimizer=sgd(0.05, momentum=0.9, weight_decay=0.01), redraw=redraw, classes=classes, order=order
    )
    assert distance(weights(unlearned(unlearner, model, context)), by_hand) < 1e-10


@pytest.mark.parametrize("n_classes", [2, 3, 7])
def test_other_labels_never_equal_the_true_one_and_are_uniform(n_classes):
    y = torch.zeros(1, dtype=torch.int64)
    context = make_task(torch.zeros(1, 4), y, {"forget": [0], "retain": [0]}, n_classes=n_classes)
    true, drawn = draws(context, "other")
    assert not bool((true == drawn).any())
    counts = torch.zeros(n_classes, n_classes).index_put((true, drawn), torch.ones(len(true)), accumulate=True)
    expected = 3000 / (n_classes - 1)
    chi_square = ((counts - expected) ** 2 / expected)[~torch.eye(n_classes, dtype=torch.bool)].sum()
    freedom = n_classes * (n_classes - 2)
    assert float(chi_square) < freedom + 5 * (2 * freedom) ** 0.5 + 1e-9


def test_labels_from_all_classes_are_uniform_and_often_true():
    true, drawn = draws(tiny_task(), "all")
    counts = torch.bincount(drawn, minlength=3)
    assert float(((counts - 3000) ** 2 / 3000).sum()) < 20
    assert 0.3 < float((true == drawn).float().mean()) < 0.37


@pytest.mark.parametrize("kind", ["binary", "multilabel"])
def test_two_valued_labels_are_flipped_all_at_once_or_tossed(kind):
    context = tiny_task(kind=kind)
    flipped = SuccessiveRandomLabels()._drawing(context)(context.y)
    assert torch.equal(flipped, 1 - context.y)
    tossed = SuccessiveRandomLabels(classes="all")._drawing(context)(context.y)
    assert tossed.shape == context.y.shape
    assert set(tossed.flatten().tolist()) == {0, 1}
    assert 0 < int((tossed == context.y).sum()) < context.y.numel()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("redraw", REDRAWS)
def test_without_a_forget_set_it_is_fine_tuning_bit_for_bit(redraw, order):
    model, context = norm_net(), tiny_task(0)
    relabelled = unlearned(SuccessiveRandomLabels(epochs=3, optimizer=sgd(), redraw=redraw, order=order), model, context)
    assert same_model(relabelled, unlearned(Finetuning(epochs=3, optimizer=sgd()), model, context))


def test_labels_come_from_the_seed_and_not_from_the_global_generator():
    model = tiny_net()
    torch.manual_seed(1)
    one = unlearned(SuccessiveRandomLabels(epochs=1), model, tiny_task(seed=1))
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert same_model(one, unlearned(SuccessiveRandomLabels(epochs=1), model, tiny_task(seed=1)))
    assert torch.equal(state, torch.get_rng_state())
    assert not same_model(one, unlearned(SuccessiveRandomLabels(epochs=1), model, tiny_task(seed=2)))


def test_the_data_keep_their_labels():
    context = tiny_task()
    before = context.y.clone()
    unlearned(SuccessiveRandomLabels(epochs=2), tiny_net(), context)
    assert torch.equal(before, context.y)


def test_no_epochs_change_nothing_and_no_rate_leaves_the_weights():
    model, context = norm_net(), tiny_task()
    assert same_model(model, unlearned(SuccessiveRandomLabels(epochs=0), model, context))
    assert same(weights(model), weights(unlearned(SuccessiveRandomLabels(optimizer=sgd(0.0)), model, context)))


def test_a_single_class_has_no_other_label():
    only = ModelInput(x_shape=(4,), n_classes=1)
    assert "no other one to draw" in str(SuccessiveRandomLabels().unsupported_reason(only))
    assert SuccessiveRandomLabels(classes="all").unsupported_reason(only) is None
    context = make_task(
        torch.zeros(4, 4).double(), torch.zeros(4, dtype=torch.int64), {"forget": [0], "retain": [1, 2, 3]}, n_classes=1
    )
    with pytest.raises(RequirementNotMet, match="not defined for a single class"):
        unlearned(SuccessiveRandomLabels(), tiny_net(n_outputs=1), context)


def test_an_unknown_variant_is_refused():
    with pytest.raises(InvalidParameters, match='"batch", "epoch" or "once"'):
        SuccessiveRandomLabels(redraw="always")


def test_forget_sets_of_every_size_work():
    check_forget_sizes(SuccessiveRandomLabels(epochs=2))
    check_forget_sizes(SuccessiveRandomLabels(epochs=2, redraw="once", classes="all", order="sequential"))
    check_whole_class(SuccessiveRandomLabels(epochs=2))


@pytest.mark.parametrize("order", ORDERS)
def test_memorised_samples_are_forgotten(order):
    memorised().check_effect(SuccessiveRandomLabels(order=order))
