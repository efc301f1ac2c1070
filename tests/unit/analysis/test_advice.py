"""What a run advises: decided once, whatever shows it."""

from dataclasses import replace

import pytest
from report_rows import evidence, method, references, row

from erasure.analysis.advice import Advised, References, advise, references_of
from erasure.analysis.advice_words import recommendation
from erasure.analysis.gaps import Roles, comparisons
from erasure.analysis.overview import overview_of
from erasure.analysis.verdicts import judge_all
from erasure.records.evidence import Evidence, ModelRecord
from erasure.records.run_folder import RunFolder


def judged(costs, *methods, exact=()):
    return judge_all([r for rows in methods for r in rows], Roles(), costs, exact)


def original(forget=1.0, **changes):
    """An original that can be distinguished from gold, over enough seeds to name a method."""
    return References(original=comparisons(method("original", forget=forget), Roles()), **changes)


def said(judgements, references=None):
    advice = advise(judgements, references or original())
    return advice, recommendation(advice).replace("\u00a0", " ")


def test_the_cheapest_of_those_that_cannot_be_told_from_retraining_is_recommended():
    found = judged(
        {"dear": 0.5, "cheap": 0.1, "GoldModel": 1.0},
        method("GoldModel"),
        method("dear"),
        method("cheap", forget=0.905),
        exact=["GoldModel"],
    )
    advice, text = said(found)
    assert (advice.kind, advice.best.label, advice.ties) == (Advised.USE, "cheap", ("dear",))
    assert "Use cheap" in text and "10 % of the time that retraining takes" in text


@pytest.mark.parametrize("cost", [0.996, 1.0, 3.88])
def test_what_takes_as_long_as_retraining_is_never_recommended(cost):
    advice, text = said(judged({"m": cost}, method("m")))
    assert (advice.kind, advice.best) == (Advised.TOO_DEAR, None)
    assert text.startswith("Retrain") and f"{100 * cost:.0f} % of the time" in text
    assert "Use " not in text


def test_a_cheaper_method_goes_before_a_nearer_one_that_saves_nothing():
    advice, _ = said(judged({"near": 1.5, "cheap": 0.2}, method("near"), method("cheap", forget=0.93)))
    assert (advice.kind, advice.best.label) == (Advised.FALLS_SHORT, "cheap")
    assert said(judged({}, method("m")))[0].best.label == "m"  # nothing is known of its cost


def test_a_method_that_did_nothing_is_never_recommended():
    found = judged({"nothing": 0.0}, method("nothing", status="no-op", reason="every weight is the original's"))
    advice, text = said(found)
    assert (advice.kind, advice.best) == (Advised.UNUSABLE, None)
    assert "Retrain" in text


@pytest.mark.parametrize("forget", [1.0, 0.995, 0.99])
def test_what_ties_with_a_model_that_has_forgotten_nothing_is_never_recommended(forget):
    advice, text = said(judged({"m": 0.01}, method("m", forget=forget)))
    assert (advice.kind, advice.best) == (Advised.NO_NEARER, None)
    assert text.startswith("Retrain") and "nearer to a retrained model than the original," in text
    assert said(judged({"m": 0.01}, method("m", forget=0.98)))[0].kind is Advised.FALLS_SHORT


def test_within_the_floor_but_hardly_nearer_than_the_original_is_a_tie_with_doing_nothing():
    advice, _ = said(judged({"m": 0.01}, method("m", forget=0.909)), original(forget=0.911))
    assert advice.kind is Advised.NO_NEARER


def test_the_closest_of_those_that_fall_short_is_named_with_its_fault():
    advice, text = said(judged({"a": 0.2, "b": 0.1}, method("a", forget=0.92), method("b", forget=0.97)))
    assert advice.best.label == "a"
    assert "still knows clearly more about" in text


@pytest.mark.parametrize(("n", "words"), [(1, "One seed names no method"), (2, "Two seeds name no method")])
def test_few_seeds_name_nobody_and_say_who_came_nearest(n, words):
    advice, text = said(judged({"m": 0.1}, method("m")), original(n_originals=n))
    assert (advice.kind, advice.best, advice.named.label) == (Advised.USE, None, "m")
    assert text.startswith("m came nearest to retraining: its model cannot be distinguished from one retrained")
    assert words in text and "Use " not in text
    short, text = said(judged({"m": 0.1}, method("m", forget=0.95)), original(n_originals=n))
    assert (short.best, words in text) == (None, True)


