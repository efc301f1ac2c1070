"""The rule of verdicts, line by line."""

import numpy as np
import pytest
from report_rows import method, row

from erasure.analysis.gaps import Roles
from erasure.analysis.verdicts import RULE, TITLES, judge_all


def verdict_of(rows, **options):
    (judgement,) = judge_all(rows, options.pop("roles", Roles()), {}, **options)
    return judgement


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ({}, "indistinguishable"),
        ({"forget": 0.91}, "indistinguishable"),  # on the floor's edge
        ({"test": 0.965}, "close"),
        ({"forget": 0.93}, "under-forgotten"),
        ({"forget": 0.86}, "over-forgotten"),
        ({"retain": 0.95}, "damaged"),
        ({"retain": 0.965}, "close"),  # two and a half floors
        ({"forget": 0.95, "test": 0.80}, "damaged"),
    ],
)
def test_values_decide(values, verdict):
    assert verdict_of(method("m", **values)).verdict == verdict


def test_two_points_of_accuracy_are_no_damage_however_small_the_floor():
    assert verdict_of(method("m", retain=0.972, floor=0.001)).verdict == "close"
    assert verdict_of(method("m", retain=0.968, floor=0.001)).verdict == "damaged"


@pytest.mark.parametrize(
    ("status", "verdict"),
    [("no-op", "no-op"), ("collapsed", "damaged"), ("non-finite", "damaged"), ("over-forgotten", "over-forgotten")],
)
def test_guards_go_before_values(status, verdict):
    judgement = verdict_of(method("m", status=status, reason="because of the guard"))
    assert judgement.verdict == verdict
    assert "ecause of the guard" in judgement.evidence[0]


@pytest.mark.parametrize(
    ("status", "usual"), [("no-op", "no-op"), ("over-forgotten", "over-forgotten"), ("collapsed", "damaged")]
)
def test_one_of_several_repetitions_decides_only_where_it_does_damage(status, usual):
    def judgement(n_found):
        rows = [
            each
            for seed in range(3)
            for each in method("m", seed_train=seed, **({"status": status, "reason": "because"} if seed < n_found else {}))
        ]
        return verdict_of(rows)

    assert judgement(2).verdict == usual
    once = judgement(1)
    assert once.verdict == ("damaged" if usual == "damaged" else "indistinguishable")
    assert "Because (in 1 of 3 repetitions)." in once.evidence


def test_a_method_without_any_value_has_failed_and_says_why():
    judgement = verdict_of([row("m", value=None, status="failed", reason="out of memory")])
    assert (judgement.verdict, judgement.evidence) == ("failed", ("out of memory",))


def test_one_failed_measure_does_not_fail_the_method_but_is_said():
    rows = [*method("m"), row("m", "LiRA", value=None, status="failed", reason="no shadows")]
    judgement = verdict_of(rows)
    assert judgement.verdict == "indistinguishable"
    assert any("no shadows" in sentence for sentence in judgement.evidence)


def test_an_attack_worse_than_a_coin_counts_as_a_coin():
    coin = [*method("m"), row("m", "UMIA", value=0.50, gold=0.44, floor=0.01)]
    assert verdict_of(coin).verdict == "indistinguishable"
    leak = [*method("m"), row("m", "UMIA", value=0.60, gold=0.44, floor=0.01)]
    judgement = verdict_of(leak)
    assert judgement.verdict == "under-forgotten"
    assert "UMIA" in judgement.evidence[0]


def test_a_share_taken_for_members_is_not_said_to_be_right():
    (said, *_) = verdict_of([*method("m"), row("m", "EntropyAttack logistic", value=0.90, gold=0.60, tells="attack")]).evidence
    assert "(EntropyAttack logistic) takes 90.0\u00a0% of the forgotten samples for ones that were trained on" in said


