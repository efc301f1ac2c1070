"""Every registered measure in a run, side by side."""

from small import small_experiment

import erasure
from erasure.catalogue import BUILTINS
from erasure.measures.contract import Measure
from erasure.registry.lookup import Registry
from erasure.store import Store

NEEDS = {
    "GroupAccuracy",
    "DemographicParity",
    "EqualisedOdds",
    "AttackSuccessRate",
    "TrueLabelAccuracy",
    "Recovery",
    "HardwareCounters",
    "PersonLiRA",
    "DeletedEdgeAUC",
    "DeletedLinkAUC",
    "EdgeLiRA",
    "EdgeMembership",
    "EdgeMemory",
}
"""Measures of groups, edges and corrupted samples, which the data does not have, and of counters that few machines let users read."""

FEW = {
    "LiRA": {"n_shadows": 4},
    "U-LiRA": {"n_shadows": 4},
    "RMIA": {"n_shadows": 4},
    "ShokriAttack": {"n_shadows": 4},
    "ForgettingRate": {"n_shadows": 4},
    "KLoM": {"n_models": 4},
    "ForgettingQuality": {"n_models": 8},
}
"""Fewer models than the defaults, to be quick."""


def test_every_measure_gives_sound_rows_and_gold_has_no_gap(tmp_path):
    of_answers = {name for name in BUILTINS["measure"] if Registry().resolve(name, Measure).cls.defined_for == {"generation"}}
    names = [name for name in BUILTINS["measure"] if name not in NEEDS | of_answers]
    configuration = small_experiment(unlearners=[{"class": "Finetuning", "parameters": {"epochs": 2}}, "Identity"])
    configuration["evaluator"] |= {
        "measures": [{"class": name, "parameters": FEW.get(name, {})} for name in names],
        "floor_repeats": 0,
    }
    configuration["predictor"]["epochs"] = 10
    results = erasure.run(configuration, store=tmp_path / "store")
    refused = {row.reason for row in results if row.status == "failed"}
    # Gold's attack is no worse than the original's here, or gold has nothing to learn again: both say so.
    assert all("gold" in reason or "original" in reason for reason in refused), refused
    assert all(
        row.gap == 0 for row in results if row.model_role == "gold" and row.gap is not None and row.unit not in {"s", "MiB", "x"}
    )
    measured = {row.measure.partition(" ")[0].partition("[")[0] for row in results if row.value is not None}
    assert len(measured) >= 25


def test_a_measure_without_its_data_fails_alone(tmp_path):
    configuration = small_experiment(unlearners=["Identity"])
    configuration["evaluator"]["measures"] = ["GroupAccuracy", "Accuracy"]
    results = erasure.run(configuration, store=tmp_path / "store")
    assert not results.is_sound
    assert {row.status for row in results if row.measure == "GroupAccuracy"} == {"failed"}
    assert all(row.value is not None for row in results if row.measure == "accuracy")


def test_two_settings_of_a_measure_are_not_taken_for_repetitions(tmp_path):
    configuration = small_experiment(unlearners=["Identity"])
    configuration["evaluator"]["measures"] = ["UMIA", {"class": "UMIA", "parameters": {"protocol": "choi-na"}}]
    results = erasure.run(configuration, store=tmp_path / "store")
    assert {row.measure for row in results} == {"UMIA (protocol=kurmanji)", "UMIA (protocol=choi-na)"}
    assert {row.n for row in results} == {1}


def test_relearn_time_and_index_share_what_models_learn_again(tmp_path):
    """A network that never knew the forgotten samples learns them once, for both measures and all methods."""
    configuration = small_experiment(unlearners=["GoldModel", {"class": "NegGrad", "parameters": {"epochs": 10}}, "Identity"])
    recipe = {"alpha": 0.0, "cap": 30, "target": "loss"}
    configuration["evaluator"]["measures"] = [{"class": name, "parameters": recipe} for name in ("RelearnTime", "AIN")]
    results = erasure.run(configuration, store=tmp_path / "store")
    times = {row.label: row.value for row in results if row.measure == "RelearnTime by loss"}
    assert {row.label: row.value for row in results if row.measure == "AIN by loss time"} == times
    kinds = [entry.kind for entry in Store(tmp_path / "store", read_only=True).entries()]
    learned = {row.label for row in results if row.measure == "RelearnTime by loss" and row.value}
    assert "gold" in learned and "NegGrad" in learned and times["original"] == 0
    # Gold, which GoldModel is too, its jury of one, and NegGrad.
    assert kinds.count("shared") == 3
