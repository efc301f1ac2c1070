"""The attacks with shadow models, on networks that are really trained."""

import functools
import math

import numpy as np
import pytest
import torch
from attack_bank import SIZES, World
from scipy import stats
from sklearn.metrics import roc_auc_score

from erasure.errors import InvalidParameters, PartitionError, RequirementNotMet
from erasure.functional.losses import per_sample_loss
from erasure.functional.membership import confidence_margin, roc, tpr_at_fpr
from erasure.measures.attacks.lira import LiRA, ULiRA
from erasure.measures.attacks.rmia import RMIA
from erasure.measures.attacks.ruli import RULI, RULIEfficacy
from erasure.measures.attacks.shokri import ForgettingRate, ShokriAttack
from erasure.measures.requested_models import Shadow

ATTACKS = [
    LiRA(n_shadows=32),
    LiRA(variant="offline", n_shadows=32),
    LiRA(variant="online", n_shadows=32),
    LiRA(interval="models", n_shadows=32),
    LiRA(top=0.3, n_shadows=32),
    ULiRA(n_shadows=32),
    ULiRA(top=0.3, n_shadows=32),
    RMIA(),
    RMIA(variant="online"),
    RMIA(population="population"),
    RULI(n_shadows=48),
    RULIEfficacy(n_shadows=48),
    ShokriAttack(),
]
IDS = [
    "LiRA",
    "offline",
    "online",
    "models",
    "top",
    "U-LiRA",
    "U-LiRA-top",
    "RMIA",
    "RMIA-online",
    "population",
    "RULI",
    "efficacy",
    "Shokri",
]


@functools.cache
def world(task="classification", seed=1):
    return World(task=task, seed=seed)


def _numbers(values):
    return {name: value.value for name, value in values.items()}


def _parts(given, measure, subject, requests=None):
    """Log-odds of the subject and of shadow models, and who has seen what, sample by sample from the provider's answers."""
    evaluation = given.evaluation(measure, subject)
    ids = [int(i) for name in ("forget", "test") for i in given.partitions[name]]

    def said(outputs):
        return confidence_margin(outputs.task, outputs.logits, outputs.labels).tolist()

    observed = [phi for name in ("forget", "test") for phi in said(evaluation.outputs(name))]
    models = []
    for request in requests or measure.shadows:
        phi = [v for name in ("forget", "test") for v in said(evaluation.provider.outputs(request, name))]
        seen, gone = (set(way(request).tolist()) for way in (evaluation.provider.seen, evaluation.provider.forgotten))
        models.append((phi, [i in seen for i in ids], [i in gone for i in ids]))
    return observed, models


def _areas(scores):
    m = SIZES["forget"]
    return roc_auc_score([1] * m + [0] * (len(scores) - m), scores)


# What must be found, and what must not


@pytest.mark.parametrize("attack", ATTACKS, ids=IDS)
def test_a_model_that_has_forgotten_nothing_is_found_out(attack):
    area = next(iter(world().values(attack, "identity").values()))
    assert area.low > 0.5
    assert area.value > 0.55


@pytest.mark.parametrize("attack", ATTACKS, ids=IDS)
def test_a_retrained_model_is_not(attack):
    # Not of the seed that the efficacy game compares with.
    for subject in ("gold 1", "gold 2"):
        area = next(iter(world().values(attack, subject).values()))
        assert area.low <= 0.55
        assert area.value < world().values(attack, "identity")[area.name].value


@pytest.mark.parametrize(
    "attack",
    [
        LiRA(n_shadows=16),
        *(
            pytest.param(attack, marks=pytest.mark.nightly)
            for attack in (LiRA(), ULiRA(), RMIA(), RULI(n_shadows=36), RULIEfficacy(n_shadows=36), ShokriAttack())
        ),
    ],
)
def test_retrained_models_of_many_worlds_are_at_chance_on_average(attack):
    found = [next(iter(world(seed=seed).values(attack, "gold 1").values())) for seed in range(10)]
    areas = np.array([value.value for value in found])
    assert abs(areas.mean() - 0.5) < 5 * areas.std(ddof=1) / math.sqrt(len(areas))
    assert sum(value.low <= 0.5 <= value.high for value in found) >= 6


