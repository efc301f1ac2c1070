"""The rule of verdicts, line by line."""

import re
from dataclasses import replace

import numpy as np
import pytest
from report_rows import method, row, with_jury
from test_judging import ORIGINAL, ROLES, report

from erasure.analysis.findings import Finding
from erasure.analysis.gaps import RolePartitions
from erasure.analysis.verdicts import RULE, TITLES, judge_all


def verdict_of(rows, **options):
    roles = options.pop("roles", RolePartitions())
    (verdict,) = judge_all(with_jury(rows, **options), roles).verdicts
    return verdict


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ({}, "not-told-apart"),
        ({"test": 0.97}, "different"),
        ({"forget": 0.93}, "under-forgotten"),
        ({"forget": 0.86}, "over-forgotten"),
        ({"retain": 0.95}, "damaged"),
        ({"retain": 0.976}, "different"),
        ({"forget": 0.95, "test": 0.80}, "damaged"),
    ],
)
def test_values_decide(values, verdict):
    judgement = verdict_of(method("m", **values))
    assert judgement.finding == verdict
    assert judgement.title == TITLES[judgement.finding]


def test_floors_and_gaps_of_rows_decide_nothing():
    rows = method("m", forget=0.93)
    without = [replace(each, noise_floor=None, gap=None) for each in rows]
    assert verdict_of(rows).finding == verdict_of(without).finding == "under-forgotten"
    assert verdict_of([replace(each, noise_floor=1.0) for each in rows]).finding == "under-forgotten"


@pytest.mark.parametrize(("status", "verdict"), [("no-op", "no-op"), ("collapsed", "damaged"), ("non-finite", "damaged")])
def test_guards_go_before_values(status, verdict):
    judgement = verdict_of(method("m", status=status, reason="because of the guard"))
    assert judgement.finding == verdict
    assert "ecause of the guard" in judgement.reasons[0]


def test_the_status_over_forgotten_decides_no_verdict():
    assert verdict_of(method("m", status="over-forgotten", reason="far below gold")).finding == "not-told-apart"


@pytest.mark.parametrize(("status", "usual"), [("no-op", "no-op"), ("collapsed", "damaged")])
def test_one_of_several_repetitions_decides_only_where_it_does_damage(status, usual):
    def judgement(n_found):
        rows = [
            each
            for seed in range(3)
            for each in method("m", seed_train=seed, **({"status": status, "reason": "because"} if seed < n_found else {}))
        ]
        return verdict_of(rows)

    assert judgement(2).finding == usual
    once = judgement(1)
    assert (once.finding == "damaged") == (usual == "damaged")
    assert "Because (in 1 of 3 repetitions)." in once.reasons


def test_a_method_without_any_value_has_failed_and_says_why():
    (verdict,) = judge_all([row("m", value=None, status="failed", reason="out of memory")], RolePartitions()).verdicts
    assert (verdict.finding, verdict.reasons) == ("failed", ("out of memory",))
    (gone,) = judge_all([], RolePartitions(), failed={"m": "no weights"}).verdicts
    assert (gone.finding, gone.reasons) == ("failed", ("no weights",))


def test_one_failed_measure_does_not_fail_the_method_but_is_said():
    rows = [*with_jury(method("m")), row("m", "LiRA", value=None, status="failed", reason="no shadows")]
    (verdict,) = judge_all(rows, RolePartitions()).verdicts
    assert verdict.finding == "not-told-apart"
    assert any("no shadows" in sentence for sentence in verdict.reasons)


def test_an_accusation_names_the_value_its_p_the_difference_and_how_often_it_tells():
    first, telling, *_ = verdict_of(method("m", forget=0.93)).reasons
    said = first.replace("\u00a0", " ")
    assert re.match(r"Accuracy on forgotten samples is 93.0 %; retrained models have 90.0 % \(3.0 points more, p = 0.\d+", said)
    assert telling.startswith("Of a retrained and an unlearned model, this value picks out the unlearned one in 99 of 100 cases")


def test_a_verdict_by_a_t_test_says_what_it_assumes():
    assert any("normally distributed" in sentence for sentence in verdict_of(method("m", forget=0.93)).reasons)
    rows = report(np.random.default_rng(0), {"Identity": ORIGINAL})
    (exact,) = judge_all(rows, ROLES).verdicts
    assert not any("normally" in sentence for sentence in exact.reasons)


def test_not_told_apart_says_what_may_differ_and_what_would_settle_it():
    judgement = verdict_of(method("m"))
    assert "3 originals or more" in judgement.reasons[1] and "--seeds 0-4" in judgement.reasons[1]
    assert re.search(r"below \d\.\d standard deviations of a retrained model may be missed", judgement.reasons[2])


def test_indistinguishable_says_how_much_is_left_at_most():
    rows = report(np.random.default_rng(4), {"m": {}}, 10, 9)
    (verdict,) = judge_all(rows, ROLES).verdicts
    assert verdict.finding == Finding.INDISTINGUISHABLE
    assert re.search(r"At most \d+\s% of the original's memory", verdict.reasons[1])


