"""Methods beside a jury of golds: from rows to what is found, at the level that is promised."""

import math
import random
import re
from dataclasses import replace

import numpy as np
import pytest
from report_rows import statistic_of
from scipy import stats

from erasure.analysis import families
from erasure.analysis.equivalence import chance_within, limits, originals_within
from erasure.analysis.findings import Finding
from erasure.analysis.gaps import RolePartitions
from erasure.analysis.indistinguishable import Ruler, memory_of
from erasure.analysis.judging import judge_report
from erasure.analysis.labellings import Design
from erasure.analysis.verdict_words import evidence
from erasure.records.rows import Row

ROLES = RolePartitions(sizes={"forget": 200, "retain": 2000, "test": 1000})
VALUES = {
    ("accuracy", "forget"): (0.85, 0.015),
    ("accuracy", "retain"): (0.99, 0.003),
    ("accuracy", "test"): (0.92, 0.006),
    ("UMIA", "forget"): (0.51, 0.02),
    ("memory left", "forget"): (0.0, 0.05),
    ("NLL", "forget"): (0.5, 0.05),
}
"""Mean and standard deviation of golds."""
ORIGINAL = {"accuracy forget": 0.14, "UMIA forget": 0.15, "memory left forget": 1.0, "NLL forget": -0.4}


def model_rows(label, model, seed, values, **changes):
    for (measure, partition), value in values.items():
        tells = {"UMIA": "attack", "NLL": "ignorance"}.get(measure, "knowledge")
        yield Row(
            experiment="made up",
            dataset="toys",
            unlearner=label if model == "unlearned" else "",
            label=label,
            model_role=model,
            measure=measure,
            statistic=statistic_of(measure),
            partition=partition,
            value=float(value),
            direction={"accuracy": "higher", "NLL": "lower"}.get(measure, ""),
            ideal="gold",
            indicates=tells if partition == "forget" else "",
            chance_level=0.5 if measure == "UMIA" else None,
            seed_split=0,
            seed_train=seed,
            **changes,
        )


def draw(generator, shift=()):
    """Values of one model, half of whose deviations are common to all values."""
    shift = dict(shift)
    common = generator.normal()
    return {
        key: mean + shift.get(" ".join(key), 0) + deviation * (common + generator.normal()) / math.sqrt(2)
        for key, (mean, deviation) in VALUES.items()
    }


def report(generator, methods, n_originals=5, n_golds=4, original=ORIGINAL):
    rows = []
    for seed in range(n_originals):
        rows += model_rows("original", "original", seed, draw(generator, original))
        for number in range(n_golds + 1):
            rows += model_rows("gold", "gold", seed, draw(generator), number=number)
        for label, shift in methods.items():
            rows += model_rows(label, "unlearned", seed, draw(generator, shift), seed_unlearn=0)
    return rows


def found(rows, **options):
    return {label: tested.finding for label, tested in judge_report(rows, ROLES, **options).methods.items()}


ACCUSED = {Finding.UNDER_FORGOTTEN, Finding.OVER_FORGOTTEN, Finding.DIFFERENT, Finding.DAMAGED}


@pytest.mark.parametrize(
    ("n_originals", "n_golds"),
    [(1, 9), *(pytest.param(*design, marks=pytest.mark.nightly) for design in ((5, 4), (3, 9), (1, 19)))],
)
def test_of_reports_of_retrained_methods_few_accuse_any(n_originals, n_golds):
    generator, n = np.random.default_rng(n_golds), 200
    methods = {label: {} for label in ("A", "B", "C")}
    accused = sum(bool(ACCUSED & {*found(report(generator, methods, n_originals, n_golds)).values()}) for _ in range(n))
    assert accused / n <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / n)


