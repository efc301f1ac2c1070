"""Experiments on graphs and on the nodes of a graph, through the public door."""

import warnings

import pytest

import erasure
from erasure.errors import ConfigError
from erasure.experiment.configuration import load_experiment
from erasure.records.run_folder import RunFolder
from erasure.workflows.options import RunOptions
from erasure.workflows.run import make_plan, run_experiment

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    pytest.importorskip("torch_geometric")

from graph_files import cora_root, tu_root

SOURCES = "erasure.data.sources.geometric"
GNN = "erasure.models.graph.GNN"


def accuracies(*partitions):
    return [{"class": "Accuracy", "parameters": {"partition": name}} for name in partitions]


def mutag(**changes):
    """188 molecules, a small GIN, the methods of the core."""
    configuration = {
        "name": "mutag",
        "data": {
            "data_source": {
                "class": f"{SOURCES}.TUDataset",
                "parameters": {"name": "MUTAG", "root": tu_root(), "download": False},
            },
            "partitions": [
                {"class": "StratifiedPercentage", "parameters": {"parts_names": ["train", "test"], "percentage": 0.75}},
                {
                    "class": "Percentage",
                    "parameters": {"parts_names": ["forget", "retain"], "ref_data": "train", "percentage": 0.15},
                },
            ],
        },
        "predictor": {
            "model": {"class": GNN, "parameters": {"conv": "gin", "hidden": 32}},
            "optimizer": {"class": "Adam", "parameters": {"lr": 0.003}},
            "epochs": 30,
        },
        "unlearners": [
            "GoldModel",
            {"class": "Finetuning", "parameters": {"epochs": 2}},
            {"class": "SCRUB", "parameters": {"epochs": 2}},
            "SSD",
            {"class": "SalUn", "parameters": {"epochs": 2}},
            {"class": "FisherForgetting", "parameters": {"max_samples": 50}},
            {"class": "BadTeaching", "parameters": {"epochs": 2}},
            "Identity",
        ],
        "evaluator": {"measures": [*accuracies("forget", "retain", "test"), "UMIA"], "floor_repeats": 0},
        "globals": {"seed": 0},
    }
    return configuration | changes


def cora(root, forgets, **changes):
    """140 training nodes of the public split, of which 14 are forgotten; batches hold all of them."""
    configuration = {
        "name": "cora",
        "data": {
            "data_source": {
                "class": f"{SOURCES}.Planetoid",
                "parameters": {"name": "Cora", "root": root, "forgets": forgets, "download": False},
            },
            "partitions": [
                {"class": "ByZ", "parameters": {"parts_names": ["train", "others"], "z_labels": "train"}},
                {"class": "ByZ", "parameters": {"parts_names": ["test", "-"], "ref_data": "others", "z_labels": "test"}},
                {
                    "class": "Percentage",
                    "parameters": {"parts_names": ["forget", "retain"], "ref_data": "train", "percentage": 0.1},
                },
            ],
            "batch_size": 256,
        },
        "predictor": {
            "model": {
                "class": GNN,
                "parameters": {"conv": "gcn", "layers": 2, "dense_layers": 0, "batch_norm": False, "dropout": 0.5},
            },
            "optimizer": {"class": "Adam", "parameters": {"lr": 0.01, "weight_decay": 5e-4}},
            "epochs": 40,
        },
        "unlearners": [
            "GoldModel",
            *({"class": name, "parameters": {"epochs": 1}} for name in ("Finetuning", "SCRUB", "SalUn")),
            "SSD",
        ],
        "evaluator": {"measures": accuracies("forget", "retain", "test"), "floor_repeats": 0},
        "globals": {"seed": 0},
    }
    return configuration | changes


def values(results, partition):
    """Accuracy of each model on a partition, by its label."""
    return {row.label: row.value for row in results.rows if (row.measure, row.partition) == ("accuracy", partition)}


def test_the_methods_of_the_core_run_on_graphs(tmp_path):
    results = erasure.run(mutag(), store=tmp_path / "store", device="cpu")
    assert not results.failures
    found, seen = values(results, "test"), values(results, "retain")
    assert {"original", "gold", "Finetuning", "SCRUB", "SSD", "SalUn", "FisherForgetting", "BadTeaching"} <= set(found)
    assert min(seen["original"], seen["gold"]) > 125 / 188  # the larger class
    assert found["Identity"] == found["original"]
    attacked = [row for row in results.rows if row.measure == "UMIA"]
    assert attacked
    assert all(row.value is not None for row in attacked)


def test_a_second_run_reads_the_graphs_from_the_store(tmp_path):
    configuration = mutag(unlearners=["GoldModel", "Identity"], evaluator={"measures": accuracies("forget")})
    configuration["predictor"] |= {"epochs": 2}
    first, second = (erasure.run(configuration, store=tmp_path / "store", device="cpu") for _ in range(2))
    assert values(first, "forget") == values(second, "forget")
    assert len(list((tmp_path / "store").rglob("*columns*"))) == 1