def test_without_golds_or_forget_values_nothing_is_claimed():
    for rows in (
        method("m"),
        [row("m", "RunTime", "", 1.0, noise_floor=None)],
        with_jury([row("m", partition="test", value=0.95)]),
    ):
        (verdict,) = judge_all(rows, RolePartitions()).verdicts
        assert verdict.finding == "undecided"
    three = verdict_of(method("m", forget=1.0), n=3)
    assert three.finding == "undecided"
    assert three.reasons == ("3 further golds cannot accuse; 5 can by a t-test, 19 without assumptions.",)


@pytest.mark.parametrize(
    ("measure", "value", "gold", "changes", "verdict"),
    [
        # Distances to gold are as large for a model that forgot nothing as for one that forgot too much.
        ("JSDivergence", 0.3, 0.05, {"direction": "lower", "ideal": 0.0}, "different"),
        ("Completeness", 0.5, 0.9, {"direction": "higher", "ideal": 1.0}, "different"),
        ("Churn", 0.3, 0.05, {"direction": "lower", "ideal": 0.0, "partition": "test"}, "different"),
        ("TrueLabelAccuracy", 0.1, 0.8, {"direction": "higher", "indicates": ""}, "different"),
        ("ECE", 0.1, 0.8, {"direction": "lower", "indicates": ""}, "different"),
        # Composites and populations are no values of the test.
        ("ToW-MIA", 0.7, 1.0, {"direction": "higher", "ideal": 1.0, "partition": ""}, "not-told-apart"),
        ("ForgettingQuality", 0.0, 0.18, {"direction": "higher", "indicates": ""}, "not-told-apart"),
        # Attacks, with a level that guessing reaches or without.
        ("RULI AUC", 0.9, 0.5, {}, "under-forgotten"),
        ("Shokri balanced accuracy", 0.9, 0.5, {}, "under-forgotten"),
        ("EntropyAttack", 0.4, 0.1, {"indicates": "attack"}, "under-forgotten"),
        ("MIAEfficacy", 0.02, 0.3, {"indicates": "ignorance"}, "under-forgotten"),
        ("MIAEfficacy by entropy", 0.9, 0.3, {"indicates": "ignorance"}, "over-forgotten"),
        ("loss", 0.1, 0.5, {"direction": "lower"}, "under-forgotten"),
        # What forgotten samples have planted.
        ("AttackSuccessRate[0]", 0.9, 0.1, {"indicates": "trace", "partition": "test"}, "under-forgotten"),
        ("AttackSuccessRate[0]", 0.0, 0.1, {"indicates": "trace", "partition": "test"}, "different"),
        ("InterclassConfusion[0,1]", 90, 10, {"indicates": "trace", "partition": "test", "unit": "samples"}, "under-forgotten"),
        ("WrongLabelAccuracy", 0.9, 0.1, {"indicates": "trace"}, "under-forgotten"),
    ],
)
def test_every_measure_is_taken_for_what_it_tells_of_forgetting(measure, value, gold, changes, verdict):
    assert verdict_of([*method("m"), row("m", measure, value=value, gold=gold, noise_floor=0.02, **changes)]).finding == verdict


def test_partitions_may_have_other_names():
    rows = [row("m", partition="erased", value=0.99, gold=0.9)]
    assert verdict_of(rows, roles=RolePartitions(forget=frozenset({"erased"})), original=False).finding == "under-forgotten"


def test_methods_that_retrain_on_different_samples_are_judged_each_beside_its_own_gold():
    def of(gold, label, forget):
        rows = with_jury([replace(each, gold=each.gold) for each in method(label, forget=forget)])
        return [replace(each, label=f"{each.label} ({gold})") if each.model_role != "unlearned" else each for each in rows]

    rows = [*of("retain a", "kept a", 0.90), *of("retain b", "kept b", 0.97)]
    golds = {"kept a": "gold (retain a)", "kept b": "gold (retain b)"}
    golds |= {"original (retain a)": "gold (retain a)", "original (retain b)": "gold (retain b)"}
    judged = judge_all(rows, RolePartitions(), golds=golds)
    assert {each.label: str(each.finding) for each in judged.verdicts} == {
        "kept a": "not-told-apart",
        "kept b": "under-forgotten",
    }
    assert judged.report.level == 0.025
    assert {str(each.finding) for each in judge_all(rows, RolePartitions()).verdicts} == {"undecided"}


def test_methods_are_in_the_order_of_their_distance_and_what_is_broken_comes_last():
    methods = {"near": {}, "far": {"accuracy forget": 0.1}, "gone": {}}
    rows = [
        replace(each, status="no-op", reason="nothing changed") if each.label == "gone" else each
        for each in report(np.random.default_rng(1), methods)
    ]
    assert [each.label for each in judge_all(rows, ROLES).verdicts] == ["near", "far", "gone"]


def test_the_rule_says_every_verdict():
    assert {name for name, _ in RULE} == set(TITLES.values())
    assert set(TITLES) == set(Finding)


def test_retraining_that_lies_far_off_by_chance_is_not_said_to_show_no_difference():
    rows = report(np.random.default_rng(1), {"GoldModel": {"accuracy forget": 0.06}}, 5, 9)
    (verdict,) = judge_all(rows, ROLES, exact=["GoldModel"]).verdicts
    assert verdict.tested.p <= 0.05
    assert verdict.finding not in {Finding.UNDER_FORGOTTEN, Finding.DIFFERENT}
    assert verdict.reasons[0].startswith("Retraining itself, which is not accused: of its 6 values the farthest one has p = ")