@pytest.mark.parametrize(("n_originals", "n_golds"), [(5, 4), (1, 9), (1, 19)])
def test_a_model_that_is_the_gold_of_its_seeds_is_not_accused_of_being_nearer_to_it(n_originals, n_golds):
    generator, rows = np.random.default_rng(3), []
    for row in report(np.random.default_rng(2), {"exact": {}, "other": {}}, n_originals, n_golds):
        rows.append(row)
        if row.measure == "accuracy" and row.partition == "test":
            distance = {"exact": 0.0, "other": 0.2}.get(row.label, generator.normal(0.1, 0.01))
            for measure, direction, ideal in (("Churn", "lower", 0.0), ("Agreement", "higher", 1.0)):
                value = abs(ideal - distance)
                rows.append(replace(row, measure=measure, value=value, direction=direction, ideal=ideal, statistic=""))
    result = judge_report(rows, ROLES)
    assert not result.methods["exact"].is_accused
    assert result.methods["other"].is_accused
    nearer = [each for each in result.methods["exact"].differences if each.is_nearer]
    assert {each.column.measure for each in nearer} == {"Churn", "Agreement"}
    assert result.methods["exact"].farthest({"held-out"}) < min(each.deviations for each in nearer)
    assert result.distances.of("exact") < 2 < result.distances.of("other")


def test_three_golds_of_one_original_accuse_nobody_and_it_is_said_what_would():
    rows = report(np.random.default_rng(0), {"Identity": ORIGINAL}, 1, 3)
    tested = judge_report(rows, ROLES).methods["Identity"]
    assert (tested.finding, tested.basis, tested.p) == (Finding.UNDECIDED, "", None)
    assert tested.reason == "3 further golds cannot accuse; 5 can by a t-test, 19 without assumptions"


@pytest.mark.parametrize(
    ("n_originals", "n_golds", "basis"), [(5, 4, "labellings"), (3, 9, "labellings"), (1, 9, "t"), (1, 19, "labellings")]
)
def test_a_method_that_forgets_nothing_is_under_forgotten(n_originals, n_golds, basis):
    generator = np.random.default_rng(1)
    for _ in range(20):
        tested = judge_report(report(generator, {"Identity": ORIGINAL}, n_originals, n_golds), ROLES).methods["Identity"]
        assert (tested.finding, tested.basis) == (Finding.UNDER_FORGOTTEN, basis)
        assert tested.differences[0].telling_rate > 0.9


def test_where_golds_are_all_alike_a_t_test_acquits_nobody_who_is_far_off():
    """As after a class was forgotten: every retrained model has 0 on it."""
    alike = {("accuracy", "forget"): 0.0}
    rows = [
        replace(row, value=0.0 if (row.model_role, row.label) != ("unlearned", "kept") else 0.93)
        if (row.measure, row.partition) in alike and row.model_role != "original"
        else row
        for row in report(np.random.default_rng(2), {"kept": {}, "forgot": {}}, 1, 5)
    ]
    methods = judge_report(rows, ROLES).methods
    assert (methods["kept"].finding, methods["kept"].basis) == (Finding.UNDECIDED, "t")
    assert (
        'too alike in accuracy on "forget"' in methods["kept"].reason and "0.000 and this model 0.930" in methods["kept"].reason
    )
    assert methods["forgot"].finding == Finding.NOT_TOLD_APART


def test_harm_of_forgotten_data_that_is_left_is_not_damage():
    """As of poisoned data: retrained models do better on unseen samples than the original."""
    harm = {"accuracy test": -0.06}
    methods = {"kept": harm, "half": {"accuracy test": -0.04}, "ruined": {"accuracy test": -0.15}, "retrained": {}}
    judged = judge_report(report(np.random.default_rng(3), methods, original=harm), ROLES)
    assert {label: judged.methods[label].finding for label in ("kept", "half", "ruined")} == {
        "kept": Finding.UNDER_FORGOTTEN,
        "half": Finding.UNDER_FORGOTTEN,
        "ruined": Finding.DAMAGED,
    }
    assert judged.methods["retrained"].finding not in ACCUSED
    assert judged.control.finding == Finding.UNDER_FORGOTTEN and not judged.has_nothing_to_forget
    assert "the harm that the forgotten data did to it is left." in evidence(judged.methods["kept"], judged)[-1]


def test_what_differs_decides_the_finding():
    methods = {
        "under": {"accuracy forget": 0.1},
        "over": {"NLL forget": 0.4},
        "damaged": {"accuracy test": -0.05},
        "harmless": {"accuracy test": 0.04},
        "retrained": {},
    }
    assert found(report(np.random.default_rng(2), methods)) == {
        "under": Finding.UNDER_FORGOTTEN,
        "over": Finding.OVER_FORGOTTEN,
        "damaged": Finding.DAMAGED,
        "harmless": Finding.DIFFERENT,
        "retrained": Finding.INDISTINGUISHABLE,
    }


