"""What a run advises: decided once, whatever shows it."""

from dataclasses import replace

import numpy as np
import pytest
from report_rows import evidence, method, references, row, with_jury
from test_judging import ORIGINAL, ROLES, report

from erasure.analysis.advice import Advised, References, advise, references_of
from erasure.analysis.advice_words import recommendation
from erasure.analysis.gaps import RolePartitions
from erasure.analysis.overview import overview_of
from erasure.analysis.result_table import result_table
from erasure.analysis.run_comparison import compare_runs
from erasure.analysis.verdict_words import NOTHING_TO_FORGET
from erasure.analysis.verdicts import judge_all
from erasure.records.evidence import ModelRecord, RunRecord
from erasure.records.run_folder import RunFolder
from erasure.reports.exports import latex_table
from erasure.reports.table import markdown_table

HALF = {key: value / 2 for key, value in ORIGINAL.items()}


def judged(methods, costs=None, *, n=5, golds=9, seed=0, exact=()):
    return judge_all(report(np.random.default_rng(seed), methods, n, golds), ROLES, costs or {}, exact)


def said(found, references=None):
    advice = advise(found, references or References())
    return advice, recommendation(advice).replace("\u00a0", " ")


def test_of_ties_that_are_indistinguishable_the_cheapest_is_recommended():
    found = judged(
        {"GoldModel": {}, "dear": {}, "cheap": {}, "half": HALF},
        {"dear": 0.5, "cheap": 0.1, "GoldModel": 1.0},
        exact=["GoldModel"],
    )
    assert {str(found.of(label).finding) for label in ("dear", "cheap")} == {"indistinguishable"}
    advice, text = said(found)
    assert (advice.kind, advice.best.label, advice.ties) == (Advised.USE, "cheap", ("dear",))
    assert "Use cheap: its model is indistinguishable" in text and "at 10 % of the time that retraining takes" in text
    assert "not shown to be farther: dear" in text


def test_the_nearest_is_named_with_its_chance_and_the_distance_that_choosing_does_not_flatter():
    advice, text = said(judged({"near": {}, "half": HALF}, n=4, golds=3))
    assert advice.best.label == "near"
    assert advice.chances["near"] > 0.9
    assert f"chance of {100 * advice.chances['near']:.0f} %" in text
    assert f"{advice.among.cross_fitted:.1f} where other seeds choose" in text


@pytest.mark.parametrize("cost", [0.996, 1.0, 3.88])
def test_what_takes_as_long_as_retraining_is_never_recommended(cost):
    advice, text = said(judged({"m": {}}, {"m": cost}))
    assert (advice.kind, advice.best) == (Advised.TOO_DEAR, None)
    assert text.startswith("Retrain") and f"{100 * cost:.0f} % of the time" in text
    assert "Use " not in text


def test_a_cheaper_method_goes_before_a_nearer_one_that_saves_nothing():
    advice, _ = said(judged({"near": {}, "cheap": HALF}, {"near": 1.5, "cheap": 0.2}))
    assert (advice.kind, advice.best.label) == (Advised.FALLS_SHORT, "cheap")
    assert said(judged({"m": {}}))[0].best.label == "m"  # nothing is known of its cost


def test_a_method_that_did_nothing_is_never_recommended():
    rows = with_jury(method("nothing", status="no-op", reason="every weight is the original's"))
    advice, text = said(judge_all(rows, RolePartitions(), {"nothing": 0.0}))
    assert (advice.kind, advice.best) == (Advised.UNUSABLE, None)
    assert "Retrain" in text


def test_what_ties_with_a_model_that_has_forgotten_nothing_is_never_recommended():
    advice, text = said(judged({"m": ORIGINAL}, {"m": 0.01}))
    assert (advice.kind, advice.best) == (Advised.NO_NEARER, None)
    assert text.startswith("Retrain") and "nearer to a retrained model than the original," in text
    assert "original" in advice.among.ties or advice.ties
    one, words = said(judged({"m": {key: 1.5 * value for key, value in ORIGINAL.items()}}, n=1), References(n_originals=1))
    assert one.kind is Advised.NO_NEARER
    assert one.is_original_told and "there was something to forget" in words