@pytest.mark.parametrize("task", ["binary", "multilabel"])
@pytest.mark.parametrize(
    "attack", [LiRA(n_shadows=32), ULiRA(n_shadows=32), RMIA(), RULI(n_shadows=48)], ids=lambda attack: attack.title
)
def test_every_kind_of_task_is_attacked(attack, task):
    area = world(task).values(attack, "identity")[f"{attack.title} AUC"]
    assert area.value > world(task).values(attack, "gold")[f"{attack.title} AUC"].value
    assert area.value > 0.5


def test_remembered_samples_are_found_more_surely():
    values = [world().values(LiRA(top=top, n_shadows=32), "original") for top in (1.0, 0.3)]
    assert values[1]["LiRA top 0.3 AUC"].value > values[0]["LiRA AUC"].value + 0.03
    ruli = world().values(RULI(n_shadows=48), "identity")
    assert ruli["RULI vulnerable AUC"].value > ruli["RULI AUC"].value > ruli["RULI protected AUC"].value


def test_the_remembered_samples_are_those_with_wrong_labels():
    given = world()
    measure = LiRA(top=1 / 3, n_shadows=32)
    evaluation = given.evaluation(measure, "original")
    sides = measure.sides(evaluation)
    chosen = torch.cat(
        measure.players(sides, sides.shadow_margins(evaluation, measure.shadows), sides.seen(evaluation, measure.shadows))
    )
    assert float(given.noisy[sides.ids[chosen]].double().mean()) > 2 * float(given.noisy[sides.ids].double().mean())


def test_unlearned_shadows_see_through_a_method_that_hides():
    # Training on without the forget set leaves a trace that plain shadows see less of.
    plain, calibrated = (world().values(m, "repaired")[f"{m.title} AUC"] for m in (LiRA(n_shadows=32), ULiRA(n_shadows=32)))
    assert calibrated.value > plain.value
    assert calibrated.low > 0.5


# Identities


@pytest.mark.parametrize("options", [{}, {"top": 0.3}, {"variant": "offline"}, {"interval": "models"}])
@pytest.mark.parametrize("subject", ["identity", "original"])
def test_without_unlearning_u_lira_is_lira(subject, options):
    first, second = (world().values(m, subject) for m in (LiRA(n_shadows=32, **options), ULiRA(n_shadows=32, **options)))
    assert list(_numbers(first).values()) == list(_numbers(second).values())
    assert [(v.low, v.high) for v in first.values()] == [(v.low, v.high) for v in second.values()]


@pytest.mark.parametrize(
    "attack", [ULiRA(n_shadows=32), ULiRA(top=0.3, share=0.5, n_shadows=32), RULI(n_shadows=30)], ids=lambda attack: attack.title
)
def test_shadows_that_have_unlearned_nothing_count_for_what_they_have_seen(attack):
    evaluation = world().evaluation(attack, "original")
    evaluation.provider.forgotten = lambda request: torch.empty(0, dtype=torch.int64)
    area = attack.measure(evaluation)[0]
    if isinstance(attack, ULiRA):
        plain = world().values(LiRA(top=attack.top, n_shadows=32), "original")
        assert area.value == plain[f"{LiRA(top=attack.top, n_shadows=32).title} AUC"].value
    assert area.low > 0.5


def test_the_forgetting_rate_of_the_original_is_zero_and_that_of_gold_is_not():
    rates = {name: world().values(ForgettingRate(), name)["Forgetting rate"].value for name in ("original", "identity", "gold")}
    assert rates["original"] == rates["identity"] == 0.0
    assert 0.1 < rates["gold"] <= 1.0