def test_ten_points_of_the_probability_of_kept_answers_are_damage_and_five_are_not():
    methods = {"collapsed": {"accuracy retain": -0.9}, "unsure": {"accuracy retain": -0.05}}
    rows = [
        replace(row, measure="AnswerProbability", statistic="probability")
        if (row.measure, row.partition) == ("accuracy", "retain")
        else row
        for row in report(np.random.default_rng(2), methods, 1, 5)
    ]
    assert found(rows) == {"collapsed": Finding.DAMAGED, "unsure": Finding.DIFFERENT}


def test_a_sure_but_negligible_difference_accuses_nobody():
    rows = report(np.random.default_rng(3), {"m": {"accuracy retain": 0.003}}, 10, 9)
    tested = judge_report(rows, ROLES).methods["m"]
    difference = next(d for d in tested.differences if d.column.partition == "retain")
    assert difference.p <= 0.05
    assert difference.is_negligible
    assert tested.finding not in ACCUSED


def test_retrained_methods_are_often_indistinguishable_and_the_original_never():
    generator, hits = np.random.default_rng(4), []
    for _ in range(40):
        given = report(generator, {"retrained": {}, "Identity": ORIGINAL, "quarter": {k: v / 4 for k, v in ORIGINAL.items()}})
        said = found(given)
        hits.append(said["retrained"] == Finding.INDISTINGUISHABLE)
        assert Finding.INDISTINGUISHABLE not in {said["Identity"], said["quarter"]}
    assert np.mean(hits) >= 0.6


def test_without_a_positive_control_nobody_is_indistinguishable():
    rows = [
        replace(row, label="original", model_role="original", unlearner="") if row.label == "blind" else row
        for row in report(np.random.default_rng(5), {"m": {}, "blind": {}})
        if row.model_role != "original"
    ]
    tested = judge_report(rows, ROLES).methods["m"]
    assert tested.finding == Finding.NOT_TOLD_APART
    assert tested.remedy == "add ResidualMemory or LiRA"
    assert "do not even tell the original" in tested.reason


def test_two_originals_show_no_equivalence():
    tested = judge_report(report(np.random.default_rng(6), {"m": {}}, 2, 9), ROLES).methods["m"]
    assert tested.finding == Finding.NOT_TOLD_APART
    assert "3 originals" in tested.reason


def test_rows_without_numbers_are_undecided():
    rows = [replace(row, number=None) for row in report(np.random.default_rng(7), {"Identity": ORIGINAL})]
    assert found(rows) == {"Identity": Finding.UNDECIDED}
    assert judge_report(rows, ROLES).methods["Identity"].reason == "there are no further golds to judge it beside"
    old = judge_report([replace(row, noise_floor=0.01) for row in rows], ROLES).methods["Identity"]
    assert old.finding == Finding.UNDECIDED
    assert "were not kept" in old.reason


def test_where_only_times_are_measured_a_measure_is_what_is_lacking():
    rows = [replace(row, measure="RunTime", partition="", ideal=None) for row in report(np.random.default_rng(0), {"A": {}})]
    assert judge_report(rows, ROLES).methods["A"].reason.startswith("nothing is measured that is compared with retraining")


def test_the_gold_shown_is_no_juror():
    rows = report(np.random.default_rng(8), {"m": {}})
    spoiled = [replace(row, value=1e6) if row.number == 0 else row for row in rows]
    assert judge_report(spoiled, ROLES).methods == judge_report(rows, ROLES).methods


def test_the_order_of_rows_methods_and_golds_changes_nothing():
    rows = report(np.random.default_rng(9), {"a": {}, "b": {"accuracy forget": 0.02}}, 5, 9)

    def said(given):
        result = judge_report(given, ROLES)
        of = {label: (t.finding, t.p, t.adjusted) for label, t in result.methods.items()}
        return dict(sorted(of.items())), result.distances.nearest(["a", "b"]).label

    expected = said(rows)
    assert said(random.Random(0).sample(rows, len(rows))) == expected
    renumbered = [replace(row, number=10 - row.number) if row.number else row for row in rows]
    assert said(renumbered) == expected


