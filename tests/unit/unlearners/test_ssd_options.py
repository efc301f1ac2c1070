"""Adaptive SSD, and the importances of SSD-Det and LFSSD-Det, which no batching changes."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from toys import memorised, same_model, tiny_net, tiny_task, unlearned, weights

from erasure.component import canonical
from erasure.unlearners.lfssd import LFSSD
from erasure.unlearners.selective_synaptic_dampening import SelectiveSynapticDampening as SSD
from erasure.unlearners.selective_synaptic_dampening import adaptive_weighting


def gradients_by_hand(model, task, partition, loss):
    """Gradient of each sample's loss, (n, P)."""
    rows = []
    for i in task.partitions[partition].tolist():
        value = loss(model(task.x.values[i : i + 1]), task.y[i : i + 1])
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(value, list(model.parameters()))]))
    return torch.stack(rows)


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def dampened_by_hand(weight, forget, train, share):
    ratios = (forget / train).numpy()
    alpha = max(1.0, np.percentile(ratios[np.isfinite(ratios)], 100 - np.log(1 + 100 * share)))
    selected = forget > alpha * train
    assert 0 < int(selected.sum()) < len(weight)
    return torch.where(selected, (train / forget).clamp(max=1) * weight, weight)


def test_adaptive_ssd_follows_the_paper():
    context, model = tiny_task(), tiny_net()
    forget, train = (
        gradients_by_hand(model, context, p, nn.functional.cross_entropy).square().mean(0) for p in ("forget", "train")
    )
    expected = dampened_by_hand(flat(model), forget, train, 6 / 24)
    assert torch.allclose(flat(unlearned(SSD(selection_weighting="adaptive"), model, context)), expected, atol=1e-12)


def test_lfssd_det_is_the_mean_of_absolute_gradients():
    context, model = tiny_task(), tiny_net()
    forget, train = (
        gradients_by_hand(model, context, p, lambda logits, y: logits.square().sum()).abs().mean(0) for p in ("forget", "train")
    )
    expected = dampened_by_hand(flat(model), forget, train, 6 / 24)
    method = LFSSD(selection_weighting="adaptive", combined_by="mean-absolute")
    assert torch.allclose(flat(unlearned(method, model, context)), expected, atol=1e-12)
    assert not torch.allclose(flat(unlearned(method.replace(combined_by="root-mean-square"), model, context)), expected)


def test_the_percentile_of_ratios_is_numpys_and_grows_with_smaller_forget_sets():
    generator = torch.Generator().manual_seed(0)
    forget, train = (torch.rand(1000, generator=generator, dtype=torch.float64) for _ in range(2))
    forget[:10], train[5:20] = 0.0, 0.0  # 0/0 and x/0 take no part
    ratios = (forget / train).numpy()
    ratios = ratios[np.isfinite(ratios)]
    found = [adaptive_weighting({"w": forget}, {"w": train}, share) for share in (1e-4, 0.01, 0.1, 0.5, 1.0)]
    expected = [np.percentile(ratios, 100 - np.log(1 + 100 * share)) for share in (1e-4, 0.01, 0.1, 0.5, 1.0)]
    assert found == pytest.approx(expected, rel=1e-12)
    assert found == sorted(found, reverse=True)
    for share, value in zip((1e-4, 0.01, 0.1, 0.5, 1.0), found, strict=True):
        assert abs((ratios > value).mean() - np.log(1 + 100 * share) / 100) <= 1 / len(ratios)
    assert 100 - np.log(101) > 95.38


def test_the_weighting_never_dampens_what_matters_more_to_the_training_set():
    assert adaptive_weighting({"w": torch.full((50,), 0.1)}, {"w": torch.ones(50)}, 0.1) == 1.0
    assert adaptive_weighting({"w": torch.ones(2)}, {"w": torch.zeros(2)}, 0.1) == float("inf")


@pytest.mark.parametrize("method", [SSD(selection_weighting="adaptive"), LFSSD(combined_by="mean-absolute")])
def test_neither_order_nor_batch_size_changes_the_importances(method):
    model, context = tiny_net(), tiny_task()
    reversed_ids = {name: ids.flip(0) for name, ids in context.partitions.items()}
    others = [tiny_task(batch_size=size) for size in (1, 5, 24)] + [dataclasses.replace(context, partitions=reversed_ids)]
    expected = weights(unlearned(method, model, context))
    for other in others:
        found = weights(unlearned(method, model, other))
        assert all(torch.allclose(found[name], expected[name], atol=1e-12) for name in expected)


@pytest.mark.parametrize("cls", [SSD, LFSSD])
def test_batches_of_one_are_single_samples(cls):
    model, context = tiny_net(), tiny_task(batch_size=1)
    by_batch = cls(selection_weighting=1.3, importance="batch")
    one_by_one = cls(selection_weighting=1.3, **({"combined_by": "mean-absolute"} if cls is LFSSD else {}))
    found, expected = flat(unlearned(by_batch, model, context)), flat(unlearned(one_by_one, model, context))
    assert not torch.equal(found, flat(model))
    assert torch.allclose(found, expected, atol=1e-12)


def test_the_new_options_leave_the_addresses_of_other_configurations():
    assert "combined_by" not in canonical(LFSSD())["parameters"]
    assert canonical(LFSSD(combined_by="mean-absolute"))["parameters"]["combined_by"] == "mean-absolute"


def test_without_a_forget_set_nothing_is_dampened():
    model, context = tiny_net(), tiny_task(0)
    assert same_model(model, unlearned(SSD(selection_weighting="adaptive"), model, context))


def test_adaptive_ssd_hurts_memorised_samples_more_than_the_rest():
    learned = memorised()
    model = unlearned(SSD(selection_weighting="adaptive"), learned.original, learned.task)

    def loss(model, partition):
        ids = learned.task.partitions[partition]
        with torch.no_grad():
            return float(nn.functional.cross_entropy(model(learned.task.x.values[ids]), learned.task.y[ids]))

    rises = {part: loss(model, part) - loss(learned.original, part) for part in ("forget", "retain")}
    assert rises["forget"] > 0.005
    assert rises["forget"] > 5 * rises["retain"]
