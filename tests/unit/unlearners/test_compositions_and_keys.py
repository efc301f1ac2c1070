"""What a method inside another one must not get wrong: shared importances, masks between steps, batches that say nothing."""

from dataclasses import replace

import pytest
import torch
from test_masked import EveryOther, Halved
from torch import nn
from toys import distance, same, sgd, tiny_net, tiny_task, unlearned, weights

from erasure.testing.problems import problem
from erasure.training.calls import Criterion, Loss
from erasure.training.predictor import mean_loss
from erasure.unlearners.cascade import Cascade
from erasure.unlearners.finetuning import Finetuning
from erasure.unlearners.fisher_forgetting import FisherForgetting
from erasure.unlearners.influence_unlearning import InfluenceUnlearning
from erasure.unlearners.last_layers import LastLayers
from erasure.unlearners.lfssd import LFSSD
from erasure.unlearners.masked import Masked
from erasure.unlearners.selective_synaptic_dampening import SelectiveSynapticDampening as SSD
from erasure.unlearners.sequential import Sequential

# Importances shared between methods


@pytest.mark.parametrize("method", [SSD(selection_weighting=1.1), LFSSD(selection_weighting=1.1), FisherForgetting(alpha=1e-3)])
def test_importances_of_the_last_layers_are_not_taken_for_those_of_the_model(method):
    alone, shared = problem(), problem()
    expected = unlearned(method, alone.model, alone.context)
    first = unlearned(LastLayers(inner=method), shared.model, shared.context)
    second = unlearned(method, shared.model, shared.context)
    assert same(weights(second), weights(expected))
    assert not same(weights(first), weights(second))


# Masks between the steps of a composition


def test_a_masked_composition_trains_around_the_weights_that_there_are_in_the_end():
    model, context = tiny_net(), tiny_task()
    steps = (Halved(), Finetuning(epochs=2, optimizer=sgd()))
    composed = unlearned(Masked(inner=Cascade(steps=steps), mask=EveryOther()), model, context)
    # By hand: the first step behind the mask, then the second one from there.
    halved = unlearned(Masked(inner=Halved(), mask=EveryOther()), model, context)
    trained = unlearned(
        Masked(inner=steps[1], mask=EveryOther()), halved, replace(context, streams=context.streams.child("step", 1))
    )
    assert distance(weights(composed), weights(trained)) < 1e-12


def test_sequential_requests_behind_a_mask_start_from_the_masked_model():
    model, context = tiny_net(), tiny_task()
    sequence = Sequential(method=Halved(), requests=("forget", "forget"), remaining=("retain", "retain"))
    seen = []
    unlearned(
        Masked(inner=sequence, mask=EveryOther()), model, replace(context, on_epoch=lambda e, n, m: seen.append(weights(m)))
    )
    for name, before in weights(model).items():
        for number, state in enumerate(seen, start=1):
            free = torch.arange(before.numel()).view(before.shape) % 2 == 0
            assert torch.equal(state[name], torch.where(free, before * 0.5**number, before))


def test_layers_that_are_drawn_anew_behind_a_mask_are_trained_with_the_weights_that_it_holds():
    model, context = tiny_net(), tiny_task()
    untrained = LastLayers(inner=Finetuning(epochs=0), n_layers=2, reset=True)
    found = unlearned(Masked(inner=untrained, mask=EveryOther()), model, context)
    for name, before in weights(model).items():
        held = torch.arange(before.numel()).view(before.shape) % 2 == 1
        assert torch.equal(dict(found.named_parameters())[name][held], before[held])


# Class weights


def weighted(**fields):
    loss = Loss.of("CrossEntropyLoss", weight=torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64))
    return replace(tiny_task(**fields), criterion=Criterion("classification", loss))


@pytest.mark.parametrize("curvature", ["gauss-newton", "hessian"])
def test_influence_with_class_weights_does_not_depend_on_the_batch_size(curvature):
    method = InfluenceUnlearning(damping=1.0, curvature=curvature, max_steps=30)
    found = [weights(unlearned(method, tiny_net(), weighted(batch_size=size))) for size in (1, 4, 32)]
    assert distance(found[0], found[1]) < 1e-9
    assert distance(found[0], found[2]) < 1e-9


def test_the_validation_loss_with_class_weights_does_not_depend_on_the_batch_size():
    task, model = weighted(), tiny_net()
    losses = [mean_loss(model, task.seen_by(SSD()).batches("train", batch_size=size), task.criterion) for size in (1, 5, 24)]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-12)


# Padding


class Padded(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(10, 4, padding_idx=0), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.embedding(x).mean(1))


def test_fisher_forgetting_puts_no_noise_on_the_padding_row():
    torch.manual_seed(0)
    model, context = Padded(), tiny_task()
    tokens = torch.randint(0, 10, (32, 5))
    column = replace(context.x, values=tokens)
    found = unlearned(FisherForgetting(alpha=1e-2), model, replace(context, x=column))
    assert bool((found.embedding.weight[0] == 0).all())
    assert bool((found.embedding.weight[1:] != model.embedding.weight[1:]).any(1).all())