def test_a_method_is_named_only_if_the_original_is_shown_not_to_be_the_nearest():
    """Of many methods that are no nearer than the original the best one looks nearer by chance, which a test of that one pair forgets."""
    rows = report(np.random.default_rng(11), {"near": {}, "half": HALF}, 5, 9)
    named, text = said(judge_all(rows, ROLES, {"near": 0.1}))
    assert (named.kind, named.best.label) == (Advised.USE, "near")
    assert "original" not in named.among.ties
    without, _ = said(judge_all([row for row in rows if row.model_role != "original"], ROLES, {"near": 0.1}))
    assert (without.kind, without.best.label) == (Advised.USE, "near")
    slight = {f"m{n}": {key: 0.95 * value for key, value in ORIGINAL.items()} for n in range(6)}
    advice, text = said(judged(slight, n=3))
    assert advice.nearest.distance < advice.original
    assert "original" in advice.among.ties
    assert (advice.kind, advice.best) == (Advised.NO_NEARER, None)
    label, near, far = advice.nearest.label, advice.nearest.distance, advice.original
    assert (
        f"of the methods {label} came nearest, at {near:.1f} standard deviations of a retrained model; the original is at {far:.1f}"
        in text
    )
    assert "there was something to forget, and none has forgotten all of it" in text
    some_may_have = recommendation(replace(advice, none_forgot=False))
    assert "there was something to forget; 3 originals are too few to tell which methods have forgotten it" in some_may_have


def test_the_closest_of_those_that_fall_short_is_named_with_its_fault():
    advice, text = said(judged({"a": HALF, "b": {key: 0.8 * value for key, value in ORIGINAL.items()}}))
    assert advice.best.label == "a"
    assert "its model still knows more about the forgotten data than a retrained one would" in text
    over, text = said(judged({"a": {"accuracy forget": -0.06}}))
    assert (over.kind, "its model knows less about" in text) == (Advised.FALLS_SHORT, True)


@pytest.mark.parametrize(("n", "words"), [(1, "on this seed"), (2, "on these two seeds")])
def test_few_seeds_name_nobody_and_say_who_came_nearest(n, words):
    advice, text = said(judged({"m": {}, "b": HALF}, {"m": 0.1}, n=n), References(n_originals=n))
    assert (advice.kind, advice.best, advice.named.label) == (Advised.USE, None, "m")
    assert text.startswith(f"m came nearest to retraining {words}")
    assert "Another seed may name another method" in text and "Use " not in text
    short, text = said(judged({"m": HALF}, {"m": 0.1}, n=n), References(n_originals=n))
    assert (short.best, "Another seed may name another method" in text) == (None, True)


def test_a_method_that_changed_nothing_loses_to_retraining_where_the_original_does():
    rows = [replace(row, gold=0.5, gap=0.1) for row in report(np.random.default_rng(3), {"m": {}}, 5, 9)]
    same = [
        replace(row, model_role="unlearned", label="Identity", unlearner="Identity", status="no-op", seed_unlearn=0)
        for row in rows
        if row.model_role == "original"
    ]
    retrained = [replace(row, label="GoldModel", unlearner="GoldModel") for row in rows if row.label == "m"]
    found = compare_runs([RunFolder([*rows, *same, *retrained])], ["run"], against="GoldModel")
    lost = {(duel.label, duel.measure, duel.partition) for duel in found.duels if duel.outcome == "loss"}
    assert ("Identity", "accuracy", "forget") in lost
    assert ("Identity", "accuracy", "retain") not in lost and not any(label == "m" for label, _, _ in lost)
    reasons = {duel.reason for duel in found.duels if duel.label == "Identity" and duel.outcome == "loss"}
    assert reasons == {"the original differs from retrained models"}


@pytest.mark.parametrize("n", [1, 5])
def test_where_the_original_is_like_retrained_models_there_was_nothing_to_forget(n):
    rows = report(np.random.default_rng(3), {"Identity": {}, "m": {"accuracy test": -0.02}}, n, 9)
    blind = [row for row in rows if row.model_role != "original"]
    blind += [replace(row, model_role="original", label="original") for row in rows if row.label == "Identity"]
    found = judge_all(blind, ROLES)
    advice, text = said(found, References(n_originals=n))
    assert (advice.kind, advice.best) == (Advised.NOTHING_TO_FORGET, None)
    assert text.startswith(NOTHING_TO_FORGET) and "may be missed" in text
    assert {1: "five seeds (--seeds 0-4)", 5: "ten seeds (--seeds 0-9)"}[n] in text
    assert not advice.is_original_told and "something to forget" not in text
    assert NOTHING_TO_FORGET in markdown_table(blind, found)
    assert NOTHING_TO_FORGET in latex_table(result_table(blind, found))
    assert any(NOTHING_TO_FORGET in note for note in compare_runs([RunFolder(blind)], ["run"], against="m").notes)