def test_composites_costs_and_populations_are_left_out():
    rows = report(np.random.default_rng(10), {"m": {}})
    extra = [
        replace(
            row,
            measure=measure,
            statistic=statistic_of(measure),
            ideal=None if measure == "run time" else "gold",
            value=99.0 if row.label == "m" else 1.0,
        )
        for row in rows
        if (row.measure, row.partition) == ("accuracy", "forget")
        for measure in ("AverageGap", "KLoM mean", "GUM", "run time")
    ]
    assert judge_report(rows + extra, ROLES).methods["m"].finding == judge_report(rows, ROLES).methods["m"].finding


def test_a_value_that_a_model_lacks_is_left_out_and_named():
    rows = report(np.random.default_rng(11), {"m": {"UMIA forget": 5.0}})
    lacking = [row for row in rows if not (row.measure == "UMIA" and row.number == 2 and row.seed_train == 1)]
    tested = judge_report(lacking, ROLES).methods["m"]
    assert tested.left_out == ("UMIA on forget",)
    assert tested.finding not in ACCUSED


def test_a_gold_that_broke_down_leaves_the_jury():
    rows = report(np.random.default_rng(12), {"Identity": ORIGINAL})
    broken = [replace(row, value=0.1, status="collapsed") if row.number == 3 and row.seed_train == 0 else row for row in rows]
    result = judge_report(broken, ROLES)
    assert result.methods["Identity"].n_labellings == 4 * 5**4
    assert result.methods["Identity"].finding == Finding.UNDER_FORGOTTEN
    assert len(result.notices) == 1


def test_retraining_and_methods_that_did_nothing_are_not_counted():
    rows = report(np.random.default_rng(13), {"GoldModel": {}, "no-op": ORIGINAL, "m": {}})
    result = judge_report(rows, ROLES, exact=["GoldModel"], excluded=["no-op"])
    assert result.n_tested == 1
    assert set(result.methods) == {"GoldModel", "m"}
    assert result.methods["GoldModel"].adjusted is None


def test_models_that_scatter_have_no_side():
    rows = [
        replace(row, value=row.value + 0.2 * (-1) ** row.seed_train) if row.label == "m" and row.partition == "forget" else row
        for row in report(np.random.default_rng(14), {"m": {}}, 6, 9)
    ]
    tested = judge_report(rows, ROLES).methods["m"]
    assert tested.differences[0].is_scattered
    assert tested.finding == Finding.DIFFERENT


def test_a_shift_is_no_scatter_however_large():
    generator = np.random.default_rng(17)
    methods = {"Identity": {**ORIGINAL, "UMIA forget": 0}}
    for _ in range(20):
        tested = judge_report(report(generator, methods), ROLES).methods["Identity"]
        shifted = [d for d in tested.differences if d.column.key in {("memory left", "forget"), ("accuracy", "forget")}]
        assert not any(d.is_scattered for d in shifted)
        assert tested.finding == Finding.UNDER_FORGOTTEN


@pytest.mark.parametrize(("n_originals", "n_golds"), [(5, 4), (1, 19), (1, 9)])
def test_an_attack_that_does_worse_on_the_original_than_on_golds_points_to_memory_where_it_is_low(n_originals, n_golds):
    """On a network that has learned wrong labels by heart, the population attack is below chance; on retrained ones it is at chance."""
    generator, inverted = np.random.default_rng(18), {**ORIGINAL, "UMIA forget": -1.0}
    for _ in range(10):
        rows = [
            replace(row, value=row.value - 1.15) if (row.model_role, row.measure) == ("original", "UMIA") else row
            for row in report(generator, {"Identity": inverted, "opposite": {"UMIA forget": 0.5}}, n_originals, n_golds)
        ]
        result = judge_report(rows, ROLES)
        assert result.methods["Identity"].finding == result.control.finding == Finding.UNDER_FORGOTTEN
        assert result.methods["Identity"].differences[0].column.measure == "UMIA"
        assert result.methods["opposite"].finding == Finding.OVER_FORGOTTEN


