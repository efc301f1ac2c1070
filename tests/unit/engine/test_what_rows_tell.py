from erasure.experiment.configuration import load_experiment
from erasure.workflows.options import RunOptions
from erasure.workflows.run import run_experiment

SPLITS = [("train", "test", None, 0.7), ("forget", "retain", "train", 0.1)]
CONFIGURATION = {
    "data": {
        "data_source": {"class": "Sklearn", "parameters": {"name": "breast_cancer"}},
        "partitions": [
            {
                "class": "Percentage",
                "parameters": {"parts_names": [first, second], "percentage": share} | ({"ref_data": of} if of else {}),
            }
            for first, second, of, share in SPLITS
        ],
    },
    "predictor": {"model": {"class": "MLP", "parameters": {"hidden_sizes": [8]}}, "epochs": 1},
    "unlearners": ["Identity"],
    "evaluator": {"measures": ["telling_measures.Zeta", "telling_measures.Eta"]},
    "globals": {"seed": 0},
}


def test_rows_say_what_a_value_says_of_itself_else_what_its_measure_says_else_its_direction(tmp_path):
    results = run_experiment(load_experiment(CONFIGURATION, trust=["telling_measures"]), RunOptions(store=tmp_path / "store"))
    assert not results.failures, results.failures
    told = {row.measure: (row.indicates, row.chance_level) for row in results.rows if row.model_role == "unlearned"}
    assert told == {
        "Zeta": ("attack", 0.5),
        "rate": ("attack", 0.01),
        "planted": ("trace", None),
        "nothing": ("", None),
        "gain": ("knowledge", None),
        "loss": ("ignorance", None),
        "neither": ("", None),
        "distance": ("", None),
    }
