import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from measure_toys import accurate, evaluation_of, predicting
from torch import nn

from erasure.functional.counts import association, majority_share
from erasure.functional.weights import changed_share
from erasure.measures.guards import collapse_threshold, over_forgetting_margin, run_guards

_LABELS = {"forget": torch.tensor([0, 1] * 50), "retain": torch.tensor([0, 1] * 100)}
_ORIGINAL = nn.Linear(2, 2)


def _changed(model):
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed.weight[0, 0] += 1
    return changed


def _logits(forget, retain):
    return {"forget": accurate(_LABELS["forget"], forget), "retain": accurate(_LABELS["retain"], retain)}


def _judge(forget=90, retain=190, gold=(90, 195), original=(100, 200), model=None, labels=_LABELS, logits=None, **options):
    evaluation = evaluation_of(
        labels,
        logits or _logits(forget, retain),
        original=_logits(*original),
        gold=None if gold is None else _logits(*gold),
        models={"unlearned": model or _changed(_ORIGINAL), "original": _ORIGINAL},
    )
    return run_guards(evaluation, **options)


def test_a_sound_model_is_ok():
    verdict = _judge()
    assert (verdict.status, verdict.reason) == ("ok", "")


def test_an_unchanged_model_is_a_no_op():
    assert _judge(model=copy.deepcopy(_ORIGINAL)).status == "no-op"


def test_a_model_whose_buffers_alone_changed_is_not_a_no_op():
    original = nn.BatchNorm1d(3)
    moved = copy.deepcopy(original)
    moved.running_mean += 1
    assert changed_share(original.state_dict(), moved.state_dict()) == 3 / 12
    moved = copy.deepcopy(original)
    moved.num_batches_tracked += 1
    assert changed_share(original.state_dict(), moved.state_dict()) == 0.0


def test_sums_in_whole_numbers_count_and_single_counters_do_not():
    before = {"sums": torch.zeros(2, 2, dtype=torch.int64), "last": torch.zeros(4, dtype=torch.uint64), "n": torch.tensor(1)}
    after = {**before, "last": torch.tensor([0, 0, 1, 2], dtype=torch.uint64), "n": torch.tensor(2)}
    assert changed_share(before, after) == 2 / 8
    assert changed_share(before, {**before, "n": torch.tensor(2)}) == 0.0


def test_the_share_counts_numbers_not_tensors():
    before = {"a": torch.zeros(3), "b": torch.zeros(1)}
    assert changed_share(before, {"a": torch.zeros(3), "b": torch.ones(1)}) == 0.25


def test_other_names_or_shapes_differ_in_everything():
    before = {"a": torch.zeros(3)}
    assert changed_share(before, {"b": torch.zeros(3)}) == changed_share(before, {"a": torch.zeros(4)}) == 1.0


def test_a_model_at_chance_on_retain_has_collapsed():
    verdict = _judge(retain=100)
    assert verdict.status == "collapsed"
    assert "0.500" in verdict.reason and '"retain"' in verdict.reason


def test_collapse_ends_three_standard_errors_above_chance():
    # 0.5 + 3 * sqrt(0.25 / 200) = 0.6061: 121 right of 200 is within, 122 is above.
    assert collapse_threshold(0.5, 200) == pytest.approx(0.606066, abs=1e-6)
    assert (_judge(retain=121).status, _judge(retain=122).status) == ("collapsed", "ok")


def _beside_a_frequent_class(predicted):
    labels = {**_LABELS, "retain": torch.tensor([0] * 180 + [1] * 20)}
    logits = {"forget": _logits(90, 0)["forget"], "retain": predicting(predicted, 2)}
    original = {"forget": logits["forget"], "retain": accurate(labels["retain"], 200)}
    models = {"unlearned": _changed(_ORIGINAL), "original": _ORIGINAL}
    return run_guards(evaluation_of(labels, logits, original=original, models=models))


def test_chance_is_the_share_of_the_most_frequent_class():
    assert majority_share("classification", torch.tensor([0] * 180 + [1] * 20)) == 0.9
    constant = _beside_a_frequent_class(torch.zeros(200, dtype=torch.long))
    # 0.92 would be far above one half, but 0.9 is what a constant reaches.
    assert (constant.status, "is that of a constant prediction (0.900)" in constant.reason) == ("collapsed", True)