def test_an_attack_of_unknown_side_decides_only_where_nothing_else_does():
    """Below guessing, an attack may have been misled by what is still known: on this network memory speaks, and the attack does not."""
    rows = report(
        np.random.default_rng(18), {"m": {"UMIA forget": -0.2, "memory left forget": 0.3}}, 5, 9, {**ORIGINAL, "UMIA forget": 0}
    )
    rows = [replace(row, value=row.value + 0.1) if row.measure == "UMIA" else row for row in rows]
    tested = judge_report(rows, ROLES).methods["m"]
    first, second = tested.differences[:2]
    assert (first.column.measure, first.side, second.column.measure, second.side) == ("UMIA", -1, "memory left", 1)
    assert tested.finding == Finding.UNDER_FORGOTTEN
    alone = judge_report([row for row in rows if row.measure != "memory left"], ROLES).methods["m"]
    assert alone.finding == Finding.OVER_FORGOTTEN


def test_an_attack_that_does_no_better_than_guessing_has_no_side():
    generator = np.random.default_rng(21)
    rows = [
        replace(row, value=row.value - 0.15) if row.measure == "UMIA" else row  # golds at 0.36, the original no farther off
        for row in report(generator, {"guesses": {"UMIA forget": 0.13}, "worse": {"UMIA forget": -0.15}})
        if (row.model_role, row.measure) != ("original", "UMIA") and row.measure in {"UMIA", "accuracy"}
    ]
    rows += [
        replace(row, model_role="original", label="original") for row in rows if row.model_role == "gold" and row.number == 0
    ]
    findings = found(rows)
    assert findings == {"guesses": Finding.DIFFERENT, "worse": Finding.DIFFERENT}
    above = [replace(row, value=row.value + 0.15) if row.measure == "UMIA" else row for row in rows]
    assert found(above)["guesses"] == Finding.UNDER_FORGOTTEN


def test_where_every_value_is_the_same_it_is_said_and_no_power_is_claimed():
    rows = [replace(row, value=0.5) for row in report(np.random.default_rng(22), {"m": {}})]
    result = judge_report(rows, ROLES)
    assert (result.methods["m"].finding, result.shift) == (Finding.NOT_TOLD_APART, None)
    assert evidence(result.methods["m"], result)[0].startswith("Every value is the same in all models")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite_are_left_out_and_named(value):
    rows = report(np.random.default_rng(23), {"m": {}})
    broken = [replace(row, value=value) if (row.label, row.measure, row.seed_train) == ("m", "NLL", 2) else row for row in rows]
    tested = judge_report(broken, ROLES).methods["m"]
    assert tested.left_out == ("NLL on forget",)
    assert tested.finding not in ACCUSED


def test_without_the_original_nobody_is_indistinguishable_and_the_sentence_says_why():
    rows = [row for row in report(np.random.default_rng(24), {"m": {}}) if row.model_role != "original"]
    tested = judge_report(rows, ROLES).methods["m"]
    assert tested.finding == Finding.NOT_TOLD_APART
    assert "the original was not measured" in tested.reason


def test_the_nearest_is_chosen_with_ties_and_one_seed_names_nobody():
    methods = {"far": {"accuracy forget": 0.1}, "near": {}, "near too": {}}
    result = judge_report(report(np.random.default_rng(15), methods), ROLES)
    nearest = result.distances.nearest([*methods, "original"])
    assert {*nearest.ties} == {"near", "near too"}
    assert nearest.chances["near"] + nearest.chances["near too"] > 0.99
    assert nearest.cross_fitted >= 0.9 * nearest.distance
    assert judge_report(report(np.random.default_rng(15), methods, 2, 9), ROLES).distances.nearest(methods) is None


def test_methods_that_lack_originals_keep_nobody_else_from_being_compared():
    rows = report(np.random.default_rng(15), {"near": {}, "far": ORIGINAL, "rare": {}})
    rows = [row for row in rows if row.label != "rare" or row.seed_train < 2]
    nearest = judge_report(rows, ROLES).distances.nearest(["near", "far", "rare"])
    assert set(nearest.chances) == {"near", "far"}
    fewer = [row for row in rows if row.label != "far" or row.seed_train > 1]
    assert set(judge_report(fewer, ROLES).distances.nearest(["near", "far", "rare"]).chances) == {"near", "far"}
    assert judge_report(rows, ROLES).distances.nearest(["rare"]) is None