@pytest.mark.parametrize(("n_floors", "share"), [(1, 1 / 2), (3, 3 / 4)])
def test_another_retraining_is_within_the_floor_as_often_as_it_should(n_floors, share):
    """Of ``k`` further golds and a model that is retrained too, each is as likely the farthest from gold."""
    generator, n = np.random.default_rng(7), 800

    def found(shift):
        names = []
        for _ in range(n):
            gold, other, *further = 0.9 + 0.01 * generator.normal(size=2 + n_floors)
            floor = max(abs(each - gold) for each in further)
            names.append(verdict_of([row("m", value=other + shift, gold=gold, floor=floor)]).verdict)
        return {name: names.count(name) / n for name in set(names)}

    as_gold = found(0.0)
    error = 3 * (share * (1 - share) / n) ** 0.5
    assert as_gold["indistinguishable"] == pytest.approx(share, abs=error)
    assert as_gold["under-forgotten"] == pytest.approx(as_gold["over-forgotten"], abs=2 * error)
    knows = found(0.1)
    assert knows["under-forgotten"] > 0.9 and "over-forgotten" not in knows


def test_a_rate_at_few_false_alarms_is_compared_as_it_is():
    rows = [*method("m"), row("m", "LiRA TPR at 0.1% FPR", value=0.10, gold=0.01, chance=0.001)]
    assert verdict_of(rows).verdict == "under-forgotten"


def test_a_lower_loss_on_forgotten_samples_is_under_forgetting():
    rows = [*method("m"), row("m", "loss", value=0.1, gold=0.5, floor=0.1, direction="lower")]
    assert verdict_of(rows).verdict == "under-forgotten"


@pytest.mark.parametrize(
    ("measure", "value", "gold", "changes", "verdict"),
    [
        # Distances to gold are as large for a model that forgot nothing as for one that forgot too much.
        ("JSDivergence", 0.3, 0.0, {"direction": "lower", "ideal": 0.0}, "close"),
        ("Completeness", 0.5, 1.0, {"direction": "higher", "ideal": 1.0}, "close"),
        ("Churn", 0.3, 0.0, {"direction": "lower", "ideal": 0.0, "partition": "test"}, "close"),
        ("ForgettingQuality", 0.0, 0.18, {"direction": "higher", "tells": ""}, "close"),
        ("ForgettingQuality mean epsilon", 50.0, 1.2, {"direction": "lower", "tells": ""}, "close"),
        ("TrueLabelAccuracy", 0.1, 0.8, {"direction": "higher", "tells": ""}, "close"),
        ("ECE", 0.1, 0.8, {"direction": "lower", "tells": ""}, "close"),
        ("ToW-MIA", 0.7, 1.0, {"direction": "higher", "ideal": 1.0, "partition": ""}, "indistinguishable"),
        # Attacks, with a level that guessing reaches or without.
        ("RULI AUC", 0.9, 0.5, {}, "under-forgotten"),
        ("RULI efficacy AUC", 0.9, 0.5, {}, "under-forgotten"),
        ("Shokri balanced accuracy", 0.9, 0.5, {}, "under-forgotten"),
        ("EntropyAttack", 0.4, 0.1, {"tells": "attack"}, "under-forgotten"),
        ("MIAEfficacy", 0.02, 0.3, {"tells": "ignorance"}, "under-forgotten"),
        ("MIAEfficacy by entropy", 0.9, 0.3, {"tells": "ignorance"}, "over-forgotten"),
        ("Forgetting rate", 0.0, 0.5, {"tells": "ignorance"}, "under-forgotten"),
        # What forgotten samples have planted.
        ("AttackSuccessRate[0]", 0.9, 0.1, {"tells": "trace", "partition": "test"}, "under-forgotten"),
        ("AttackSuccessRate[0]", 0.0, 0.1, {"tells": "trace", "partition": "test"}, "close"),
        ("InterclassConfusion[0,1]", 90, 10, {"tells": "trace", "partition": "test", "unit": "samples"}, "under-forgotten"),
        ("IC-Err[0,1]", 0.4, 0.1, {"tells": "trace", "partition": "test"}, "under-forgotten"),
        ("WrongLabelAccuracy", 0.9, 0.1, {"tells": "trace"}, "under-forgotten"),
    ],
)
def test_every_measure_is_taken_for_what_it_says_of_forgetting(measure, value, gold, changes, verdict):
    assert verdict_of([*method("m"), row("m", measure, value=value, gold=gold, floor=0.02, **changes)]).verdict == verdict


