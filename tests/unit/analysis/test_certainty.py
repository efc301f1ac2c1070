"""How sure a run is: against scipy, and nothing said where nothing is repeated."""

import numpy as np
import pytest
from report_rows import GOLD, evidence, method, references, row, with_jury
from scipy import stats

from erasure.analysis.certainty import certainty_of
from erasure.analysis.gaps import RolePartitions
from erasure.analysis.overview import overview_of
from erasure.analysis.verdicts import judge_all
from erasure.records.evidence import RunRecord
from erasure.records.run_folder import RunFolder
from erasure.reports.figures.certainty import differences, ranks
from erasure.reports.page import page

FORGET = {"good": (0.90, 0.91, 0.905, 0.895), "bad": (0.99, 0.985, 0.98, 0.995)}
GOLDS = (0.90, 0.91, 0.90, 0.90)


def repeated(values=FORGET, golds=GOLDS):
    """Accuracies of two methods on four training seeds, each with the gold of its own seed."""
    rows = []
    for seed, gold in enumerate(golds):
        rows += [r for r in references() if r.partition == "forget"]
        rows += [row(label, value=of[seed], gold=gold, seed_train=seed) for label, of in values.items()]
    return rows


def found(rows, best="good", kept=None):
    return certainty_of(RunFolder(rows, RunRecord.of(kept or {})), judge_all(with_jury(rows), RolePartitions()), best)


def estimate(certainty, label, partition="forget"):
    return next(each for each in certainty.estimates if (each.label, each.partition) == (label, partition))


def test_one_repetition_without_further_golds_is_said_in_one_line_and_nothing_is_tested():
    rows = [*references(), *method("good"), *method("bad", forget=0.99)]
    certainty = certainty_of(RunFolder(rows), judge_all(rows, RolePartitions()), "good")
    assert not certainty.is_repeated
    (sentence,) = certainty.sentences
    assert sentence.startswith("One repetition")
    assert (certainty.estimates, certainty.between, certainty.ranking) == ((), (), None)
    assert differences(certainty, ["good"]) is None
    assert ranks(certainty) is None


def test_intervals_are_those_of_scipy_and_tests_those_of_the_verdicts():
    certainty = found(repeated())
    judged = judge_all(with_jury(repeated()), RolePartitions())
    for label, values in FORGET.items():
        each = estimate(certainty, label)
        low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
        assert (each.student.low, each.student.high) == pytest.approx((low, high))
        assert each.difference == judged.of(label).tested.difference("accuracy", "forget")
        assert each.is_apart == judged.of(label).tested.is_accused
    assert estimate(certainty, "bad").is_apart
    assert not estimate(certainty, "good").is_apart


def test_the_bootstrap_agrees_with_that_of_scipy():
    each = estimate(found(repeated()), "bad")
    wanted = stats.bootstrap((FORGET["bad"],), np.mean, method="percentile", n_resamples=9999, rng=0).confidence_interval
    assert (each.bootstrap.low, each.bootstrap.high) == pytest.approx((wanted.low, wanted.high), abs=1e-3)


def test_methods_are_tested_by_their_gaps():
    (duel,) = found(repeated()).between
    gaps = {label: np.abs(np.array(values) - GOLDS) for label, values in FORGET.items()}
    assert (duel.label, duel.outcome) == ("bad", "loss")
    assert duel.p == pytest.approx(stats.ttest_rel(gaps["bad"], gaps["good"]).pvalue)


def test_mean_ranks_are_over_training_seeds():
    ranking = found(repeated()).ranking
    assert ranking.labels == ("good", "bad")
    assert ranking.test.ranks == (1.0, 2.0)
    assert ranking.test.n == 4
    figure = ranks(found(repeated()))
    assert [record["rank"] for record in figure.data] == [1.0, 2.0]
    assert "p = 0.046" in figure.caption  # Friedman over four blocks that agree: chi-squared 4 with one degree of freedom


def test_seeds_of_unlearning_are_averaged_and_their_spread_is_apart():
    rows = [
        row("good", value=0.9 + train / 100 + unlearn / 1000, seed_train=train, seed_unlearn=unlearn)
        for train in range(3)
        for unlearn in range(5)
    ]
    certainty = found(rows)
    each = estimate(certainty, "good")
    assert (certainty.n_originals, certainty.n_inside) == (3, 5)
    assert each.student.n == each.bootstrap.n == len(each.difference.apart) == 3
    assert each.spread.within == pytest.approx(np.var([0, 0.001, 0.002, 0.003, 0.004], ddof=1))
    assert each.spread.between == pytest.approx(0.01**2 - each.spread.within / 5)
    assert "which count as one" in certainty.sentences[0]