def test_who_finds_rare_samples_has_not_collapsed_though_a_constant_is_as_often_right():
    looks_nowhere = torch.tensor([0, 0, 0, 0, 0, 0, 0, 0, 0, 1] * 20)
    finds_some = torch.tensor([0] * 180 + [0] * 12 + [1] * 8)
    misses_some = torch.tensor([1] * 8 + [0] * 172 + [1] * 8 + [0] * 12)  # as often right as a constant
    assert _beside_a_frequent_class(looks_nowhere).status == "collapsed"
    assert [_beside_a_frequent_class(found).status for found in (finds_some, misses_some)] == ["ok", "ok"]


def test_near_a_constant_is_not_called_one():
    assert (
        "cannot be distinguished from that of a constant prediction (0.500 ± 0.106 with 200 samples)" in _judge(retain=110).reason
    )
    assert "is below that of a constant prediction (0.500)" in _judge(retain=20).reason


def test_predictions_that_know_nothing_are_within_three_standard_errors():
    generator = torch.Generator().manual_seed(0)
    for task in ("classification", "multilabel"):
        found = []
        for _ in range(400):
            if task == "classification":
                y, predicted = (
                    torch.multinomial(torch.tensor([0.7, 0.2, 0.1]), 300, True, generator=generator) for _ in range(2)
                )
            else:
                y, predicted = ((torch.rand(300, 4, generator=generator) < 0.3).long() for _ in range(2))
            found.append(association(task, predicted, y))
        assert abs(float(torch.tensor(found).mean())) < 0.2
        assert 0.8 < float(torch.tensor(found).std()) < 1.2
        assert association(task, y, y) > 10


def test_a_model_has_not_collapsed_where_the_original_is_at_chance_too():
    assert _judge(retain=100, original=(50, 110)).status == "ok"


def test_a_model_has_not_collapsed_where_gold_is_at_chance_too_and_gold_is_said_to_be_no_yardstick():
    verdict = _judge(retain=100, gold=(90, 104))
    assert verdict.status == "ok"
    assert verdict.gold.startswith(
        'accuracy 0.520 on "retain" cannot be distinguished from that of a constant prediction (0.500 ±'
    )
    assert not verdict.original
    assert _judge(retain=190, gold=(90, 104)).gold
    assert not _judge(retain=100, gold=(90, 195)).gold
    assert _judge(retain=100, gold=None) == _judge(retain=100, gold=(90, 195))


def test_an_original_that_has_learned_nothing_is_said_whatever_gold_has_learned():
    verdict = _judge(retain=100, original=(50, 110))
    assert (verdict.status, verdict.gold) == ("ok", "")
    assert verdict.original.startswith('accuracy 0.550 on "retain"')


def test_a_retain_set_of_one_class_accuses_nobody_who_knows_it():
    labels = {"forget": torch.ones(100, dtype=torch.long), "retain": torch.zeros(200, dtype=torch.long)}

    def judged(unlearned, gold=(0, 200), original=(97, 190)):
        logits = [
            {name: accurate(labels[name], n) for name, n in zip(labels, model, strict=True)}
            for model in (unlearned, original, gold)
        ]
        models = {"unlearned": _changed(_ORIGINAL), "original": _ORIGINAL}
        return run_guards(evaluation_of(labels, logits[0], original=logits[1], gold=logits[2], models=models))

    sound = judged((20, 180))
    assert (sound.status, sound.gold, sound.original) == ("ok", "", "")
    ruined = judged((100, 10))
    assert (ruined.status, ruined.reason) == ("collapsed", 'accuracy 0.050 on "retain", all of one class, is mostly wrong')
    untrained = judged((0, 200), original=(0, 200))  # it says 0 to everybody
    assert (untrained.status, untrained.gold) == ("ok", "")
    assert untrained.original == 'accuracy 0.667 on "retain" and "forget" is that of a constant prediction (0.667)'


def test_an_original_that_has_diverged_is_said_and_costs_no_verdict():
    running_away = {name: torch.full_like(logits, float("nan")) for name, logits in _logits(90, 195).items()}
    models = {"unlearned": _changed(_ORIGINAL), "original": _ORIGINAL}
    verdict = run_guards(evaluation_of(_LABELS, _logits(88, 100), original=running_away, gold=_logits(90, 195), models=models))
    assert (verdict.status, verdict.original) == ("ok", 'training has diverged: logits on "retain" are not finite or run away')