def test_gold_is_at_chance_against_itself_in_the_efficacy_game():
    values = world().values(RULIEfficacy(n_shadows=48), "gold")
    areas = [value.value for name, value in values.items() if name.endswith("AUC")]
    assert areas == pytest.approx([0.5] * 3)


# The numbers, by loops and by other libraries


@pytest.mark.parametrize("variant", ["online", "fixed-variance", "offline"])
def test_lira_is_a_loop_over_samples_and_models(variant):
    given, measure = world(), LiRA(variant=variant, n_shadows=20)
    observed, models = _parts(given, measure, "original")
    inside = [[phi[i] for phi, seen, _ in models if seen[i]] for i in range(len(observed))]
    outside = [[phi[i] for phi, seen, _ in models if not seen[i]] for i in range(len(observed))]

    def spread(groups):
        if variant == "online":
            return [np.std(group, ddof=1) for group in groups]
        squares = sum(((np.array(group) - np.mean(group)) ** 2).sum() for group in groups)
        return [math.sqrt(squares / sum(len(group) - 1 for group in groups))] * len(groups)

    scores = []
    for phi, some, none, s_in, s_out in zip(observed, inside, outside, spread(inside), spread(outside), strict=True):
        if variant == "offline":
            scores.append((phi - np.mean(none)) / s_out)
        else:
            scores.append(stats.norm.logpdf(phi, np.mean(some), s_in) - stats.norm.logpdf(phi, np.mean(none), s_out))
    values = given.values(measure, "original")
    m, scores = SIZES["forget"], np.array(scores)
    assert values["LiRA AUC"].value == pytest.approx(_areas(scores))
    assert values["LiRA balanced accuracy"].value == pytest.approx(((scores[:m] > 0).mean() + (scores[m:] <= 0).mean()) / 2)
    assert [value.chance_level for value in values.values()] == [0.5, 0.5, 0.01, 0.001]
    rate = values["LiRA TPR at 1% FPR"]
    assert rate.value == pytest.approx((scores[:m] > scores[m:].max()).mean())
    assert (rate.low, rate.high) == pytest.approx(tuple(stats.binomtest(round(rate.value * m), m).proportion_ci()))


def test_u_lira_is_a_loop_over_what_was_forgotten_and_never_seen():
    given, measure = world(), ULiRA(n_shadows=20, variant="online")
    observed, models = _parts(given, measure, "repaired", measure.unlearned)
    scores = []
    for i, phi in enumerate(observed):
        gone, never = (
            [said[i] for said, seen, forgot in models if keep(seen[i], forgot[i])]
            for keep in (lambda s, f: f, lambda s, f: not s)
        )
        assert len(gone) == len(never) == 10
        scores.append(
            stats.norm.logpdf(phi, np.mean(gone), np.std(gone, ddof=1))
            - stats.norm.logpdf(phi, np.mean(never), np.std(never, ddof=1))
        )
    assert given.values(measure, "repaired")["U-LiRA AUC"].value == pytest.approx(_areas(scores))


@pytest.mark.parametrize("variant", ["offline", "online"])
def test_rmia_is_a_loop_over_pairs(variant):
    given, measure = world(), RMIA(variant=variant)
    observed, models = _parts(given, measure, "original")
    p = [[1 / (1 + math.exp(-v)) for v in said] for said, _, _ in models]
    ratios = []
    for i, phi in enumerate(observed):
        inside, outside = (np.mean([p[k][i] for k in range(len(p)) if models[k][1][i] == saw]) for saw in (True, False))
        prior = (1.3 * outside + 0.7) / 2 if variant == "offline" else (inside + outside) / 2
        ratios.append(1 / (1 + math.exp(-phi)) / prior)
    scores = [np.mean([x / z >= 2 for z in ratios[SIZES["forget"] :]]) for x in ratios]
    assert given.values(measure, "original")["RMIA AUC"].value == pytest.approx(_areas(scores))
    # The same against samples that no model has seen, whose prior is the mean over all models.
    measure = RMIA(variant=variant, population="population", gamma=1.2)
    evaluation = given.evaluation(measure, "original")

    def probabilities(outputs):
        return (-outputs.losses.double()).exp().numpy()

    prior = np.mean([probabilities(evaluation.provider.outputs(each, "population")) for each in measure.shadows], axis=0)
    pool = probabilities(evaluation.outputs("population")) / ((1.3 * prior + 0.7) / 2 if variant == "offline" else prior)
    scores = [np.mean(x / pool >= 1.2) for x in ratios]
    assert given.values(measure, "original")["RMIA AUC"].value == pytest.approx(_areas(scores))


