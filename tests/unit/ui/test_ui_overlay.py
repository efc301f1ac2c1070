"""Data of two models side by side: every number is computed a second time, by another library or by brute force."""

import json

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.metrics import confusion_matrix, roc_auc_score
from ui_run import CLASSES, SIZES, make_run, outputs

from erasure.errors import StoreError
from erasure.kernels import area_under_roc, rates
from erasure.store import Store, address
from erasure.ui import Library, Site
from erasure.ui.attacks import curve_at, scores_of, thresholds
from erasure.ui.embedding import common_map, evenly
from erasure.ui.predictions import confusion, shown_classes

PAIR = {"run": "one", "a": "good", "b": "bad"}


def made_site(tmp_path, **changes):
    make_run(tmp_path / "runs" / "one", tmp_path / "store", **changes)
    return Site(Library(tmp_path / "runs"), Store(tmp_path / "store", read_only=True))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return made_site(tmp_path_factory.mktemp("ui"))


def data(site, name, **query):
    answer = site.answer(f"data/{name}.json", PAIR | query)
    assert answer.kind == "application/json"
    return json.loads(answer.body)


@pytest.mark.parametrize("role", list(SIZES))
def test_confusions_are_those_of_an_independent_library(site, role):
    found = data(site, "predictions", on=role)
    good, bad = outputs("good", role), outputs("bad", role)
    first, second = (confusion_matrix(o["labels"], o["logits"].argmax(1), labels=range(3)) for o in (good, bad))
    assert found["classes"] == list(CLASSES)
    assert found["first"] == first.tolist()
    assert found["second"] == second.tolist()
    assert found["difference"] == (second - first).tolist()


def test_disagreements_are_counted_one_by_one(site):
    found = data(site, "predictions", on="test")["disagreement"]
    good, bad = outputs("good", "test"), outputs("bad", "test")
    apart = [
        {"id": int(i), "label": CLASSES[y], "first": CLASSES[p], "second": CLASSES[q]}
        for i, y, p, q in zip(good["ids"], good["labels"], good["logits"].argmax(1), bad["logits"].argmax(1), strict=True)
        if p != q
    ]
    assert apart
    assert found["samples"] == apart
    assert found["n_apart"] == len(apart) == sum(pair["n"] for pair in found["pairs"])
    assert found["only_first_right"] == sum(each["first"] == each["label"] for each in apart)
    assert found["only_second_right"] == sum(each["second"] == each["label"] for each in apart)
    assert found["right_first"] - found["only_first_right"] == found["right_second"] - found["only_second_right"]


def test_classes_in_which_models_differ_are_shown_before_others():
    first = np.diag([100, 50, 7, 9])
    second = first.copy()
    second[2] = [0, 0, 4, 3]
    assert shown_classes(first, second, most=2) == [2, 3]
    assert shown_classes(first, second, most=4) == [0, 1, 2, 3]
    assert shown_classes(np.diag([3, 0, 0]), np.diag([3, 0, 0])) == [0]


