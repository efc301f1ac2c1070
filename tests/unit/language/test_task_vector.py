"""Task arithmetic on a tiny Llama in float64."""

import pytest
import torch
from forgetting import DATA
from tiny_llama import llama, task

from erasure.training.calls import Optimizer
from erasure.unlearners.finetuning import Finetuning
from erasure.unlearners.neg_merge import NegMerge
from erasure.unlearners.task_vector import TaskVector

RATE = Optimizer.of("SGD", lr=0.05)


@pytest.fixture
def model():
    return llama(DATA)


def flat(model):
    return torch.cat([parameter.flatten() for parameter in model.parameters()]).detach()


def moved(model, strength, epochs=2):
    method = TaskVector(epochs=epochs, optimizer=RATE, strength=strength)
    return flat(method.run(model, task(DATA)).model) - flat(model)


def test_no_strength_changes_nothing(model):
    assert torch.equal(moved(model, 0.0), torch.zeros_like(flat(model)))


def test_it_is_linear_in_the_strength(model):
    torch.testing.assert_close(moved(model, 3.0), 3 * moved(model, 1.0), rtol=0, atol=1e-13)


def test_it_goes_the_opposite_way_of_fine_tuning_on_the_forget_set(model):
    tuned = Finetuning(epochs=2, optimizer=RATE, retain="forget").run(model, task(DATA)).model
    change = flat(tuned) - flat(model)
    # Batches of one size in another order differ little; with all samples in one batch there is no order.
    torch.testing.assert_close(moved(model, 1.0), -change, rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", [TaskVector(epochs=2), NegMerge(epochs=2, learning_rates=(0.2,))])
def test_low_rank_updates_change_the_weights_by_a_multiple_of_one_difference(method):
    adapted = llama(DATA, lora_rank=2)
    with torch.no_grad():
        for layer in layers(adapted):
            layer.lora_B["default"].weight.normal_(0, 0.3, generator=torch.Generator().manual_seed(1))
    rate = {"optimizer": Optimizer.of("SGD", lr=0.2)}
    before, found = weights(adapted), []
    for strength in (1.0, 8.0):
        of = {"strength": strength} if isinstance(method, TaskVector) else {"scale": strength}
        after = method.replace(**rate, **of).run(adapted, task(DATA)).model
        found.append(weights(after) - before)
        assert [p.requires_grad for p in after.parameters()] == [p.requires_grad for p in adapted.parameters()]
    assert float(found[0].norm()) > 1e-3
    torch.testing.assert_close(found[1], 8 * found[0], rtol=0, atol=1e-10)


def layers(model):
    return [module for module in model.modules() if hasattr(module, "base_layer")]


def weights(model):
    """Of all linear maps with low-rank updates, these included."""
    return torch.cat(
        [(layer.base_layer.weight + layer.get_delta_weight("default")).flatten() for layer in layers(model)]
    ).detach()


def test_each_epoch_that_is_looked_at_is_what_stopping_there_would_give(model):
    seen = []
    method = TaskVector(epochs=2, optimizer=RATE)
    after = method.run(model, task(DATA, on_epoch=lambda epoch, epochs, now: seen.append(flat(now)))).model
    assert torch.equal(seen[1], flat(after))
    torch.testing.assert_close(seen[0] - flat(model), moved(model, 1.0, epochs=1), rtol=0, atol=0)