def test_rulis_privacy_game_is_scipys_kernel_densities():
    given, measure = world(), RULI(n_shadows=48)
    observed, models = _parts(given, measure, "repaired", measure.unlearned)
    scores = []
    for i, phi in enumerate(observed):
        gone, never = (
            [said[i] for said, seen, forgot in models if keep(seen[i], forgot[i])]
            for keep in (lambda s, f: f, lambda s, f: not s)
        )
        scores.append(float(stats.gaussian_kde(gone).logpdf(phi)[0] - stats.gaussian_kde(never).logpdf(phi)[0]))
    assert given.values(measure, "repaired")["RULI AUC"].value == pytest.approx(_areas(scores))


def test_a_third_of_rulis_models_plays_each_role():
    measure = RULI(n_shadows=90)
    _, models = _parts(world(), measure, "identity", measure.unlearned)
    roles = np.mean([[f, not s, s and not f] for _, seen, gone in models for s, f in zip(seen, gone, strict=True)], axis=0)
    assert roles == pytest.approx([1 / 3] * 3, abs=0.01)


def test_shokris_attack_is_one_regression_a_class_on_posteriors():
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import scale

    given, measure = world(), ShokriAttack(n_shadows=4)
    evaluation = given.evaluation(measure, "original")
    scores = np.empty(100)
    labels = torch.cat([evaluation.outputs(name).labels for name in ("forget", "test")]).numpy()
    ids = torch.cat([given.partitions[name] for name in ("forget", "test")])
    for label in range(3):
        of = labels == label
        x = [
            torch.cat([evaluation.provider.outputs(r, n).logits.softmax(1) for n in ("forget", "test")]).numpy()[of]
            for r in measure.shadows
        ]
        seen = [torch.isin(ids, evaluation.provider.seen(r)).numpy()[of] for r in measure.shadows]
        subject = torch.cat([evaluation.outputs(n).logits.softmax(1) for n in ("forget", "test")]).numpy()[of]
        x = np.concatenate([*x, subject]).astype(np.float64)
        shadows = slice(0, len(x) - len(subject))
        mean, spread = x[shadows].mean(0), x[shadows].std(0)
        assert scale(x[shadows]) == pytest.approx((x[shadows] - mean) / spread)
        fit = LogisticRegression(max_iter=1000).fit((x[shadows] - mean) / spread, np.concatenate(seen))
        scores[of] = fit.decision_function((subject - mean) / spread)
    values = given.values(measure, "original")
    assert values["Shokri AUC"].value == pytest.approx(_areas(scores), abs=1e-3)
    found = given.values(ForgettingRate(n_shadows=4), "gold")["Forgetting rate"].value
    assert (scores[:40] > 0).sum() * found == pytest.approx(round((scores[:40] > 0).sum() * found))


def test_the_margin_is_the_log_odds_of_the_loss():
    outputs = world().evaluation(LiRA(n_shadows=4)).outputs("forget")
    p = (-per_sample_loss(outputs.task, outputs.logits.double(), outputs.labels)).exp()
    torch.testing.assert_close(confidence_margin(outputs.task, outputs.logits, outputs.labels), (p / (1 - p)).log())