def test_a_class_that_is_never_true_but_named_is_counted():
    assert confusion(np.array([0, 0]), np.array([2, 2]), 3).tolist() == [[0, 0, 2], [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize(("n", "width"), [(60, 4), (5, 40), (3, 1)])
def test_the_map_is_the_principal_components_of_an_independent_library(n, width):
    random = np.random.default_rng(3)
    first, second = random.normal(size=(n, width)) * np.arange(1, width + 1), random.normal(size=(n + 2, width)) + 5
    one, two, shares = common_map(first, second)
    together = np.concatenate([first - first.mean(0), second - second.mean(0)])
    k = min(2, width)
    reference = PCA(k).fit(together)
    expected = reference.transform(together)
    found = np.concatenate([one, two])
    signs = np.sign((found[:, :k] * expected).sum(0))
    np.testing.assert_allclose(found[:, :k], expected * signs, atol=1e-9)
    np.testing.assert_allclose(shares[:k], reference.explained_variance_ratio_, atol=1e-9)
    assert k == 2 or not found[:, 1].any()


def test_the_same_vectors_give_the_same_map_whatever_their_order():
    vectors = np.random.default_rng(0).normal(size=(30, 4))
    order = np.random.default_rng(1).permutation(30)
    straight, _, _ = common_map(vectors, vectors)
    shuffled, _, _ = common_map(vectors[order], vectors[order])
    np.testing.assert_allclose(shuffled, straight[order], atol=1e-9)


def test_the_map_has_every_sample_once_with_what_both_models_say(site):
    found = data(site, "embedding")
    assert found["kind"] == "features"
    assert found["n"] == found["n_total"] == sum(SIZES.values()) == len(found["first"]) == len(found["second"])
    for role in SIZES:
        mine = [i for i, each in enumerate(found["roles"]) if each == role]
        good, bad = outputs("good", role), outputs("bad", role)
        assert [found["ids"][i] for i in mine] == good["ids"].tolist()
        assert [found["labels"][i] for i in mine] == [CLASSES[k] for k in good["labels"]]
        assert [found["called_first"][i] for i in mine] == [CLASSES[k] for k in good["logits"].argmax(1)]
        assert [found["called_second"][i] for i in mine] == [CLASSES[k] for k in bad["logits"].argmax(1)]
    features = [np.concatenate([outputs(label, role)["features"] for role in SIZES]).astype(float) for label in ("good", "bad")]
    one, two, shares = common_map(*features)
    np.testing.assert_allclose(found["first"], one, atol=1e-4)
    np.testing.assert_allclose(found["second"], two, atol=1e-4)
    assert found["shares"] == pytest.approx(shares, abs=1e-4)


def test_samples_of_the_map_are_spread_over_all(tmp_path):
    assert evenly(3, 10).tolist() == [0, 1, 2]
    assert evenly(0, 10).tolist() == []
    chosen = evenly(10_000, 700)
    assert (len(chosen), chosen[0], chosen[-1]) == (700, 0, 9999)
    assert np.diff(chosen).max() - np.diff(chosen).min() <= 1


def test_a_model_without_features_is_mapped_by_its_logits(tmp_path):
    assert data(made_site(tmp_path, features=False), "embedding")["kind"] == "logits"


def test_features_that_are_not_finite_are_left_out_and_counted(tmp_path):
    def spoil(label, partition, arrays):
        if (label, partition) == ("bad", "forget"):
            arrays["features"][3] = np.nan

    found = data(made_site(tmp_path, change=spoil), "embedding")
    assert (found["n"], found["n_not_finite"]) == (sum(SIZES.values()) - 1, 1)
    assert outputs("good", "forget")["ids"][3] not in found["ids"]


def scores_by_hand(attack, label, role):
    said = outputs(label, role)
    if attack == "loss":
        return -said["losses"].astype(np.float64)
    logits = said["logits"].astype(np.float64)
    shares = np.exp(logits - logits.max(1, keepdims=True))
    top = (shares / shares.sum(1, keepdims=True)).max(1)
    return np.log(top / (1 - top))


@pytest.mark.parametrize("key", ["loss", "confidence"])
def test_an_attack_counts_who_is_called_at_each_threshold(site, key):
    found = data(site, "attack", attack=key)
    assert [model["label"] for model in found["models"]] == ["good", "bad", "gold"]
    assert [model["is_reference"] for model in found["models"]] == [False, False, True]
    everything = [s for m in ("good", "bad", "gold") for r in ("forget", "test") for s in scores_by_hand(key, m, r)]
    for model in found["models"]:
        members, others = (scores_by_hand(key, model["label"], role) for role in ("forget", "test"))
        truth = np.r_[np.ones(len(members)), np.zeros(len(others))]
        assert model["auc"] == pytest.approx(roc_auc_score(truth, np.r_[members, others]), abs=1e-12)
        assert (model["tpr"][0], model["fpr"][0], model["tpr"][-1], model["fpr"][-1]) == (0, 0, 1, 1)
        assert sum(model["forget"]) == len(members)
        assert sum(model["test"]) == len(others)
        # Every point is what counting gives at some score, and the points go from nobody to all.
        counted = {
            (round(float((members >= t - 1e-9).mean()), 5), round(float((others >= t - 1e-9).mean()), 5))
            for t in [*everything, np.inf]
        }
        points = [(round(t, 5), round(f, 5)) for t, f in zip(model["tpr"], model["fpr"], strict=True)]
        assert set(points) <= counted
        assert points == sorted(points)
    assert len(found["at"]) == len(found["shown"]) == len(found["models"][0]["tpr"])


def test_a_slider_stops_at_every_score_of_a_small_set_and_at_the_surest_of_a_large_one():
    small = np.array([0.3, 0.1, 0.2])
    assert thresholds([small])[1:].tolist() == [0.3, 0.2, 0.1]
    assert thresholds([small])[0] > 0.3
    large = np.random.default_rng(0).normal(size=100_000)
    stops = thresholds([large], most=120)
    assert len(stops) <= 121
    assert set(np.sort(large)[::-1][:3]) <= set(stops)
    assert (np.diff(stops) < 0).all()


def test_ties_count_one_half():
    assert area_under_roc(np.array([1.0, 2.0]), np.array([1.0, 1.0])) == 0.75
    assert rates(np.array([1.0, 1.0, 2.0]), np.array([1.0, 1.5])).tolist() == [1.0, 1 / 3]


@pytest.mark.parametrize("classes", [2, 5])
def test_confidence_does_not_lose_sure_models(classes):
    logits = np.zeros((3, classes))
    logits[:, 1] = [0.0, 60.0, 600.0]
    found = scores_of("confidence", np.zeros(3), logits)
    np.testing.assert_allclose(found, np.array([0.0, 60.0, 600.0]) - np.log(classes - 1), atol=1e-9)


def test_losses_that_are_not_finite_are_left_out_and_counted(tmp_path):
    def spoil(label, partition, arrays):
        if label == "bad":
            arrays["losses"][:2] = np.inf

    found = data(made_site(tmp_path, change=spoil), "attack")
    assert [model["n_not_finite"] for model in found["models"]] == [0, 4, 0]
    assert found["models"][1]["n"] == [SIZES["forget"] - 2, SIZES["test"] - 2]


def test_a_model_of_nothing_but_nan_is_refused_in_words(tmp_path):
    def spoil(label, partition, arrays):
        if label == "bad":
            arrays["losses"][:] = np.nan

    answer = made_site(tmp_path, change=spoil).answer("data/attack.json", PAIR)
    assert answer.status == 404
    assert "No output of bad is a finite number" in json.loads(answer.body)["error"]


def test_an_attack_of_a_measure_is_shown_by_its_false_alarms(tmp_path):
    curve = {"kind": "roc", "measure": "LiRA AUC", "role": "unlearned", "seed": 0}
    curves = [
        curve | {"label": "good", "fpr": [0.0, 0.5, 1.0], "tpr": [0.2, 0.6, 1.0]},
        curve | {"label": "bad", "fpr": [0.0, 0.25, 1.0], "tpr": [0.0, 0.9, 1.0]},
        curve | {"label": "bad", "seed": 9, "fpr": [0.0, 1.0], "tpr": [1.0, 1.0]},
    ]
    found = data(made_site(tmp_path, curves=curves), "attack", attack="measured:LiRA AUC")
    assert found["at"] == [0.0, 0.25, 0.5, 1.0]
    assert {m["label"]: m["tpr"] for m in found["models"]} == {"good": [0.2, 0.2, 0.6, 1.0], "bad": [0.0, 0.9, 0.9, 1.0]}
    assert curve_at([0.5, 0.0, 0.5], [0.4, 0.1, 0.7], np.array([0.0, 0.49, 0.5])) == [0.1, 0.1, 0.7]


def test_a_binary_task_has_two_classes(tmp_path):
    found = data(made_site(tmp_path, task="binary"), "predictions", on="test")
    good = outputs("good", "test", task="binary")
    assert found["first"] == confusion_matrix(good["labels"], good["logits"][:, 0] > 0).tolist()


def test_several_labels_a_sample_are_refused_in_words(tmp_path):
    def several(label, partition, arrays):
        arrays["labels"] = np.stack([arrays["labels"] == k for k in range(3)], 1).astype(np.int64)

    site = made_site(tmp_path, change=several, task="multilabel")
    assert "several labels" in json.loads(site.answer("data/predictions.json", PAIR).body)["error"]
    assert "several labels" in site.answer("overlay", PAIR).body.decode()
    assert data(site, "embedding")["labels"][0] == "several labels"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"a": "nobody"}, "There is no model 'nobody'"),
        ({"on": "train"}, "There are no samples 'train'"),
        ({"attack": "psychic"}, "There is no attack 'psychic'"),
        ({"attack": "measured:psychic"}, "There is no curve"),
        ({"group": "7"}, "no group 7"),
        ({"group": "-1"}, "whole number"),
        ({"run": "two"}, "There is no run 'two'"),
    ],
)
def test_what_is_not_there_is_said(site, query, words):
    name = "attack" if "attack" in query else "predictions"
    answer = site.answer(f"data/{name}.json", PAIR | query)
    assert answer.status == 404
    assert words in json.loads(answer.body)["error"]


