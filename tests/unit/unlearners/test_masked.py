import json
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from safetensors.torch import save_file
from toys import (
    SgdByHand,
    Shuffles,
    buffers,
    check_forget_sizes,
    check_whole_class,
    distance,
    loss_by_hand,
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

from erasure.component import canonical
from erasure.errors import DataError, InvalidParameters, RequirementNotMet
from erasure.training.calls import Optimizer
from erasure.types import PartitionRole
from erasure.unlearners.cascade import Cascade
from erasure.unlearners.contract import Unlearner
from erasure.unlearners.finetuning import Finetuning
from erasure.unlearners.identity import Identity
from erasure.unlearners.masked import Mask, Masked
from erasure.unlearners.saliency import SaliencyMask


@dataclass(frozen=True, kw_only=True)
class EveryOther(Mask):
    """Every second weight."""

    def partitions(self):
        return {}

    def of(self, model, task):
        return {name: (torch.arange(p.numel()) % 2 == 0).view(p.shape) for name, p in model.named_parameters()}


@dataclass(frozen=True, kw_only=True)
class Halved(Unlearner):
    """A method without gradient steps, which knows nothing of masks."""

    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"retain"})

    def unlearn(self, model, task):
        for parameter in model.parameters():
            parameter.data.mul_(0.5)
        return model


def held(model):
    """The weights that the mask of every second weight holds."""
    return {name: w.flatten()[1::2] for name, w in weights(model).items()}


def free(model):
    return {name: w.flatten()[::2] for name, w in weights(model).items()}


OPTIMIZERS = [
    sgd(0.1, momentum=0.9, weight_decay=0.1),
    Optimizer.of("Adam", lr=0.01, weight_decay=0.1),
    Optimizer.of("AdamW", lr=0.01, weight_decay=0.1),
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: o.name)
def test_weights_outside_the_mask_are_exact_under_weight_decay_and_momentum(optimizer):
    model, context = norm_net(), tiny_task()
    after = unlearned(Masked(inner=Finetuning(epochs=4, optimizer=optimizer), mask=EveryOther()), model, context)
    assert same(held(model), held(after))
    assert all(bool((a != b).any()) for a, b in zip(free(model).values(), free(after).values(), strict=True))
    assert not same(buffers(model), buffers(after))


def test_the_trajectory_is_that_of_masked_gradients_and_decay():
    context, model = tiny_task(), tiny_net()
    by_hand = start(model)
    keep = [(torch.arange(p.numel()) % 2 == 0).view(p.shape) for p in by_hand]
    before = [p.detach().clone() for p in by_hand]
    optimizer = SgdByHand(by_hand, 0.05, momentum=0.9, weight_decay=0.1)
    retain = Shuffles(context, "retain")
    for _ in range(3):
        for ids in retain.one_pass():
            optimizer.step(loss_by_hand(by_hand, context, ids))
            with torch.no_grad():
                for p, m, w in zip(by_hand, keep, before, strict=True):
                    p.copy_(m * p + (~m) * w)
    inner = Finetuning(epochs=3, optimizer=sgd(0.05, momentum=0.9, weight_decay=0.1))
    assert distance(weights(unlearned(Masked(inner=inner, mask=EveryOther()), model, context)), by_hand) < 1e-10


def test_a_method_without_gradient_steps_is_masked_too():
    model = tiny_net()
    after = unlearned(Masked(inner=Halved(), mask=EveryOther()), model, tiny_task())
    assert same(held(model), held(after))
    assert same({n: 0.5 * w for n, w in free(model).items()}, free(after))


def test_all_weights_are_the_inner_method_and_none_leave_the_weights():
    model, context = norm_net(), tiny_task()
    inner = Finetuning(epochs=2, optimizer=sgd(0.1, momentum=0.9, weight_decay=0.1))
    assert same_model(
        unlearned(Masked(inner=inner, mask=SaliencyMask(fraction=1.0)), model, context), unlearned(inner, model, context)
    )
    nothing = unlearned(Masked(inner=inner, mask=SaliencyMask(fraction=0.0)), model, context)
    assert same(weights(model), weights(nothing))


