import pytest
import torch
from safetensors.torch import load_file
from toys import (
    buffers,
    check_forget_sizes,
    check_whole_class,
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

from erasure.errors import InvalidParameters, RequirementNotMet
from erasure.unlearners.cascade import Cascade
from erasure.unlearners.identity import Identity
from erasure.unlearners.masked import Masked
from erasure.unlearners.saliency import SaliencyMapGeneration, SaliencyMask, saliency_mask
from erasure.unlearners.successive_random_labels import SuccessiveRandomLabels


def reading(task):
    return task.seen_by(SaliencyMapGeneration())


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.29, 0.5, 1.0])
def test_the_mask_holds_the_weights_with_the_largest_summed_signed_gradient(fraction):
    context, model = tiny_task(), tiny_net()
    by_hand = start(model)
    total = [torch.zeros_like(p) for p in by_hand]
    for ids in (torch.arange(4), torch.arange(4, 6)):  # batch means: the short batch counts as much as the whole one
        for t, g in zip(total, torch.autograd.grad(-loss_by_hand(by_hand, context, ids), by_hand), strict=True):
            t += g
    scores = torch.cat([t.abs().flatten() for t in total])
    n_chosen = {0.0: 0, 0.1: 5, 0.29: 14, 0.5: 25, 1.0: 51}[fraction]
    expected = torch.zeros(51, dtype=torch.bool)
    expected[scores.topk(n_chosen).indices] = True
    mask = saliency_mask(model, reading(context), fraction=fraction)
    assert torch.equal(torch.cat([m.flatten() for m in mask.values()]), expected)
    assert list(mask) == [name for name, _ in model.named_parameters()]


def test_it_looks_at_the_model_in_eval_mode_and_leaves_it_as_it_is():
    model, context = norm_net(dropout=0.5), tiny_task()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    masks = [saliency_mask(model, reading(context), fraction=0.5) for _ in range(2)]
    assert same(*masks)
    assert same(before, model.state_dict())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_frozen_parameters_get_no_mask():
    model = tiny_net()
    model[0].requires_grad_(False)
    assert list(saliency_mask(model, reading(tiny_task()), fraction=0.5)) == ["2.weight", "2.bias"]


def test_an_empty_forget_set_is_refused():
    with pytest.raises(RequirementNotMet, match="not defined for an empty forget set"):
        unlearned(SaliencyMapGeneration(), tiny_net(), tiny_task(0))


def test_a_cascade_of_generation_and_relabelling_is_masked_relabelling():
    model, context = norm_net(), tiny_task()
    relabelling = SuccessiveRandomLabels(epochs=2, optimizer=sgd(0.1, momentum=0.9, weight_decay=0.1))
    upstream = Cascade(
        steps=(
            SaliencyMapGeneration(save_dir="saliency_maps", file_name="saliency_map", fraction=0.3),
            Masked(inner=relabelling, mask_file="saliency_maps//saliency_map"),
        )
    )
    ours = Cascade(steps=(Identity(), Masked(inner=relabelling, mask=SaliencyMask(fraction=0.3))))
    after = unlearned(upstream, model, context)
    assert same_model(after, unlearned(ours, model, context))
    mask = saliency_mask(model, reading(context), fraction=0.3)
    for name, w in weights(after).items():
        assert torch.equal(w[~mask[name]], weights(model)[name][~mask[name]])
        assert not bool(mask[name].any()) or not torch.equal(w, weights(model)[name])


def test_generation_alone_changes_nothing_and_writes_only_when_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, context = norm_net(), tiny_task()
    after = unlearned(SaliencyMapGeneration(save_dir="maps"), model, context)
    assert same_model(model, after)
    assert same(buffers(model), buffers(after))
    assert not list(tmp_path.iterdir())
    unlearned(SaliencyMapGeneration(save_dir="maps", write=True), model, context)
    assert same(load_file(tmp_path / "maps" / "saliency_map"), saliency_mask(model, reading(context), fraction=0.5))


def test_a_written_mask_serves_another_run(tmp_path):
    model, inner = tiny_net(), SuccessiveRandomLabels(epochs=1)
    unlearned(SaliencyMapGeneration(save_dir=str(tmp_path), write=True), model, tiny_task())
    masked = unlearned(Masked(inner=inner, mask_file=str(tmp_path / "saliency_map")), model, tiny_task())
    assert same_model(masked, unlearned(Masked(inner=inner, mask=SaliencyMask()), model, tiny_task()))


def test_the_gradient_is_asked_from_the_bank_and_charged_to_the_method():
    class Bank:
        def __init__(self):
            self.asked = []

        def cached(self, name, content, compute):
            self.asked.append((name, content["samples_per_batch"]))
            return compute(), 5.0

    bank = Bank()
    result = SaliencyMapGeneration().run(tiny_net(), tiny_task(bank=bank))
    assert bank.asked == [("forget_gradient", 4)]
    assert result.elapsed_s > 4.0
    assert result.precompute_s == 0.0


def test_a_fraction_above_one_is_refused():
    with pytest.raises(InvalidParameters, match="less than or equal to 1"):
        SaliencyMask(fraction=1.5)


def test_forget_sets_of_one_and_more_work():
    for n_forget in (1, 3, 6):
        mask = saliency_mask(norm_net(), reading(tiny_task(n_forget)), fraction=0.5)
        n_weights = sum(p.numel() for p in norm_net().parameters())
        assert sum(int(m.sum()) for m in mask.values()) == n_weights // 2
    check_whole_class(Masked(inner=SuccessiveRandomLabels(epochs=1), mask=SaliencyMask()))
    with pytest.raises(RequirementNotMet):
        check_forget_sizes(Masked(inner=SuccessiveRandomLabels(epochs=1), mask=SaliencyMask()))


def test_a_model_in_training_mode_gives_the_same_mask():
    context = tiny_task()
    assert same(*(saliency_mask(norm_net(dropout=0.5).train(mode), reading(context), fraction=0.5) for mode in (True, False)))