def test_models_of_another_store_are_said_to_be_missing(tmp_path):
    make_run(tmp_path / "runs" / "one", tmp_path / "store")
    site = Site(Library(tmp_path / "runs"), Store(tmp_path / "elsewhere", read_only=True))
    answer = site.answer("overlay", PAIR)
    assert "is not in the store" in answer.body.decode()
    assert "--store" in json.loads(site.answer("data/embedding.json", PAIR).body)["error"]
    assert not (tmp_path / "elsewhere").exists()


def test_a_damaged_object_is_found(tmp_path):
    site = made_site(tmp_path)
    for path in (tmp_path / "store").rglob("outputs.safetensors"):
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.chmod(0o644)
        path.write_bytes(content)
    assert "corrupt" in json.loads(site.answer("data/predictions.json", PAIR).body)["error"]


def test_an_address_that_is_none_leads_nowhere(tmp_path):
    site = made_site(tmp_path)
    path = tmp_path / "runs" / "one" / "report.json"
    kept = json.loads(path.read_text())
    for place in kept["groups"][0]["outputs"]:
        place["address"] = "../../../etc/passwd"
    path.write_text(json.dumps(kept))
    assert "Expected an address" in json.loads(site.answer("data/embedding.json", PAIR).body)["error"]


def test_models_on_different_samples_are_not_compared(tmp_path):
    def shift(label, partition, arrays):
        if label == "bad":
            arrays["ids"] = arrays["ids"] + 1

    site = made_site(tmp_path, change=shift)
    assert "different samples" in json.loads(site.answer("data/predictions.json", PAIR).body)["error"]
    with pytest.raises(ValueError, match="no common basis"):
        common_map(np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(StoreError, match="no group"):
        site.models.of(site.library.overview("one").folder, 5)


@pytest.mark.parametrize("odd", [[3], [{"label": "good"}], {"label": "good"}, "everything"])
def test_addresses_of_another_shape_are_said_to_be_unreadable(tmp_path, odd):
    site = made_site(tmp_path)
    path = tmp_path / "runs" / "one" / "report.json"
    kept = json.loads(path.read_text())
    kept["groups"][0]["outputs"] = odd
    path.write_text(json.dumps(kept))
    answer = site.answer("data/predictions.json", PAIR)
    assert answer.status == 404
    assert "not as this version writes it" in json.loads(answer.body)["error"]


def test_an_object_that_is_not_what_a_model_said_is_refused(tmp_path):
    site = made_site(tmp_path)
    with Store(tmp_path / "store").publish(where := address("model", {"n": 1}), "model", {"n": 1}) as writer:
        writer.save_tensors("outputs", {"weights": torch.zeros(2)})
    path = tmp_path / "runs" / "one" / "report.json"
    kept = json.loads(path.read_text())
    for place in kept["groups"][0]["outputs"]:
        place["address"] = where
    path.write_text(json.dumps(kept))
    assert "does not hold what a model said" in json.loads(site.answer("data/predictions.json", PAIR).body)["error"]