def test_masks_inside_one_another_intersect():
    model, context = tiny_net(), tiny_task()
    inner = Masked(inner=Finetuning(epochs=2, optimizer=sgd()), mask=SaliencyMask(fraction=0.5))
    after = unlearned(Masked(inner=inner, mask=EveryOther()), model, context)
    salient = SaliencyMask(fraction=0.5).of(model, context.seen_by(inner))
    for name, w in weights(after).items():
        both = salient[name] & (torch.arange(w.numel()) % 2 == 0).view(w.shape)
        assert torch.equal(w[~both], weights(model)[name][~both])


def test_a_mask_of_a_file_is_read_and_a_missing_one_named(tmp_path):
    model, context = tiny_net(), tiny_task()
    file = tmp_path / "mask.safetensors"
    save_file(EveryOther().of(model, context), file)
    inner = Finetuning(epochs=2, optimizer=sgd())
    assert same_model(
        unlearned(Masked(inner=inner, mask_file=str(file)), model, context),
        unlearned(Masked(inner=inner, mask=EveryOther()), model, context),
    )
    with pytest.raises(RequirementNotMet, match="no earlier step of this Cascade made it"):
        unlearned(Masked(inner=inner, mask_file=str(tmp_path / "other")), model, context)
    pickled = tmp_path / "pickled.pt"
    torch.save({"w": torch.ones(1)}, pickled)
    with pytest.raises(DataError, match="not a safetensors file"):
        unlearned(Masked(inner=inner, mask_file=str(pickled)), model, context)


def test_another_content_of_a_mask_is_another_method(tmp_path):
    file = tmp_path / "mask.safetensors"
    made = Masked(inner=Identity(), mask_file=str(file))
    assert "mask_sha256" not in canonical(made)["parameters"]
    save_file({"w": torch.ones(2)}, file)
    ones = Masked(inner=Identity(), mask_file=str(file))
    save_file({"w": torch.zeros(2)}, file)
    zeros = Masked(inner=Identity(), mask_file=str(file))
    assert len({json.dumps(canonical(each)) for each in (made, ones, zeros)}) == 3
    with pytest.raises(InvalidParameters, match="the file has changed"):
        Masked(inner=Identity(), mask_file=str(file), mask_sha256=ones.mask_sha256)


def test_a_mask_of_another_model_is_refused(tmp_path):
    file = tmp_path / "mask.safetensors"
    save_file({"0.weight": torch.ones(2, 2)}, file)
    with pytest.raises(RequirementNotMet, match=r"made for another model; these parameters differ: 0\.weight"):
        unlearned(Masked(inner=Identity(), mask_file=str(file)), tiny_net(), tiny_task())


def test_one_mask_is_asked_for():
    with pytest.raises(InvalidParameters, match="neither"):
        Masked(inner=Identity())
    with pytest.raises(InvalidParameters, match="both"):
        Masked(inner=Identity(), mask=EveryOther(), mask_file="m")


def test_partitions_are_those_of_the_mask_and_of_the_inner_method():
    masked = Masked(inner=Finetuning(retain="kept"), mask=SaliencyMask(forget="gone"))
    assert masked.partitions() == {"forget": "gone", "retain": "kept"}


def test_the_mask_and_the_inner_method_use_their_own_partitions():
    context = tiny_task()
    context = context.__class__(
        **{**context.__dict__, "partitions": {"gone": context.partitions["forget"], "kept": context.partitions["retain"]}}
    )
    masked = Masked(inner=Finetuning(retain="kept", epochs=1, optimizer=sgd()), mask=SaliencyMask(forget="gone"))
    assert not same_model(tiny_net(), unlearned(masked, tiny_net(), context))


def test_the_inner_batch_size_wins():
    model, context = tiny_net(), tiny_task()
    inner = Finetuning(epochs=1, optimizer=sgd(), batch_size=6)
    masked = unlearned(Masked(inner=inner, mask=SaliencyMask(fraction=1.0), batch_size=3), model, context)
    assert same_model(masked, unlearned(inner, model, context))
    outer = unlearned(Masked(inner=inner.replace(batch_size=None), mask=SaliencyMask(fraction=1.0), batch_size=6), model, context)
    assert same_model(outer, masked)


def test_forget_sets_of_every_size_work():
    check_forget_sizes(Masked(inner=Finetuning(epochs=1), mask=EveryOther()))
    check_whole_class(Masked(inner=Finetuning(epochs=1), mask=EveryOther()))
    check_whole_class(Cascade(steps=(Masked(inner=Finetuning(epochs=1), mask=SaliencyMask()), Identity())))