def test_nothing_to_forget_is_not_said_where_the_original_is_far_off_in_a_value_that_no_test_can_use():
    rows = [row for row in report(np.random.default_rng(3), {"m": {"accuracy test": 0.001}}, 1, 5) if row.measure != "UMIA"]
    far = {"original": 0.97, "unlearned": 0.95, "gold": 0.0}
    blind = [
        replace(row, value=far[row.model_role]) if (row.measure, row.partition) == ("accuracy", "forget") else row for row in rows
    ]
    plain = [row for row in blind if row.measure == "accuracy"]
    advice, text = said(judge_all(plain, ROLES), References(n_originals=1))
    assert advice.kind is Advised.UNDECIDED
    assert "is undecided: retrained models are too alike in accuracy" in text


def test_of_several_groups_one_whose_original_is_told_from_golds_had_something_to_forget():
    """A method that is to retrain on all of train has the original itself as gold, which tells nothing of the others."""
    told = report(np.random.default_rng(4), {"m": HALF}, 5, 4)
    same = report(np.random.default_rng(5), {"whole": {}}, 5, 4)
    same = [
        replace(row, model_role="original", label="original") if row.label == "whole" else row
        for row in same
        if row.model_role != "original"
    ]
    same += [row for row in report(np.random.default_rng(6), {"whole": {}}, 5, 4) if row.label == "whole"]
    rows = [
        replace(row, label=f"{row.label} ({name})") if row.model_role != "unlearned" else row
        for name, group in (("kept", told), ("all", same))
        for row in group
    ]
    golds = {f"{model} ({name})": f"gold ({name})" for model in ("original", "gold") for name in ("kept", "all")}
    advice, _ = said(judge_all(rows, ROLES, golds={**golds, "m": "gold (kept)", "whole": "gold (all)"}))
    assert (advice.kind, advice.nearest.label) == (Advised.FALLS_SHORT, "m")


def test_lira_is_not_advised_to_who_has_it_nor_for_a_handful_of_samples():
    rows = with_jury(method("m"), original=False)
    rows += [replace(each, model_role="original", label="original", seed_unlearn=None) for each in method("m")]
    assert "such as LiRA" in said(judge_all(rows, RolePartitions()))[1]
    assert "such as LiRA" not in said(judge_all(rows, RolePartitions()), References(n_forgotten=7))[1]
    attacked = with_jury([*method("m"), row("m", "LiRA AUC", value=0.5, gold=0.5)], original=False)
    attacked += [
        replace(each, model_role="original", label="original")
        for each in [*method("m"), row("m", "LiRA AUC", value=0.5, gold=0.5)]
    ]
    assert "such as LiRA" not in said(judge_all(attacked, RolePartitions()))[1]


def test_without_enough_golds_nothing_is_said_to_have_failed():
    advice, text = said(judged({"far": ORIGINAL, "near": HALF}, n=1, golds=3), References(n_originals=1))
    assert (advice.kind, advice.best) == (Advised.UNDECIDED, None)
    assert text.startswith("near came nearest to retraining on this seed")
    assert "3 further golds cannot accuse" in text
    advice, text = said(judge_all(method("m"), RolePartitions()))
    assert advice.kind is Advised.UNDECIDED and text.startswith("Whether any method here has forgotten is undecided")


def test_without_gold_nothing_is_recommended():
    advice, text = said(judged({"a": {}}), References(has_gold=False))
    assert (advice.kind, advice.best) == (Advised.NO_GOLD, None)
    assert "no retrained model" in text


def _overview(*changed, models=None, methods=("good", "bad")):
    rows = [each for seed in range(3) for each in (replace(r, seed_train=seed) for r in references())]
    for role, changes in changed:
        rows = [replace(each, **changes(each)) if each.model_role == role else each for each in rows]
    kept = evidence(*methods)
    kept["models"] = models(kept["models"]) if models else kept["models"]
    return overview_of(RunFolder([*rows, *method("good"), *method("bad", 0.99)], RunRecord.of(kept)))


