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
from erasure.unlearners.finetuning import Finetuning
from erasure.unlearners.l1_sparse import L1Sparse


def norm_of(model):
    return sum(float(p.detach().abs().sum()) for p in model.parameters())


@pytest.mark.parametrize("penalised", ["all", "weights"])
def test_the_trajectory_is_that_of_the_fading_subgradient(penalised):
    context, model = tiny_task(), tiny_net()
    by_hand = start(model)
    optimizer = SgdByHand(by_hand, 0.05, momentum=0.9, weight_decay=0.01)
    retain = Shuffles(context, "retain")
    for epoch in range(4):
        gamma = 0.03 * (1 - epoch / 3) if epoch < 3 else 0.0
        for ids in retain.one_pass():
            chosen = [p for p in by_hand if penalised == "all" or p.ndim == 2]
            # The gradient of sign(w) . w, with the sign held fixed, is the subgradient sign(w).
            penalty = sum((p.detach().sign() * p).sum() for p in chosen)
            optimizer.step(loss_by_hand(by_hand, context, ids) + gamma * penalty)
    unlearner = L1Sparse(
        epochs=4, gamma=0.03, unpenalised_epochs=1, penalised=penalised, optimizer=sgd(0.05, momentum=0.9, weight_decay=0.01)
    )
    assert distance(weights(unlearned(unlearner, model, context)), by_hand) < 1e-10


def test_without_penalty_it_is_fine_tuning_bit_for_bit():
    model, context = norm_net(), tiny_task()
    sparse = unlearned(L1Sparse(epochs=3, gamma=0.0, optimizer=sgd()), model, context)
    assert same_model(sparse, unlearned(Finetuning(epochs=3, optimizer=sgd()), model, context))


def test_a_weight_of_zero_has_no_subgradient():
    model, context = tiny_net(), tiny_task()
    for parameter in model.parameters():
        parameter.data.zero_()
    sparse = unlearned(L1Sparse(epochs=1, gamma=9.0, optimizer=sgd()), model, context)
    tuned = unlearned(Finetuning(epochs=1, optimizer=sgd()), model, context)
    # With all weights at zero only the last bias has a gradient of the loss: the rest must not move.
    assert float(sparse[0].weight.detach().abs().max()) == 0.0
    assert float(tuned[2].bias.detach().abs().max()) > 0.0


def test_the_norm_ends_below_that_of_fine_tuning():
    model, context = tiny_net(), tiny_task()
    sparse = unlearned(L1Sparse(epochs=10, gamma=0.01, optimizer=sgd()), model, context)
    assert norm_of(sparse) < norm_of(unlearned(Finetuning(epochs=10, optimizer=sgd()), model, context))


def test_the_strength_follows_the_schedule():
    decreasing = L1Sparse(epochs=5, gamma=1.0, unpenalised_epochs=1)
    assert [decreasing.strength(e) for e in range(5)] == [1.0, 0.75, 0.5, 0.25, 0.0]
    increasing = decreasing.replace(gamma_schedule="increasing")
    assert [increasing.strength(e) for e in range(5)] == [0.25, 0.5, 0.75, 1.0, 0.0]
    constant = decreasing.replace(gamma_schedule="constant")
    assert [constant.strength(e) for e in range(5)] == [1.0, 1.0, 1.0, 1.0, 0.0]


def test_more_epochs_without_penalty_than_epochs_are_refused():
    with pytest.raises(InvalidParameters, match="more than the 2 epochs"):
        L1Sparse(epochs=2, unpenalised_epochs=3)
    with pytest.raises(InvalidParameters, match="greater than or equal to 0"):
        L1Sparse(gamma=-1.0)


def test_no_epochs_change_nothing():
    model = norm_net()
    assert same_model(model, unlearned(L1Sparse(epochs=0), model, tiny_task()))


def test_it_never_reads_the_forget_set():
    assert L1Sparse().partitions() == {"retain": "retain"}


def test_forget_sets_of_every_size_work():
    check_forget_sizes(L1Sparse(epochs=2))
    check_whole_class(L1Sparse(epochs=2))


def test_memorised_samples_are_forgotten():
    memorised().check_effect(L1Sparse(gamma=0.01, optimizer=sgd(0.05, momentum=0.9)))