def test_models_that_no_value_can_compare_have_no_distance():
    rows = report(np.random.default_rng(15), {"a": {}, "b": {}})
    apart = [row for row in rows if (row.label == "a") == (row.measure == "NLL") or row.model_role == "gold"]
    distances = judge_report(apart, ROLES).distances
    assert distances.of("a") == distances.of("b") == math.inf


def test_a_difference_that_is_not_found_is_that_of_the_means():
    tested = judge_report(report(np.random.default_rng(2), {"m": {}}, 6, 9), ROLES).methods["m"]
    assert not any(each.p <= 0.05 for each in tested.differences)
    for each in tested.differences:
        assert each.amount == pytest.approx(each.value - each.gold)


def test_what_a_method_with_fewer_originals_may_hide_is_said_for_its_own_number():
    rows = report(np.random.default_rng(21), {"a": {}, "b": {}}, 10, 9)
    fewer = [row for row in rows if row.model_role != "original" and (row.label != "b" or row.seed_train < 3)]
    result = judge_report(fewer, ROLES)
    shifts = {
        label: float(re.search(r"difference below (\d+\.\d)", " ".join(evidence(result.methods[label], result)))[1])
        for label in "ab"
    }
    assert shifts["a"] == pytest.approx(result.shift, abs=0.06)
    assert shifts["b"] == pytest.approx(result.shift * math.sqrt(10 / 3), abs=0.06)


def test_what_is_not_told_apart_is_said_with_the_p_value_over_all_methods():
    methods = {f"m{n}": {} for n in range(8)}
    result = judge_report(report(np.random.default_rng(22), methods), ROLES)
    smallest = min(result.methods.values(), key=lambda each: each.p)
    assert smallest.adjusted > smallest.p
    assert f"(p = {smallest.adjusted:.2g})" in evidence(smallest, result)[0]
    # Sure, and too small to matter: nobody says that there is no difference beside a p-value that finds one.
    assert "more than negligible was found" in evidence(replace(smallest, adjusted=0.048), result)[0]
    assert "more than negligible" not in evidence(smallest, result)[0]
    by_t = judge_report(report(np.random.default_rng(22), {"m": {}}, 1, 9), ROLES)
    assert "if their values are normally distributed" in evidence(by_t.methods["m"], by_t)[0]


def test_memory_left_is_bounded():
    tested = judge_report(report(np.random.default_rng(16), {"half": {"memory left forget": 0.5}}), ROLES).methods["half"]
    assert tested.memory.low < 0.5 < tested.memory.high
    assert tested.memory.n == 5
    given = report(np.random.default_rng(16), {"half": {key: value / 2 for key, value in ORIGINAL.items()}})
    without = [row for row in given if row.measure != "memory left"]
    assert judge_report(without, ROLES).methods["half"].memory.mean == pytest.approx(0.5, abs=0.15)


def test_where_edges_are_remembered_too_the_memory_that_reaches_farther_is_bounded():
    rows = report(np.random.default_rng(16), {"m": {}})
    kept = {"original": 1.0, "gold": 0.0, "unlearned": 0.6}
    noise = np.random.default_rng(3)
    of_edges = [
        replace(row, measure="EdgeMemory", partition="gone", value=kept[row.model_role] + noise.normal(0, 0.05))
        for row in rows
        if row.measure == "memory left"
    ]
    ignored = judge_report([*rows, *of_edges], ROLES).methods["m"]  # "gone" is no partition of this request
    roles = replace(ROLES, forget=ROLES.forget | {"gone"})
    tested = judge_report([*rows, *of_edges], roles).methods["m"]
    assert ignored.memory.high < 0.2 < 0.4 < tested.memory.low < tested.memory.high < 0.8
    assert (ignored.finding, tested.finding) == (Finding.INDISTINGUISHABLE, Finding.UNDER_FORGOTTEN)
    lacking = [row for row in of_edges if row.model_role != "unlearned"]
    assert judge_report([*rows, *lacking], roles).methods["m"].memory is None