def test_measures_that_cannot_tell_the_original_from_gold_recommend_nobody():
    found = judged({"m": 0.1}, method("m"))
    advice, text = said(found, original(forget=0.905))
    assert (advice.kind, advice.best) == (Advised.BLIND, None)
    assert "cannot show whether a method has forgotten" in text and "such as LiRA" in text


def test_lira_is_not_advised_to_who_has_it_nor_for_a_handful_of_samples():
    found = judged({"m": 0.1}, method("m"))
    rows = [*method("original", forget=0.905), row("original", "LiRA AUC", value=0.5, gold=0.5)]
    blind = References(original=comparisons(rows, Roles()))
    assert "such as LiRA" not in said(found, blind)[1]
    few = said(found, original(forget=0.905, n_forgotten=7))[1]
    assert "With 7 forgotten samples" in few and "such as LiRA" not in few


def test_without_a_floor_nothing_is_said_to_have_failed():
    advice, text = said(judged({}, method("far", forget=0.99, floor=None), method("near", forget=0.91, floor=None)))
    assert (advice.kind, advice.best) == (Advised.UNDECIDED, None)
    assert text.startswith("near came nearest")
    assert "no noise floor" in text and "floor_repeats" in text


def test_without_gold_nothing_is_recommended():
    advice, text = said(judged({}, method("a")), References(has_gold=False))
    assert (advice.kind, advice.best) == (Advised.NO_GOLD, None)
    assert "no retrained model" in text


def _overview(*changed, models=None, methods=("good", "bad")):
    rows = [each for seed in range(3) for each in (replace(r, seed_train=seed) for r in references())]
    for role, changes in changed:
        rows = [replace(each, **changes(each)) if each.model == role else each for each in rows]
    kept = evidence(*methods)
    kept["models"] = models(kept["models"]) if models else kept["models"]
    return overview_of(RunFolder([*rows, *method("good"), *method("bad", 0.99)], Evidence.of(kept)))


def test_nobody_is_recommended_by_a_retrained_model_that_has_learned_nothing():
    reason = 'accuracy 0.540 on "retain" is that of a constant prediction (0.540)'

    def in_seeds(*seeds):
        return lambda row: {"status": "collapsed", "reason": reason} if row.seed_train in seeds else {}

    useless = _overview(("gold", in_seeds(0, 1)))
    assert (useless.advice.kind, useless.best) == (Advised.USELESS_GOLD, None)
    assert useless.recommendation.startswith("The retrained model has not learned the task: its accuracy 0.540")
    assert _overview(("gold", in_seeds(2))).best.label == "good"


def test_an_untrained_original_is_the_cause_whatever_else_is_found():
    changed = {"status": "collapsed", "reason": 'accuracy 0.1 on "retain" is that of a constant prediction (0.1)'}
    found = _overview(("original", lambda _: changed), ("gold", lambda _: changed))
    assert (found.advice.kind, found.best) == (Advised.UNTRAINED, None)
    assert "original model has not learned the task" in found.recommendation
    assert "LiRA" not in found.recommendation


def test_a_gold_that_diverged_is_not_said_to_be_missing():
    gone = {"value": None, "gold": None, "gap": None, "status": "failed", "reason": "logits on forget are not finite"}
    rows = [*references(), *(replace(each, gold=None, gap=None, floor=None) for each in method("good"))]
    rows = [replace(each, **gone) if each.model == "gold" else each for each in rows]
    found = overview_of(RunFolder(rows, Evidence.of(evidence("good"))))
    assert found.advice.kind is Advised.TRAINING_FAILED
    assert "logits on forget are not finite" in found.recommendation
    assert "no retrained model" not in found.recommendation
    without_rows = references_of(
        [each for each in rows if each.model != "gold"], [ModelRecord(label="gold", role="gold", failed="Diverged")], Roles()
    )
    assert "the retrained model has no values (Diverged)" in without_rows.failed


def test_methods_that_all_failed_say_why():
    found = judged({}, [row("a", value=None, status="failed", reason="out of memory")])
    advice, text = said(found)
    assert (advice.kind, "out of memory" in text) == (Advised.METHODS_FAILED, True)


def test_every_kind_has_words():
    methods = judged({"m": 2.0}, method("m"))
    for kind in Advised:
        advice = replace(advise(methods, original()), kind=kind)
        assert recommendation(advice)
