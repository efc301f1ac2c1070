import pytest
import torch
from toys import (
    SgdByHand,
    Shuffles,
    buffers,
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

from erasure.errors import RequirementNotMet
from erasure.unlearners.masked import Masked
from erasure.unlearners.saliency import SaliencyMask
from erasure.unlearners.salun import SalUn
from erasure.unlearners.successive_random_labels import SuccessiveRandomLabels

DECAYING = sgd(0.05, momentum=0.9, weight_decay=0.1)


def test_the_trajectory_is_that_of_relabelling_on_the_salient_weights():
    context, model = tiny_task(), tiny_net()
    by_hand = start(model)
    before = [p.detach().clone() for p in by_hand]
    total = [torch.zeros_like(p) for p in by_hand]
    for ids in (torch.arange(4), torch.arange(4, 6)):
        for t, g in zip(total, torch.autograd.grad(loss_by_hand(by_hand, context, ids), by_hand), strict=True):
            t += g
    threshold = torch.cat([t.abs().flatten() for t in total]).sort(descending=True).values[24]
    keep = [t.abs() >= threshold for t in total]
    assert sum(int(m.sum()) for m in keep) == 51 // 2

    optimizer = SgdByHand(by_hand, 0.05, momentum=0.9, weight_decay=0.1)
    generator = context.streams.torch("labels")
    forget, retain = Shuffles(context, "forget"), Shuffles(context, "retain")
    for _ in range(3):
        for is_forget, passes in ((True, forget.one_pass()), (False, retain.one_pass())):
            for ids in passes:
                wrong = (context.y[ids] + torch.randint(1, 3, ids.shape, generator=generator)) % 3
                optimizer.step(loss_by_hand(by_hand, context, ids, wrong if is_forget else context.y[ids]))
                with torch.no_grad():
                    for p, m, w in zip(by_hand, keep, before, strict=True):
                        p.copy_(torch.where(m, p, w))
    assert distance(weights(unlearned(SalUn(epochs=3, optimizer=DECAYING), model, context)), by_hand) < 1e-10


def test_it_is_relabelling_behind_a_saliency_mask():
    model, context = norm_net(), tiny_task()
    composed = Masked(
        inner=SuccessiveRandomLabels(epochs=2, optimizer=DECAYING, order="sequential", batch_size=3),
        mask=SaliencyMask(fraction=0.25, batch_size=3),
    )
    salun = SalUn(epochs=2, optimizer=DECAYING, fraction=0.25, batch_size=3)
    assert same_model(unlearned(salun, model, context), unlearned(composed, model, context))


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_the_other_weights_are_exact_and_the_share_is_counted(fraction):
    model, context = norm_net(), tiny_task()
    after = unlearned(SalUn(epochs=4, optimizer=DECAYING, fraction=fraction), model, context)
    moved = sum(int((w != weights(model)[n]).sum()) for n, w in weights(after).items())
    n_weights = sum(p.numel() for p in model.parameters())
    # Weight decay moves every free weight that is not zero, gradient or not.
    zeros = sum(int((w == 0).sum()) for w in weights(model).values())
    assert int(fraction * n_weights) - zeros <= moved <= int(fraction * n_weights)
    assert not same(buffers(model), buffers(after))


def test_all_weights_are_plain_relabelling_and_none_leave_the_weights():
    model, context = norm_net(), tiny_task()
    plain = SuccessiveRandomLabels(epochs=2, optimizer=DECAYING, order="sequential")
    assert same_model(
        unlearned(SalUn(epochs=2, optimizer=DECAYING, fraction=1.0), model, context), unlearned(plain, model, context)
    )
    assert same(weights(model), weights(unlearned(SalUn(epochs=2, optimizer=DECAYING, fraction=0.0), model, context)))


def test_no_epochs_change_nothing():
    model = norm_net()
    assert same_model(model, unlearned(SalUn(epochs=0), model, tiny_task()))


def test_the_defaults_are_the_authors():
    salun = SalUn()
    assert dict(salun.optimizer.parameters) == {"lr": 0.013, "momentum": 0.9, "weight_decay": 5e-4}
    assert (salun.epochs, salun.fraction, salun.order, salun.classes) == (10, 0.5, "sequential", "other")


def test_an_empty_forget_set_is_refused_and_others_work():
    with pytest.raises(RequirementNotMet, match="SalUn is not defined for an empty forget set"):
        unlearned(SalUn(), norm_net(), tiny_task(0))
    for kind in ("classification", "binary", "multilabel"):
        for n_forget in (1, 3, 6):
            model = norm_net(n_outputs=1 if kind == "binary" else 3)
            assert not same(weights(model), weights(unlearned(SalUn(epochs=1), model, tiny_task(n_forget, kind=kind))))
    check_whole_class(SalUn(epochs=1))


def test_memorised_samples_are_forgotten():
    memorised().check_effect(SalUn())
