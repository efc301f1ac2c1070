import pytest
import torch
from test_masked import Halved
from torch import nn
from toys import (
    SgdByHand,
    Shuffles,
    buffers,
    check_forget_sizes,
    check_whole_class,
    cross_entropy_by_hand,
    distance,
    norm_net,
    same_model,
    sgd,
    tiny_net,
    tiny_task,
    unlearned,
    weights,
)

from erasure.errors import InvalidParameters, RequirementNotMet
from erasure.training.randomness import isolated
from erasure.unlearners.finetuning import Finetuning
from erasure.unlearners.gold_model import GoldModel
from erasure.unlearners.identity import Identity
from erasure.unlearners.last_layers import LastLayers, split_layers
from erasure.unlearners.masked import Masked
from erasure.unlearners.neg_grad import NegGrad
from erasure.unlearners.saliency import SaliencyMask
from erasure.unlearners.scrub import Scrub
from erasure.unlearners.win_u import WINU

INNER = Finetuning(epochs=3, optimizer=sgd(0.1, momentum=0.9, weight_decay=0.05))


class Attention(nn.Module):
    """A stem, a class token of the model's own, attention with a projection of its own, a head."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.embedding = nn.Embedding(5, 8)
        self.stem = nn.Conv1d(8, 8, 1)
        self.blocks = nn.ModuleList(nn.MultiheadAttention(8, 2) for _ in range(2))
        self.norm = nn.LayerNorm((2, 8))
        self.head = nn.Linear(8, 3)


def names(model, modules):
    by_id = {id(module): name for name, module in model.named_modules()}
    return [by_id[id(module)] for module in modules]


def test_nested_layers_are_counted_with_the_normalisation_that_follows_them():
    model = norm_net()
    assert [names(model, part) for part in split_layers(model, 0)] == [["0.0", "0.1", "1.0", "1.1", "2"], []]
    assert [names(model, part) for part in split_layers(model, 1)] == [["0.0", "0.1", "1.0", "1.1"], ["2"]]
    assert [names(model, part) for part in split_layers(model, 2)] == [["0.0", "0.1"], ["1.0", "1.1", "2"]]
    assert [names(model, part) for part in split_layers(model, 9)] == [[], ["0.0", "0.1", "1.0", "1.1", "2"]]


def test_a_containers_own_weights_belong_to_the_first_layer_inside_it():
    model = Attention()
    frozen, trained = split_layers(model, 2)
    assert names(model, trained) == ["blocks.1", "blocks.1.out_proj", "norm", "head"]
    assert names(model, frozen) == ["", "embedding", "stem", "blocks.0", "blocks.0.out_proj"]


@pytest.mark.parametrize(
    "inner", [INNER, NegGrad(epochs=2, optimizer=sgd()), Scrub(epochs=2, optimizer=sgd()), Halved()], ids=repr
)
@pytest.mark.parametrize("n_layers", [1, 2])
def test_frozen_weights_and_buffers_are_bit_equal_and_the_others_move(inner, n_layers):
    model, context = norm_net(), tiny_task()
    after = unlearned(LastLayers(inner=inner, n_layers=n_layers), model, context)
    first_free = {1: "2.", 2: "1."}[n_layers]
    for before, now in ((weights(model), weights(after)), (buffers(model), buffers(after))):
        for name in before:
            if name < first_free:
                assert torch.equal(before[name], now[name]), name
    assert all(not torch.equal(w, weights(model)[n]) for n, w in weights(after).items() if n.startswith("2."))


def test_running_statistics_of_the_trained_layers_follow_the_batches():
    model, context = norm_net(), tiny_task()
    after = unlearned(LastLayers(inner=INNER, n_layers=2), model, context)
    assert not torch.equal(model[1][1].running_mean, after[1][1].running_mean)
    assert torch.equal(model[0][1].running_mean, after[0][1].running_mean)


def test_frozen_batch_norm_normalises_by_the_original_statistics():
    context, model = tiny_task(), norm_net()
    features = nn.Sequential(model[0], model[1])(context.x.values).detach()
    head = [p.detach().clone().requires_grad_(True) for p in model[2].parameters()]
    optimizer = SgdByHand(head, 0.1, momentum=0.9, weight_decay=0.05)
    retain = Shuffles(context, "retain")
    for _ in range(3):
        for ids in retain.one_pass():
            optimizer.step(cross_entropy_by_hand(features[ids] @ head[0].T + head[1], context.y[ids]))
    after = unlearned(LastLayers(inner=INNER, n_layers=1), model, context)
    assert distance(weights(after[2]), head) < 1e-10


def test_no_layers_change_nothing_and_many_are_the_inner_method():
    model, context = norm_net(), tiny_task()
    assert same_model(model, unlearned(LastLayers(inner=INNER, n_layers=0), model, context))
    assert same_model(model, unlearned(LastLayers(inner=INNER, n_layers=0, reset=True), model, context))
    for n_layers in (3, 100):
        assert same_model(unlearned(INNER, model, context), unlearned(LastLayers(inner=INNER, n_layers=n_layers), model, context))


def test_the_flags_are_restored_also_when_the_inner_method_fails():
    model, context = norm_net(), tiny_task().seen_by(INNER)
    model[2].bias.requires_grad_(False)
    before = [p.requires_grad for p in model.parameters()]
    LastLayers(inner=INNER, n_layers=1).unlearn(model, context)
    assert [p.requires_grad for p in model.parameters()] == before
    with pytest.raises(RequirementNotMet):
        LastLayers(inner=GoldModel(), n_layers=1).unlearn(model, context)
    assert [p.requires_grad for p in model.parameters()] == before


def test_a_reset_draws_the_last_layers_from_their_own_initialisation():
    model, context = norm_net(), tiny_task()
    unlearned(INNER, model, context)
    model[1][1].running_mean.fill_(9.0)
    model[1][1].weight.data.fill_(9.0)
    after = unlearned(LastLayers(inner=Identity(), n_layers=2, reset=True), model, context)
    with isolated(context.streams.child("reset").seed):
        fresh = nn.Sequential(nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5)), nn.Linear(5, 3)).double()
        fresh[0][0].reset_parameters()
    with isolated(context.streams.child("reset").seed):
        for layer in (fresh[0][0], fresh[1]):
            layer.reset_parameters()
    assert torch.equal(after[1][0].weight, fresh[0][0].weight)
    assert torch.equal(after[2].bias, fresh[1].bias)
    assert torch.equal(after[1][1].running_mean, torch.zeros(5).double())
    assert torch.equal(after[1][1].weight.detach(), torch.ones(5).double())
    assert torch.equal(model[0][0].weight, after[0][0].weight)


def test_a_reset_follows_the_seed():
    model, reset = norm_net(), LastLayers(inner=Identity(), n_layers=1, reset=True)
    one, again, other = (unlearned(reset, model, tiny_task(seed=seed)) for seed in (1, 1, 2))
    assert same_model(one, again)
    assert not same_model(one, other)


def test_fresh_weights_have_the_spread_of_the_initialisation():
    class Wide(nn.Sequential):
        pass

    model = Wide(nn.Linear(400, 400), nn.Linear(400, 3))
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(100)
    from erasure.unlearners.last_layers import reset_layers

    reset_layers(split_layers(model, 9)[1], tiny_task())
    assert abs(float(model[0].weight.detach().std()) * 400**0.5 * 3**0.5 - 1) < 0.02


def test_what_cannot_be_drawn_anew_is_refused():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(4, 4).double())

        def forward(self, x):
            return x @ self.scale

    model = nn.Sequential(Scaled(), tiny_net())
    with pytest.raises(RequirementNotMet, match="Scaled has weights but no reset_parameters"):
        unlearned(LastLayers(inner=INNER, n_layers=3, reset=True), model, tiny_task())
    assert not same_model(model, unlearned(LastLayers(inner=INNER, n_layers=2, reset=True), model, tiny_task()))


def test_a_model_without_layers_is_refused():
    with pytest.raises(RequirementNotMet, match="has no last layers"):
        unlearned(LastLayers(inner=INNER, n_layers=1), nn.Sequential(nn.BatchNorm1d(4)).double(), tiny_task())


def test_it_composes_with_masks():
    model, context = norm_net(), tiny_task()
    inner = Masked(inner=INNER, mask=SaliencyMask(fraction=0.5))
    after = unlearned(LastLayers(inner=inner, n_layers=1), model, context)
    assert torch.equal(model[1][0].weight, after[1][0].weight)
    moved = int((model[2].weight != after[2].weight).sum()) + int((model[2].bias != after[2].bias).sum())
    assert moved == 9  # half of the 18 weights of the last layer


def test_the_number_of_layers_is_checked():
    with pytest.raises(InvalidParameters, match="greater than or equal to 0"):
        LastLayers(inner=INNER, n_layers=-1)


def test_forget_sets_of_every_size_work():
    check_forget_sizes(LastLayers(inner=INNER, n_layers=2, reset=True))
    check_whole_class(LastLayers(inner=INNER, n_layers=1))


def test_the_inner_method_is_tried_on_the_last_layers_alone():
    context, model = tiny_task(), tiny_net()
    batch = next(iter(context.seen_by(Finetuning()).batches("retain")))
    inner = WINU(max_weights=21)  # the last layer has 6 * 3 + 3, the model 51
    with pytest.raises(RequirementNotMet, match="LastLayers"):
        inner.try_on(model, batch, context.criterion)
    LastLayers(inner=inner).try_on(model, batch, context.criterion)
    assert all(p.requires_grad for p in model.parameters())
    changed = unlearned(LastLayers(inner=inner), model, context)
    assert torch.equal(changed[0].weight, model[0].weight)
    assert not torch.equal(changed[2].weight, model[2].weight)