def test_what_differs_on_forgotten_samples_is_not_called_as_good():
    judgement = verdict_of([*method("m"), row("m", "KLoM mean", value=9.0, gold=1.7, floor=0.1, unit="nats")])
    assert judgement.verdict == "close"
    assert judgement.evidence[0].startswith("It differs from retraining on the forgotten samples")
    assert verdict_of(method("m", test=0.965)).evidence[0].startswith("As good as retraining on the forgotten samples")


def test_retrained_models_that_agree_exactly_leave_room_for_one_sample():
    rows = method("m", forget=0.91, floor=0.0)
    assert verdict_of(rows).verdict == "under-forgotten"
    assert verdict_of(rows, roles=Roles(sizes={"forget": 100})).verdict == "indistinguishable"
    assert verdict_of(rows, roles=Roles(sizes={"forget": 1000})).verdict == "under-forgotten"


def test_without_floor_gold_or_forget_values_nothing_is_claimed():
    assert verdict_of(method("m", floor=None)).verdict == "undecided"
    assert verdict_of([row("m", "RunTime", "", 1.0, floor=None)]).verdict == "undecided"
    assert verdict_of([row("m", partition="test", value=0.95)]).verdict == "undecided"


def test_an_attack_is_one_by_what_it_tells_whatever_its_name():
    (own,) = verdict_of([row("m", "MyProbe", value=0.9, gold=0.9, tells="attack")]).comparisons
    (named,) = verdict_of([row("m", "membership attack", value=0.9, gold=0.9)]).comparisons
    (elsewhere,) = verdict_of([row("m", "MyProbe", "retain", value=0.9, gold=0.9, tells="attack")]).comparisons
    assert (own.is_attack, named.is_attack, elsewhere.is_attack) == (True, False, False)


def test_below_what_guessing_reaches_nothing_is_told():
    found = [
        verdict_of([*method("m"), row("m", "MyProbe", value=0.009, gold=0.0, floor=0.001, tells="attack", chance=chance)]).verdict
        for chance in (None, 0.01, 0.001)
    ]
    assert found == ["under-forgotten", "indistinguishable", "under-forgotten"]


def test_partitions_may_have_other_names():
    rows = [row("m", partition="erased", value=0.99, gold=0.9)]
    assert verdict_of(rows, roles=Roles(forget=frozenset({"erased"}))).verdict == "under-forgotten"


def test_repetitions_are_judged_by_their_mean_distance():
    rows = [row("m", value=value, seed_train=seed) for seed, value in enumerate((0.92, 0.90))]
    judgement = verdict_of(rows)
    assert (judgement.verdict, judgement.n) == ("indistinguishable", 2)
    assert judgement.comparisons[0].value == pytest.approx(0.91)


def test_too_well_with_one_seed_and_too_badly_with_another_is_not_indistinguishable():
    rows = [row("m", value=value, seed_train=seed) for seed, value in enumerate((0.87, 0.93))]
    judgement = verdict_of(rows)
    assert judgement.verdict == "close"
    assert judgement.comparisons[0].gap == pytest.approx(0.03)
    said = " ".join(judgement.evidence).replace("\u00a0", " ")
    assert (
        "90.0 % right on forgotten samples on average, a retrained model 90.0 ± 1.0 %; seed by seed they are 3.0 points apart"
        in said
    )


def test_scatter_is_no_damage():
    rows = [row("m", partition="retain", value=value, seed_train=seed) for seed, value in enumerate((0.93, 1.0))]
    assert verdict_of([*method("m"), *rows]).verdict != "damaged"


def test_within_two_floors_is_slight():
    assert verdict_of(method("m", forget=0.918)).title == "slightly under-forgotten"
    assert verdict_of(method("m", forget=0.95)).title == "under-forgotten"
    both = [*method("m", forget=0.95), row("m", "LiRA AUC", value=0.62, gold=0.60, floor=0.015)]
    assert verdict_of(both).title == "under-forgotten"


def test_the_rule_says_every_verdict():
    said = {name for name, _ in RULE}
    assert said == set(TITLES.values())
