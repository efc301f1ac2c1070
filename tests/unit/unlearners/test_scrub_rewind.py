from fractions import Fraction

import pytest
import torch
from toys import (
    check_whole_class,
    make_task,
    memorised,
    norm_net,
    same_model,
    sgd,
    tiny_net,
    tiny_task,
    unlearned,
)

from erasure.errors import PartitionError, RequirementNotMet
from erasure.training.calls import Optimizer
from erasure.unlearners.scrub import Scrub
from erasure.unlearners.scrub_rewind import ScrubRewind

FAST = {"optimizer": sgd(0.5), "order": "min-max", "max_epochs": 6}


def error(model, task, ids):
    with torch.no_grad():
        wrong = model.eval()(task.x.values[ids]).argmax(1) != task.y[ids]
    return Fraction(int(wrong.sum()), len(ids))


def chosen_by_hand(model, task, epochs):
    """The epoch to go back to, from separate runs of SCRUB for each number of epochs."""
    checkpoints = [unlearned(Scrub(epochs=e, **FAST), model, task) for e in range(epochs + 1)]
    validation = torch.tensor(
        [i for i in task.partitions["validation"].tolist() if task.y[i] in task.y[task.partitions["forget"]]]
    )
    reference = error(checkpoints[-1], task, validation)
    gaps = [abs(error(c, task, task.partitions["forget"]) - reference) for c in checkpoints]
    return gaps.index(min(gaps)), checkpoints


def test_it_returns_the_checkpoint_whose_forget_error_is_closest_to_the_reference():
    chosen = set()
    for seed in range(8):
        model, context = tiny_net(seed), tiny_task(seed=seed)
        epoch, checkpoints = chosen_by_hand(model, context, 5)
        assert same_model(unlearned(ScrubRewind(epochs=5, **FAST), model, context), checkpoints[epoch])
        chosen.add(epoch)
    assert len(chosen) > 1


def test_the_original_can_be_chosen():
    model, context = memorised().original, memorised().task
    # Clean validation samples are classified well at the end; the closest forget error is that of the original, 0.
    assert same_model(model, unlearned(ScrubRewind(), model, context))


def test_a_model_that_forgot_too_much_is_rewound():
    full = memorised()
    partitions = {"forget": range(24), "retain": range(24, 108), "validation": range(108, 132)}  # half of the forget set is clean
    context = make_task(full.task.x.values, full.task.y, partitions, batch_size=16)
    settings = {"order": "min-max", "optimizer": Optimizer.of("Adam", lr=0.005)}
    final, rewound = (
        unlearned(Scrub(**settings), full.original, context),
        unlearned(ScrubRewind(**settings), full.original, context),
    )
    forget, reference = context.partitions["forget"], error(final, context, context.partitions["validation"])
    assert error(final, context, forget) > reference + Fraction(1, 4)
    assert abs(error(rewound, context, forget) - reference) < abs(error(final, context, forget) - reference)


def test_without_epochs_the_original_comes_back():
    model = norm_net()
    assert same_model(model, unlearned(ScrubRewind(epochs=0), model, tiny_task()))


def test_listeners_hear_of_every_epoch_once():
    heard = []
    context = tiny_task(on_epoch=lambda epoch, epochs, model: heard.append((epoch, epochs)))
    unlearned(ScrubRewind(epochs=3, **FAST), tiny_net(), context)
    assert heard == [(1, 3), (2, 3), (3, 3)]


def test_only_validation_samples_of_the_forgotten_classes_count():
    context, model = tiny_task(), tiny_net(2)
    of_class_0 = [i for i in range(24) if int(context.y[i]) == 0]
    others = [i for i in range(24) if int(context.y[i]) != 0]

    def with_validation(ids):
        return make_task(context.x.values, context.y, {"forget": of_class_0, "retain": others, "validation": ids})

    matched = [i for i in range(24, 32) if int(context.y[i]) == 0]
    everything = unlearned(ScrubRewind(epochs=5, **FAST), model, with_validation(range(24, 32)))
    assert same_model(everything, unlearned(ScrubRewind(epochs=5, **FAST), model, with_validation(matched)))


def test_what_it_needs_is_asked_for():
    assert ScrubRewind(validation="held-out").partitions() == {
        "forget": "forget",
        "retain": "retain",
        "validation": "held-out",
    }
    with pytest.raises(PartitionError, match='no partition "held-out"'):
        unlearned(ScrubRewind(validation="held-out"), tiny_net(), tiny_task())
    with pytest.raises(RequirementNotMet, match="not defined for an empty forget set"):
        unlearned(ScrubRewind(), tiny_net(), tiny_task(0))
    context = tiny_task()
    lacking = make_task(context.x.values, context.y, {"forget": [0], "retain": [1, 2, 4, 5], "validation": [25, 26]})
    with pytest.raises(RequirementNotMet, match="has no sample of the classes to forget"):
        unlearned(ScrubRewind(), tiny_net(), lacking)
    with pytest.raises(RequirementNotMet, match="not defined for multilabel"):
        unlearned(ScrubRewind(), tiny_net(), tiny_task(kind="multilabel"))


def test_forget_sets_of_one_and_more_work():
    for kind in ("classification", "binary"):
        for n_forget in (1, 3, 6):
            model = norm_net(n_outputs=1 if kind == "binary" else 3)
            assert not unlearned(ScrubRewind(epochs=2, **FAST), model, tiny_task(n_forget, kind=kind)).training
    check_whole_class(ScrubRewind(epochs=2, optimizer=sgd(2.0), order="min-max", validation="train"))


def test_the_published_settings_are_scrubs():
    large = ScrubRewind.large_scale()
    assert isinstance(large, ScrubRewind)
    assert large.alpha == Scrub.large_scale().alpha