def test_nobody_is_recommended_by_a_retrained_model_that_has_learned_nothing():
    reason = 'accuracy 0.540 on "retain" is that of a constant prediction (0.540)'

    def in_seeds(*seeds):
        return lambda row: {"status": "collapsed", "reason": reason} if row.seed_train in seeds else {}

    useless = _overview(("gold", in_seeds(0, 1)))
    assert (useless.advice.kind, useless.best) == (Advised.USELESS_GOLD, None)
    assert useless.recommendation.startswith("The retrained model has not learned the task: its accuracy 0.540")
    assert _overview(("gold", in_seeds(2))).advice.kind is not Advised.USELESS_GOLD


def test_an_untrained_original_is_the_cause_whatever_else_is_found():
    changed = {"status": "collapsed", "reason": 'accuracy 0.1 on "retain" is that of a constant prediction (0.1)'}
    found = _overview(("original", lambda _: changed), ("gold", lambda _: changed))
    assert (found.advice.kind, found.best) == (Advised.UNTRAINED, None)
    assert "original model has not learned the task" in found.recommendation
    assert "LiRA" not in found.recommendation


def test_a_gold_that_diverged_is_not_said_to_be_missing():
    gone = {"value": None, "gold": None, "gap": None, "status": "failed", "reason": "logits on forget are not finite"}
    rows = [*references(), *(replace(each, gold=None, gap=None, noise_floor=None) for each in method("good"))]
    rows = [replace(each, **gone) if each.model_role == "gold" else each for each in rows]
    found = overview_of(RunFolder(rows, RunRecord.of(evidence("good"))))
    assert found.advice.kind is Advised.NOTHING_MEASURED
    assert "Training" not in found.recommendation
    assert "logits on forget are not finite" in found.recommendation
    assert "no retrained model" not in found.recommendation
    without_rows = references_of(
        [each for each in rows if each.model_role != "gold"],
        [ModelRecord(label="gold", role="gold", failed="Diverged")],
        RolePartitions(),
    )
    assert "the retrained model has no values (Diverged)" in without_rows.failed


def test_methods_that_all_failed_say_why():
    advice, text = said(judge_all([row("a", value=None, status="failed", reason="out of memory")], RolePartitions()))
    assert (advice.kind, "out of memory" in text) == (Advised.METHODS_FAILED, True)


def test_every_kind_has_words():
    advice = advise(judged({"m": {}}, {"m": 2.0}))
    for kind in Advised:
        assert recommendation(replace(advice, kind=kind))


def test_who_lacks_originals_is_not_chosen_from_and_it_is_said():
    rows = report(np.random.default_rng(0), {"m": {}, "half": HALF}, 5, 4)
    gone = {"value": None, "status": "failed", "reason": "out of memory"}
    rows = [replace(each, **gone) if each.label == "m" and each.seed_train > 1 else each for each in rows]
    advice, text = said(judge_all(rows, ROLES))
    assert (advice.best.label, advice.left_out) == ("half", ("m",))
    assert text.endswith("Not compared, because it takes 3 originals: m.")
    alone, text = said(judge_all([each for each in rows if each.label != "half"], ROLES))
    assert alone.best is None
    assert "m" in alone.left_out and "Use" not in text


def test_beside_a_single_gold_nobody_is_said_to_be_near():
    advice, text = said(judged({"m": {}}, n=1, golds=1), References(n_originals=1))
    assert (advice.kind, advice.best) == (Advised.UNDECIDED, None)
    assert text.startswith("Whether any method here has forgotten is undecided: 1 further gold cannot accuse")
    several = judged({"m": {}}, n=5, golds=1)
    assert 0.3 < several.of("m").distance < 3  # golds of different originals tell how far golds differ


def test_who_forgets_by_proof_is_named_whatever_could_be_measured():
    rows = report(np.random.default_rng(0), {"SISA": {}, "m": {}, "GoldModel": {}}, 1, 1)
    rows = [replace(each, guarantee="" if each.label == "m" else "exact") for each in rows]
    found = judge_all(rows, ROLES, exact=["GoldModel"])
    advice, text = said(found, replace(references_of(rows, [], ROLES), has_gold=True))
    assert advice.kind == Advised.UNDECIDED
    assert text.endswith("By proof, whatever was measured, SISA gives what retraining gives.")
    part = [replace(each, guarantee="none") if each.label == "SISA" and each.measure == "NLL" else each for each in rows]
    assert "By proof" not in said(found, references_of(part, [], ROLES))[1]