def test_several_methods_in_turn_share_the_error_by_wider_limits():
    rows = report(np.random.default_rng(16), {"m": {}})
    usual, stricter, strictest = (judge_report(rows, ROLES, certainty=level).methods["m"] for level in (0.95, 0.975, 0.9999))
    assert stricter.memory.level == 0.975
    width, wider = (each.memory.high - each.memory.mean for each in (usual, stricter))
    assert wider == pytest.approx(width * 2.776 / 2.132, rel=1e-3)  # Student's quantiles of 4 degrees of freedom
    assert "memory left may be anything" in strictest.reason


def test_attacks_calibrated_for_a_method_are_compared_with_the_jury_under_the_same_calibration():
    generator = np.random.default_rng(5)
    rows = report(generator, {"lucky": {}}, n_originals=3, n_golds=9)
    bias = 0.4  # of the calibration, whichever model is attacked by it
    attacked = [row for row in rows if row.measure == "UMIA"]
    biased = [replace(row, value=row.value + bias) if row.label == "lucky" and row.measure == "UMIA" else row for row in rows]
    assert judge_report(biased, ROLES).methods["lucky"].p < 0.05
    own = [
        replace(row, value=row.value + bias, label="lucky", unlearner="lucky", treated_like="unlearned")
        for row in attacked
        if row.number
    ]
    tested = judge_report([*biased, *own], ROLES).methods["lucky"]
    plain = judge_report(rows, ROLES).methods["lucky"]
    assert tested.p == plain.p
    assert tested.finding is plain.finding


def test_a_gold_that_the_calibration_for_a_method_lacks_is_not_seated_with_another_one():
    generator = np.random.default_rng(5)
    rows = report(generator, {"lucky": {}}, n_originals=3, n_golds=9)
    bias = 0.4  # of the calibration, whichever model is attacked by it
    biased = [replace(row, value=row.value + bias) if row.label == "lucky" and row.measure == "UMIA" else row for row in rows]
    own = [
        replace(row, value=row.value + bias, label="lucky", unlearner="lucky", treated_like="unlearned")
        for row in rows
        if row.measure == "UMIA" and (row.number or 0) > 4
    ]
    tested = judge_report([*biased, *own], ROLES).methods["lucky"]
    assert tested.left_out == ("UMIA on forget",)
    without = judge_report([row for row in rows if row.measure != "UMIA"], ROLES).methods["lucky"]
    assert (tested.p, tested.finding) == (without.p, without.finding)


def sharing_golds(generator, methods, n_originals, n_golds):
    """A report in which all originals have the golds of the first one beside them."""
    rows = report(generator, methods, n_originals, n_golds)
    own = [row for row in rows if row.model_role != "gold"]
    return own + [replace(row, seed_train=None) for row in rows if row.model_role == "gold" and row.seed_train == 0]


def test_limits_beside_shared_golds_are_welchs():
    rows = sharing_golds(np.random.default_rng(7), {"A": {}}, 6, 4)
    memory = judge_report(rows, ROLES).methods["A"].memory
    left = [row for row in rows if row.measure == "memory left"]
    mine = [row.value for row in left if row.label == "A"]
    golds = [row.value for row in left if row.number]
    expected = stats.ttest_ind(mine, golds, equal_var=False).confidence_interval(0.9)
    assert (memory.low, memory.high) == pytest.approx((expected.low, expected.high))
    # More originals beside the same golds do not take the golds' share of the error away.
    assert memory.half_width(memory.n) == pytest.approx(memory.high - memory.mean)
    assert memory.half_width(10**6) > 0.05 / math.sqrt(4) / 2


def test_the_chance_of_limits_within_a_margin_is_that_of_drawn_reports():
    generator = np.random.default_rng(9)
    for n, n_golds in ((5, 4), (20, 4), (5, 9)):
        within = 0
        for _ in range(1000):
            golds = 0.1 * generator.normal(size=n_golds)
            apart = 0.1 * generator.normal(size=n) - golds.mean()
            common = golds.std(ddof=1) / math.sqrt(n_golds)
            within += limits(apart.tolist(), common=common, degrees=n_golds - 1).is_within(0.15)
        expected = chance_within(0.1, n, 0.15, n_golds=n_golds, is_shared=True)
        assert within / 1000 == pytest.approx(expected, abs=0.05)
    # However many originals there are, the golds that they share remain.
    assert originals_within(0.28, 0.2, n_golds=4, is_shared=True) is None