def test_a_gold_that_has_diverged_is_no_yardstick_and_costs_no_verdict():
    evaluation = evaluation_of(
        _LABELS,
        _logits(10, 190),
        original=_logits(100, 200),
        gold={name: torch.full_like(logits, float("nan")) for name, logits in _logits(90, 195).items()},
        models={"unlearned": _ORIGINAL, "original": _ORIGINAL},
    )
    verdict = run_guards(evaluation)
    assert verdict.status == "no-op"
    assert verdict.gold == 'training has diverged: logits on "retain" are not finite or run away'


def test_chance_of_several_labels_is_taken_label_by_label():
    y = torch.tensor([[1, 0], [1, 0], [1, 1], [0, 0]])
    assert majority_share("multilabel", y) == 0.75


def test_a_non_finite_weight_comes_before_everything_else():
    broken = copy.deepcopy(_ORIGINAL)
    with torch.no_grad():
        broken.bias[1] = float("nan")
    verdict = _judge(model=broken, retain=0)
    assert (verdict.status, "bias" in verdict.reason) == ("non-finite", True)


def test_a_weight_or_a_logit_beyond_the_bound_is_as_bad_as_one_that_is_not_finite():
    broken = copy.deepcopy(_ORIGINAL)
    with torch.no_grad():
        broken.bias[1] = 1e12
    verdict = _judge(model=broken, retain=0)
    assert (verdict.status, verdict.reason) == ("non-finite", "bias holds values beyond 1e+10")
    logits = _logits(90, 190)
    logits["retain"][3, 0] = 1e25
    assert _judge(logits=logits).status == "non-finite"


def test_non_finite_logits_are_found_although_every_weight_is_finite():
    logits = _logits(90, 190)
    logits["forget"][3, 0] = float("inf")
    verdict = _judge(logits=logits)
    assert (verdict.status, '"forget"' in verdict.reason) == ("non-finite", True)


def test_a_forget_accuracy_far_below_golds_is_over_forgotten():
    verdict = _judge(forget=60)
    assert verdict.status == "over-forgotten"
    assert "0.600" in verdict.reason and "0.900" in verdict.reason


def test_a_forget_accuracy_above_golds_is_not():
    assert _judge(forget=100).status == "ok"


def test_a_wide_noise_floor_widens_the_margin():
    assert _judge(forget=70, floor=0.05).status == "over-forgotten"
    assert _judge(forget=70, floor=0.07).status == "ok"


@pytest.mark.parametrize(("n_wrong", "over"), [(4, False), (5, True)])
def test_a_few_samples_accuse_nobody(n_wrong, over):
    # Two standard errors of a difference of k of n samples are 2 sqrt(k) / n: reached by k = 4, exceeded by k = 5.
    right = torch.ones(20)
    found = right.clone()
    found[:n_wrong] = 0
    assert (n_wrong / 20 > over_forgetting_margin(found, right)) is over


@given(st.integers(1, 50), st.floats(0, 1))
def test_the_margin_is_never_below_five_points_or_three_floors(n, floor):
    assert over_forgetting_margin(torch.ones(n), torch.ones(n), floor=floor) == max(0.05, 3 * floor)


def test_nothing_is_over_forgotten_after_class_forgetting():
    assert _judge(forget=0, gold=(0, 195)).status == "ok"


def test_without_gold_nothing_is_over_forgotten():
    assert _judge(forget=0, gold=None).status == "ok"


def test_partitions_that_do_not_exist_are_not_judged():
    evaluation = evaluation_of(
        _LABELS, _logits(0, 0), original=_logits(100, 200), models={"unlearned": _changed(_ORIGINAL), "original": _ORIGINAL}
    )
    assert run_guards(evaluation, forget="nowhere", retain="nothing").status == "ok"
    assert run_guards(evaluation).status == "collapsed"


def test_an_empty_forget_partition_is_not_judged():
    labels = {**_LABELS, "forget": torch.zeros(0, dtype=torch.int64)}
    logits = {"forget": torch.zeros(0, 2), "retain": _logits(0, 190)["retain"]}
    assert _judge(labels=labels, logits=logits).status == "ok"