def test_methods_that_change_inputs_refuse_graphs_before_anything_is_trained(tmp_path):
    configuration = mutag(unlearners=["GoldModel", "UNSIR", "BoundaryShrink"])
    with pytest.raises(ConfigError) as refused:
        erasure.run(configuration, store=tmp_path / "store", device="cpu")
    problems = refused.value.problems
    assert [problem.path for problem in problems] == [f"unlearners[{i}]" for i in (1, 2)]
    assert all("graph" in problem.message for problem in problems)
    assert all(problem.kind == "requirement" for problem in problems)


@pytest.mark.parametrize("forgets", ["node", pytest.param("label", marks=pytest.mark.nightly)])
def test_nodes_are_forgotten_from_a_graph(tmp_path, forgets):
    results = erasure.run(cora(cora_root(tmp_path), forgets), store=tmp_path / "store", device="cpu")
    assert not results.failures
    found = values(results, "test")
    assert set(found) >= {"original", "gold", "Finetuning", "SCRUB", "SalUn", "SSD"}
    assert min(found["original"], found["gold"]) > 0.5  # of seven classes; the largest has three tenths
    assert min(values(results, "retain").values()) > 0.3


REQUESTS = {
    "nodes": [
        {"class": "GraphNodes", "parameters": {"parts_names": ["gone", "-"], "ref_data": "train", "percentage": 0.1}},
        {"class": "GraphRequest", "parameters": {"nodes": "gone"}},
    ],
    "edges": [
        {"class": "GraphEdges", "parameters": {"parts_names": ["gone", "kept"], "ref_data": "train", "percentage": 0.1}},
        {"class": "GraphRequest", "parameters": {"edges": "gone"}},
        {"class": "SeenIn", "parameters": {"parts_names": ["nodes_after", "-"], "graph": "after"}},
    ],
    "features": [
        {"class": "GraphNodes", "parameters": {"parts_names": ["gone", "-"], "ref_data": "train", "percentage": 0.1}},
        {"class": "GraphRequest", "parameters": {"features_of": "gone"}},
    ],
}


def request(root, kind, **changes):
    """The public split of Cora with a request; the last partition is the test set with what is forgotten put back."""
    configuration = cora(root, "request")
    configuration["data"]["partitions"][2:] = [
        *REQUESTS[kind],
        {"class": "SeenIn", "parameters": {"parts_names": ["forget_alone", "-"], "ref_data": "forget", "graph": "alone"}},
        {"class": "SeenIn", "parameters": {"parts_names": ["put_back", "-"], "ref_data": "test", "graph": "before"}},
    ]
    configuration["unlearners"] = [
        "GoldModel",
        "Unlink",
        {"class": "GIF", "parameters": {"weight_decay": 5e-4, "tolerance": 0.01}},
        {"class": "Finetuning", "parameters": {"epochs": 1}},
    ]
    configuration["predictor"]["epochs"] = 20
    configuration["evaluator"] = {"measures": accuracies("forget", "retain", "test", "put_back"), "floor_repeats": 0}
    return configuration | changes


@pytest.mark.parametrize(
    "kind",
    ["edges", *(pytest.param(kind, marks=pytest.mark.nightly) for kind in ("nodes", "features"))],  # by day their files run
)
def test_requests_to_forget_something_of_a_graph(tmp_path, kind):
    configuration = request(cora_root(tmp_path), kind)
    if kind == "edges":
        names = {"forgotten": "gone", "kept": "kept"}
        attacks = [{"class": name, "parameters": names} for name in ("EdgeMembership", "DeletedEdgeAUC")]
        attacks.append({"class": "EdgeLiRA", "parameters": {"forgotten": "gone", "n_shadows": 4}})
        strangers = {"parts_names": ["strangers", "-"], "ref_data": "retain", "n": 30}
        configuration["data"]["partitions"].append({"class": "GraphStrangers", "parameters": strangers})
        configuration["evaluator"]["measures"] += attacks
    options = RunOptions(store=tmp_path / "store", device="cpu", output=tmp_path / "out", report=False)
    results = run_experiment(load_experiment(configuration), options)
    assert not results.failures
    # What is measured on the edges themselves is tested like what is measured on the nodes at their ends.
    assert RunFolder.load(tmp_path / "out").partitions("forget") == {"forget", "gone", "forget_alone"}
    if kind == "edges":  # neighbours are alike, whether or not the network has known of the edge
        leaks = {row.label: row.value for row in results.rows if row.measure == "EdgeMembership cosine"}
        assert min(leaks["original"], leaks["gold"]) > 0.6
        tests = {row.label: row.value for row in results.rows if row.measure == "EdgeLiRA AUC"}
        assert set(tests) >= {"original", "gold", "GIF"}
    found = values(results, "test")
    assert set(found) >= {"original", "gold", "Unlink", "GIF", "Finetuning"}
    assert min(found["original"], found["gold"]) > 0.5
    assert found["GoldModel"] == found["gold"]
    assert found["Unlink"] == found["original"]
    outputs = {row.label: row.value for row in results.rows if (row.measure, row.partition) == ("accuracy", "put_back")}
    assert any(outputs[label] != found[label] for label in found)  # the same test nodes on another graph