def test_limits_beside_shared_golds_hold_the_truth_as_often_as_they_say():
    generator, below = np.random.default_rng(8), 0
    for _ in range(400):
        golds, mine = generator.normal(size=4), generator.normal(size=10)
        column = families.TestedColumn("memory left", "forget", "forgotten", 1, "knowledge", "", False, 0.0)
        values, units = np.concatenate([mine, golds])[:, None], [(0, n) for n in range(10)]
        family = families.Family([column], values, units, Design(((10, 4),)))
        below += memory_of(family, [Ruler(column.key, 1.0)], level=0.95).high < 0
    assert below / 400 < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)


def test_the_largest_statistics_under_all_labellings_give_the_p_value():
    methods = judge_report(report(np.random.default_rng(1), {"A": {}, "B": ORIGINAL}, 3, 3), ROLES).methods
    assert len(methods) == 2
    for tested in methods.values():
        assert (tested.basis, len(tested.maxima)) == ("labellings", 4**3)
        assert list(tested.maxima) == sorted(tested.maxima)
        assert np.mean([each >= tested.maximum - 1e-9 for each in tested.maxima]) == pytest.approx(tested.p)
    by_t = judge_report(report(np.random.default_rng(1), {"A": {}}, 1, 9), ROLES).methods["A"]
    assert (by_t.basis, by_t.maxima) == ("t", ())


def test_of_many_labellings_some_largest_statistics_are_kept_evenly():
    tested = judge_report(report(np.random.default_rng(2), {"A": {}}, 5, 4), ROLES).methods["A"]
    assert (tested.n_labellings, len(tested.maxima)) == (5**5, 400)
    assert np.mean([each >= tested.maximum - 1e-9 for each in tested.maxima]) == pytest.approx(tested.p, abs=2 / 400)


def population_rows(label, p, seeds=(0,), measure="KLoM"):
    for seed in seeds:
        (row,) = model_rows(label, "unlearned", seed, {(f"{measure} p", "forget"): p})
        yield replace(row, unit="p", ideal=None, indicates="")


def test_a_population_that_is_told_from_retrained_ones_differs_from_retraining():
    rows = report(np.random.default_rng(4), {"A": {}, "B": {}})
    assert found(rows)["A"] is not Finding.DIFFERENT
    judged = judge_report([*rows, *population_rows("A", 0.001, range(5))], ROLES)
    tested = judged.methods["A"]
    assert tested.finding is Finding.DIFFERENT
    (test,) = tested.populations
    assert (test.measure, test.n) == ("KLoM", 5)
    assert test.p == pytest.approx(0.002)  # twice the mean holds however repetitions depend on one another
    assert test.adjusted == pytest.approx(0.006)  # two methods and one population
    assert not any(tested.is_told_by(each, judged.level) for each in tested.differences)
    assert "KLoM tells many models of this method" in evidence(tested, judged)[0]


def test_populations_count_among_the_tests_of_a_report():
    rows = report(np.random.default_rng(4), {"A": {}, "B": {}, "C": {}}, n_originals=1, n_golds=60)
    assert {each.basis for each in judge_report(rows, ROLES).methods.values()} == {"labellings"}
    more = [*rows, *population_rows("A", 0.02)]
    judged = judge_report(more, ROLES)
    assert {each.basis for each in judged.methods.values()} == {"t"}  # 4 / 61 is above 5 %
    assert judged.methods["A"].finding is not Finding.DIFFERENT  # 0.02 times 4
    assert judge_report([*more, *population_rows("Gold", 1e-4)], ROLES, exact=["A"]).methods["A"].populations == ()


def test_many_methods_take_more_golds_to_accuse_without_assumptions():
    rows = report(np.random.default_rng(0), {"A": {}, "B": {}, "C": {}}, 1, 3)
    assert judge_report(rows, ROLES).methods["A"].reason.endswith("5 can by a t-test, 59 without assumptions")
    enough = judge_report(report(np.random.default_rng(0), {"A": {}, "B": {}, "C": {}}, 1, 59), ROLES)
    assert {each.basis for each in enough.methods.values()} == {"labellings"}