def test_one_original_with_many_seeds_of_unlearning_counts_once():
    rows = [row("good", value=0.9 + unlearn / 1000, seed_unlearn=unlearn) for unlearn in range(5)]
    certainty = found(rows)
    each = estimate(certainty, "good")
    assert (each.bootstrap, len(each.difference.apart), each.spread.between) == (None, 1, None)
    assert each.student.n == 5
    assert "nothing of other originals" in certainty.sentences[0].replace("nothing \nof", "nothing of")
    assert certainty.ranking is None


def test_an_attack_has_an_interval_over_samples_and_one_over_training_seeds():
    rows = [row("good", "UMIA", value=0.5 + seed / 100, gold=0.5, seed_train=seed) for seed in range(3)]
    kept = evidence("good")
    interval = {"label": "good", "role": "unlearned", "seed": 0, "measure": "UMIA", "partition": "forget", "over": "samples"}
    kept["intervals"] = [
        interval | {"value": 0.5, "low": 0.4, "high": 0.6},
        interval | {"measure": "accuracy", "value": 1, "low": 0, "high": 1},
    ]
    (attack,) = found(rows, kept=kept).attacks
    assert (attack.measure, attack.value, attack.samples) == ("UMIA", 0.5, (0.4, 0.6))
    low, high = stats.t.interval(0.95, 2, 0.51, stats.sem([0.5, 0.51, 0.52]))
    assert (attack.models.low, attack.models.high) == pytest.approx((low, high))


def test_figures_say_where_a_value_is_beyond_the_axis():
    labels = [f"m{i}" for i in range(8)]
    values = {label: tuple(0.9 + (i + seed) / 1000 for seed in range(4)) for i, label in enumerate(labels)} | {
        "off": (0.1, 0.11, 0.12, 0.1)
    }
    certainty = found(repeated(values), "m0")
    figure = differences(certainty, [*labels, "off"])
    drawn = {record["method"]: record for record in figure.spec["layer"][-1]["data"]["values"]}
    assert drawn["off"]["status"] == "below"
    assert drawn["off"]["difference"] > -0.3
    assert next(record for record in figure.data if record["method"] == "off")["difference"] == pytest.approx(
        np.mean([0.1, 0.11, 0.12, 0.1]) - np.mean(GOLDS), abs=0.001
    )


def test_hostile_names_stay_text_in_the_tables_of_tests():
    pytest.importorskip("vl_convert", reason="the extra report is not installed")
    pytest.importorskip("jinja2", reason="the extra report is not installed")
    evil = "</td><script>alert(1)</script><img src=x onerror=alert(2)>`x`"
    values = {evil: FORGET["bad"], "good": FORGET["good"]}
    rows = repeated(values) + [row(evil, evil, value=0.1 * seed, gold=0.5, seed_train=seed) for seed in range(4)]
    kept = evidence(evil, "good")
    kept["intervals"] = [
        {
            "label": evil,
            "role": "unlearned",
            "seed": 0,
            "measure": f"UMIA {evil}",
            "partition": evil,
            "value": 0,
            "low": 0,
            "high": 1,
        }
    ]
    kept["sweep"] = [{"label": evil, "settings": {evil: evil}}] * 2
    text = page(overview_of(RunFolder(rows, RunRecord.of(kept))))
    assert "<img src=x" not in text
    assert text.count("<script") == 1
    assert 'id="tests"' in text


def test_the_page_has_the_tests_and_says_so_in_words():
    pytest.importorskip("vl_convert", reason="the extra report is not installed")
    pytest.importorskip("jinja2", reason="the extra report is not installed")
    rows = repeated()
    for seed in range(4):
        rows += [row(label, partition="test", value=GOLD["test"], seed_train=seed) for label in FORGET]
    text = page(overview_of(RunFolder(with_jury(rows), RunRecord.of(evidence("good", "bad")))))
    assert "Everything was repeated with 4 training seeds." in text
    assert "1 of 4 values differ" in text
    assert "<b>differs from retraining</b>" in text
    once = page(overview_of(RunFolder([*references(), *method("good")], RunRecord.of(evidence("good")))))
    assert '<code class="whole">--seeds 0-4</code>' in once
    assert 'id="tests"' not in once