# Evidence


def test_the_curve_beside_the_area_is_its_own():
    area = world().values(LiRA(n_shadows=32), "original")["LiRA AUC"]
    curve = area.curve
    assert curve["kind"] == "roc"
    assert (curve["n_members"], curve["n_others"]) == (40, 60)
    assert np.trapezoid(curve["tpr"], curve["fpr"]) == pytest.approx(area.value, abs=0.02)
    assert len(curve["fpr"]) <= 200


def test_more_shadow_models_narrow_the_interval_over_models():
    widths = []
    for n in (16, 64):
        area = world().values(LiRA(n_shadows=n, interval="models"), "original")["LiRA AUC"]
        widths.append(area.high - area.low)
        assert area.low <= area.value <= area.high
    assert widths[1] < widths[0]


def test_the_interval_over_models_is_that_of_pairs_drawn_again():
    given, measure = world(), LiRA(n_shadows=16, interval="models")
    observed, models = _parts(given, measure, "original")
    said, seen = np.array([each for each, _, _ in models]), np.array([each for _, each, _ in models])
    generator = given.evaluation(measure, "original").streams.torch("models")
    areas = []
    for _ in range(200):
        drawn = [2 * int(pair) + k for pair in torch.randint(8, (8,), generator=generator) for k in (0, 1)]
        sides = []
        for inside in (seen[drawn], ~seen[drawn]):
            values = np.ma.masked_array(said[drawn], ~inside)
            spread = max(float(np.sqrt(((values - values.mean(0)) ** 2).sum() / (inside.sum(0) - 1).sum())), 1e-6)
            sides.append(stats.norm(values.mean(0).data, spread).logpdf(observed))
        areas.append(_areas(sides[0] - sides[1]))
    area = given.values(measure, "original")["LiRA AUC"]
    low, high = np.quantile(areas, [0.025, 0.975])
    assert (area.low, area.high) == pytest.approx((min(low, area.value), max(high, area.value)))


def test_rates_without_enough_nonmembers_are_those_without_a_false_positive():
    values = world().values(LiRA(n_shadows=32), "original")
    assert values["LiRA TPR at 1% FPR"].value == values["LiRA TPR at 0.1% FPR"].value > 0
    assert tpr_at_fpr(roc(torch.tensor([2.0, 0.0]), torch.tensor([1.0] * 60)), 0.01) == 0.5


# Invariance


# The conformance suite says the same of every attack on linear models.
@pytest.mark.parametrize(
    "attack",
    [
        ULiRA(n_shadows=8),
        *(
            pytest.param(attack, marks=pytest.mark.nightly)
            for attack in (LiRA(n_shadows=8), RMIA(n_shadows=4), RULI(n_shadows=30), ShokriAttack(n_shadows=4))
        ),
    ],
)
@pytest.mark.parametrize("options", [{"order": 3}, {"batch_size": 7}])
def test_order_and_batches_do_not_matter(attack, options):
    found = _numbers(World(seed=1, **options).values(attack, "original"))
    for name, value in world().values(attack, "original").items():
        assert found[name] == pytest.approx(value.value, abs=1e-6), name


def test_an_attack_looks_at_what_it_declares_and_at_all_of_it():
    for attack in ATTACKS:
        given = World(seed=1)
        given.models = world().models
        evaluation = given.evaluation(attack, "identity")
        attack.measure(evaluation)
        declared = {(request, name) for request, names in attack.requests("unlearned") for name in names}
        assert set(given.asked) == declared, attack


def test_attacks_share_their_shadow_models():
    def shadows(attack):
        return {request for request, _ in attack.requests("unlearned") if isinstance(request, Shadow)}

    assert shadows(RMIA()) < shadows(LiRA())
    assert shadows(ShokriAttack()) == shadows(ForgettingRate()) == shadows(RMIA())
    assert {request.origin for request, _ in ULiRA().requests("unlearned")} == shadows(LiRA())
    assert set(dict(RULI().requests("gold"))) < set(dict(RULIEfficacy().requests("gold")))


