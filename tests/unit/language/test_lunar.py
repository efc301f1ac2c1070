"""LUNAR against another solver of its least-squares problem, on a tiny Llama in float64."""

import copy
from dataclasses import replace

import pytest
import torch
from forgetting import DATA
from tiny_llama import llama, task

from erasure.errors import RequirementNotMet
from erasure.functional.tokens import PROMPT
from erasure.unlearners.lunar import LUNAR

REFUSED = torch.arange(8, 12)


@pytest.fixture
def model():
    return llama(DATA)


def given(**options):
    plain = task(DATA, **options)
    return replace(plain, partitions={**plain.partitions, "refused": REFUSED})


def seen(model, ids, block=1):
    """Inputs of the map at each token of each prompt, one sample alone at a time, and the state after the block at the last one."""
    layer, found, last = model.network.model.layers[block], [], []
    kept = {}
    handles = (
        layer.mlp.down_proj.register_forward_pre_hook(lambda m, x: kept.update(h=x[0])),
        layer.register_forward_hook(lambda m, x, out: kept.update(s=out if isinstance(out, torch.Tensor) else out[0])),
    )
    for i in ids.tolist():
        with torch.no_grad():
            model(DATA.x.values[i : i + 1])
        n = int((DATA.x.values[i, 1] == PROMPT).sum())
        found.append(kept["h"][0, :n])
        last.append(kept["s"][0, n - 1])
    for handle in handles:
        handle.remove()
    return torch.cat(found), torch.stack(last)


def test_the_map_is_the_solution_of_the_least_squares_problem(model):
    method = LUNAR(block=1, strength=1.5, ridge=1e-3)
    after = method.run(model, given()).model
    forget, retain = (seen(model, ids) for ids in (torch.arange(4), torch.arange(4, 8)))
    direction = seen(model, REFUSED)[1].mean(0) - forget[1].mean(0)
    inputs = torch.cat([forget[0], retain[0]])
    ridge = 1e-3 * inputs.square().sum() / inputs.shape[1]
    wanted = torch.cat([1.5 * direction.expand(len(forget[0]), -1), torch.zeros(len(retain[0]), len(direction))])
    # Rows of the square root of the ridge, with zeros to be reached, make it plain least squares.
    padded = torch.cat([inputs, ridge.sqrt() * torch.eye(inputs.shape[1], dtype=inputs.dtype)])
    found = torch.linalg.lstsq(
        padded, torch.cat([wanted, torch.zeros(inputs.shape[1], len(direction))]).to(inputs.dtype)
    ).solution.T
    name = "network.model.layers.1.mlp.down_proj.weight"
    before, now = dict(model.named_parameters()), dict(after.named_parameters())
    torch.testing.assert_close(now[name] - before[name], found, rtol=1e-6, atol=1e-9)
    assert all(torch.equal(now[other], before[other]) for other in before if other != name)


def test_the_change_is_linear_in_its_strength_and_blind_to_batches_and_padding(model):
    name = "network.model.layers.1.mlp.down_proj.weight"
    before = dict(model.named_parameters())[name]

    def change(strength, **options):
        after = LUNAR(strength=strength, ridge=1e-3).run(model, given(**options)).model
        return dict(after.named_parameters())[name] - before

    torch.testing.assert_close(change(3.0), 3 * change(1.0), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(change(1.0, batch_size=1), change(1.0, batch_size=99), rtol=1e-7, atol=1e-10)


def test_refused_prompts_that_are_the_forgotten_ones_change_nothing(model):
    same = replace(given(), partitions={**given().partitions, "refused": torch.arange(4)})
    after = LUNAR().run(copy.deepcopy(model), same).model
    for a, b in zip(after.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_a_missing_partition_and_networks_without_the_map_are_refused(model):
    with pytest.raises(RequirementNotMet, match="declines to answer"):
        LUNAR().run(model, task(DATA))
    with pytest.raises(RequirementNotMet, match="no block 9"):
        LUNAR(block=9).try_on(model, None, None)
    with pytest.raises(RequirementNotMet, match="merge low-rank updates"):
        LUNAR().try_on(llama(DATA, lora_rank=2), None, None)
