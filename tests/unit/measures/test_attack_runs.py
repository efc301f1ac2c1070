"""Every attack with shadow models in one run of an experiment, with the engine's own bank."""

import pytest

from erasure.experiment.configuration import load_experiment
from erasure.workflows.options import RunOptions
from erasure.workflows.run import make_plan, run_experiment

_PATH = "erasure.measures.attacks"
MEASURES = [
    {"class": f"{_PATH}.lira.LiRA", "parameters": {"n_shadows": 16}},
    {"class": f"{_PATH}.lira.LiRA", "parameters": {"n_shadows": 16, "top": 0.3}},
    {"class": f"{_PATH}.lira.ULiRA", "parameters": {"n_shadows": 16}},
    {"class": f"{_PATH}.rmia.RMIA", "parameters": {"n_shadows": 16}},
    {"class": f"{_PATH}.ruli.RULI", "parameters": {"n_shadows": 36}},
    {"class": f"{_PATH}.ruli.RULIEfficacy", "parameters": {"n_shadows": 36}},
    {"class": f"{_PATH}.shokri.ShokriAttack", "parameters": {"n_shadows": 16}},
    {"class": f"{_PATH}.shokri.ForgettingRate", "parameters": {"n_shadows": 16}},
]
ATTACKS = ["LiRA", "LiRA top 0.3", "U-LiRA", "RMIA", "RULI", "RULI vulnerable", "RULI efficacy", "Shokri"]


def _experiment(measures=MEASURES):
    return load_experiment(
        {
            "data": {
                "data_source": {
                    "class": "SyntheticTable",
                    "parameters": {"n_samples": 300, "n_features": 30, "n_classes": 3, "separation": 2.0, "label_noise": 0.3},
                },
                "partitions": [
                    {"class": "Percentage", "parameters": {"parts_names": ["train", "test"], "percentage": 0.6}},
                    {
                        "class": "Percentage",
                        "parameters": {"parts_names": ["forget", "retain"], "ref_data": "train", "percentage": 0.4},
                    },
                ],
            },
            "predictor": {
                "model": {"class": "MLP", "parameters": {"hidden_sizes": [32]}},
                "epochs": 30,
                "optimizer": {"class": "Adam", "parameters": {"lr": 0.01}},
            },
            "unlearners": ["GoldModel", "Identity"],
            "evaluator": {"measures": list(measures)},
            "globals": {"seed": 3},
        }
    )


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    found = run_experiment(_experiment(), RunOptions(store=tmp_path_factory.mktemp("attacks") / "store"))
    assert not found.failures, found.failures
    return {(row.label or row.model_role, row.measure): row for row in found.rows}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_planted_leak_is_found_and_retraining_passes(rows, attack):
    leak, gold = rows["Identity", f"{attack} AUC"], rows["GoldModel", f"{attack} AUC"]
    assert leak.low > 0.5
    assert gold.low <= 0.55
    assert gold.value < leak.value


def test_u_lira_of_a_method_that_does_nothing_is_lira(rows):
    for name in ("AUC", "balanced accuracy", "TPR at 1% FPR"):
        assert rows["Identity", f"U-LiRA {name}"].value == rows["Identity", f"LiRA {name}"].value
        assert rows["original", f"U-LiRA {name}"].value == rows["original", f"LiRA {name}"].value


def test_the_forgetting_rate_tells_gold_from_doing_nothing(rows):
    assert rows["Identity", "Forgetting rate"].value == 0.0
    assert rows["GoldModel", "Forgetting rate"].value > 0.1


def test_the_plan_trains_each_shadow_model_once():
    def shadows(measures):
        stages = make_plan(_experiment(measures), RunOptions()).stages.values()
        return sum(len(s.block.requests) for s in stages if s.name.startswith("train shadows"))

    lira = shadows(MEASURES[:1])
    assert shadows([*MEASURES[:2], MEASURES[3], *MEASURES[6:]]) == lira == 16