# What cannot be attacked


def test_too_few_shadow_models_are_refused_at_once():
    with pytest.raises(InvalidParameters, match="at least 4"):
        LiRA(n_shadows=3)
    with pytest.raises(InvalidParameters, match="ask for 8 or 10"):
        LiRA(n_shadows=9)
    with pytest.raises(InvalidParameters, match="at least 16 of them, found 8"):
        LiRA(n_shadows=8, interval="models")
    for options in ({"share": 1.5}, {"share": 0.0}, {"top": 0.0}, {"top": 1.1}):
        with pytest.raises(InvalidParameters, match=next(iter(options))):
            ULiRA(**options)
    with pytest.raises(InvalidParameters, match="at least 16"):
        LiRA(n_shadows=14, interval="models")
    with pytest.raises(InvalidParameters, match="use share 1"):
        ULiRA(n_shadows=48, interval="models", share=0.5)


@pytest.mark.parametrize("attack", [LiRA, ULiRA, RMIA, ShokriAttack, ForgettingRate])
def test_halves_come_in_pairs(attack):
    with pytest.raises(InvalidParameters, match="ask for 8 or 10"):
        attack(n_shadows=9)
    assert RULI(n_shadows=33).n_shadows == 33


def test_too_few_models_for_a_sample_are_said():
    with pytest.raises(RequirementNotMet, match="of the 4 shadow models only"):
        world().values(RULI(n_shadows=4), "identity")


def test_samples_that_every_shadow_model_has_seen_are_refused():
    with pytest.raises((RequirementNotMet, PartitionError), match="shadow models"):
        world().values(LiRA(test="population", retain="population", n_shadows=4), "original")


def test_a_sample_cannot_be_on_both_sides():
    given = World(seed=1)
    given.partitions = given.partitions | {"test": torch.arange(30, 90)}
    with pytest.raises(PartitionError, match="share 10 samples"):
        given.values(LiRA(n_shadows=4), "original")


def test_a_share_that_leaves_a_side_empty_is_refused():
    with pytest.raises(RequirementNotMet, match=r'has none of "(forget|test)": take a larger share'):
        world().values(LiRA(top=0.01), "original")


def test_without_a_provider_the_reason_is_said():
    from dataclasses import replace

    measure = LiRA(n_shadows=4)
    with pytest.raises(RequirementNotMet, match="needs an experiment run"):
        measure.measure(replace(world().evaluation(measure), provider=None))


# Not a number, and a weight with which logits are finite on one processor and infinite on another.
@pytest.mark.parametrize("weight", [math.nan, 1e20])
def test_a_diverged_shadow_model_is_named(weight):
    given = World(seed=1)
    measure = LiRA(n_shadows=4)
    evaluation = given.evaluation(measure, "original")
    with torch.no_grad():
        next(given.models[measure.shadows[2]].parameters()).fill_(weight)
    with pytest.raises(RequirementNotMet, match="shadow model 2 are not finite"):
        measure.measure(evaluation)


def test_several_labels_have_no_classes_to_learn_an_attack_for():
    with pytest.raises(RequirementNotMet, match="multilabel"):
        world("multilabel").values(ShokriAttack(n_shadows=4), "original")


def test_a_forgetting_rate_without_members_is_not_a_number():
    given = World(seed=1)
    measure = ForgettingRate(n_shadows=4)
    evaluation = given.evaluation(measure, "gold")
    # An original that is sure of the wrong class on every sample.
    wrong = given.subject("original").head
    with torch.no_grad():
        wrong.weight.neg_().mul_(3)
        wrong.bias.neg_().mul_(3)
    with pytest.raises(RequirementNotMet, match="finds no member"):
        measure.measure(evaluation)