def test_a_stream_of_requests_has_a_gold_for_each(tmp_path):
    """Nodes, then features, while the test nodes arrive after the training; both golds are models of their own."""
    configuration = request(cora_root(tmp_path), "nodes")
    configuration["data"]["partitions"][2:] = [
        {"class": "Inductive"},
        {"class": "GraphRequests", "parameters": {"requests": ["nodes", "features"], "percentage": 0.1}},
    ]
    method = {"class": "GIF", "parameters": {"damping": 0.1, "tolerance": 0.1}}
    last = {"forget": "forget 2", "retain": "retain 2"}
    stream = {"method": method, "requests": ["forget 1", "forget 2"], "remaining": ["retain 1", "retain 2"], **last}
    configuration["unlearners"] = [
        {"class": "Unlink", "parameters": {"forget": "forget 1", "retain": "retain 1"}},
        {"class": "Sequential", "parameters": stream},
    ]
    configuration["predictor"]["epochs"] = 5
    configuration["evaluator"]["measures"] = accuracies("retain 2", "retain 1", "test")
    results = erasure.run(configuration, store=tmp_path / "store", device="cpu")
    assert not results.failures
    golds = {row.gold for row in results.rows if row.partition == "retain 1"}
    assert len(golds) == 2
    plans = [make_plan(load_experiment(configuration), RunOptions(device="cpu"))]
    configuration["data"]["partitions"].pop(2)
    plans.append(make_plan(load_experiment(configuration), RunOptions(device="cpu")))
    inductive, transductive = (
        {address for address, stage in plan.stages.items() if stage.name == "train original"} for plan in plans
    )
    assert not inductive & transductive  # they are trained on other graphs


def test_two_requests_share_an_original_and_nothing_after_it(tmp_path):
    """Edges of another seed leave the original as it is; gold, methods and what is measured on the graph after are others."""
    plans = []
    for stratum in ("random", "high-degree"):
        configuration = request(cora_root(tmp_path / stratum), "edges")
        configuration["data"]["partitions"][2]["parameters"]["stratum"] = stratum
        plans.append(make_plan(load_experiment(configuration), RunOptions(device="cpu")))
    kinds = [{address: stage.name for address, stage in plan.stages.items()} for plan in plans]
    shared = {name for address, name in kinds[0].items() if address in kinds[1]}
    assert {"load data", "train original"} <= shared
    assert shared <= {"load data", "train original", "unlearn Unlink"}


def test_measures_of_samples_refuse_a_partition_of_edges(tmp_path):
    configuration = request(cora_root(tmp_path), "edges", evaluator={"measures": accuracies("gone")})
    with pytest.raises(ConfigError, match='"gone" is a partition of edges'):
        erasure.run(configuration, store=tmp_path / "store", device="cpu")


def test_shadows_that_would_need_a_request_of_their_own_are_refused(tmp_path):
    configuration = request(cora_root(tmp_path), "nodes", evaluator={"measures": ["U-LiRA"]})
    with pytest.raises(ConfigError, match="would need a request of its own"):
        erasure.run(configuration, store=tmp_path / "store", device="cpu")


def test_training_on_a_few_neighbours(tmp_path):
    """A recipe draws neighbours for the original and gold; what cannot be trained so is refused before anything is."""
    configuration = request(cora_root(tmp_path), "nodes")
    configuration["data"]["batch_size"] = 64
    configuration["predictor"] |= {"epochs": 12, "neighbours": [5, 3]}
    configuration["unlearners"] = ["GoldModel", "Unlink"]
    results = erasure.run(configuration, store=tmp_path / "store", device="cpu")
    assert not results.failures
    found = values(results, "retain")
    assert min(found["original"], found["gold"]) > 0.5
    assert found["GoldModel"] == found["gold"]
    configuration["predictor"]["model"]["parameters"]["conv"] = "gin"
    with pytest.raises(ConfigError, match='a GNN whose conv is "gcn" or "sage"'):
        erasure.run(configuration, store=tmp_path / "store", device="cpu")


def test_rows_of_a_graph_are_unlearned_exactly(tmp_path):
    """Ridge on propagated features: exact deletion of edges predicts as the model that is fitted to the graph after."""
    configuration = request(cora_root(tmp_path), "edges")
    configuration["data"]["data_source"]["parameters"]["propagate"] = 2
    configuration["predictor"] = {"model": "Ridge"}
    configuration["unlearners"] = ["GoldModel", "Unlink", "ExactDeletion"]
    configuration["evaluator"] = {"measures": [*accuracies("test"), "JSDivergence"], "floor_repeats": 0}
    results = erasure.run(configuration, store=tmp_path / "store", device="cpu")
    assert not results.failures
    found = values(results, "test")
    assert found["ExactDeletion"] == found["gold"] > 0.5
    distances = {row.label: row.value for row in results.rows if row.measure == "JSDivergence"}
    assert distances["ExactDeletion"] < 1e-9 < distances["Unlink"]
