"""Models that splitters train are stages: in the plan, in the store, made once."""

import torch

from erasure.data.partitions import build_partitions
from erasure.engine.executors import serial
from erasure.experiment.configuration import load_experiment
from erasure.stages.session import Session
from erasure.store import Store
from erasure.workflows.options import RunOptions
from erasure.workflows.run import make_plan

RECIPE = {"model": "LogisticRegression", "epochs": 2, "optimizer": {"class": "SGD", "parameters": {"lr": 0.1}}}


def ranked(names, source, **parameters):
    options = {"predictor": RECIPE, "population": "train", "seed": 3, "n_models": 4, **parameters}
    return {"class": "Vulnerable", "parameters": {"parts_names": names, "ref_data": source, **options}}


def planned(tmp_path, *splitters):
    split = {"class": "Percentage", "parameters": {"parts_names": ["train", "test"], "percentage": 0.8}}
    configuration = {
        "data": {"data_source": {"class": "Synthetic", "parameters": {"n_samples": 60}}, "partitions": [split, *splitters]},
        "predictor": RECIPE,
        "unlearners": [],
        "evaluator": {"measures": []},
    }
    return make_plan(load_experiment(configuration), RunOptions(store=tmp_path))


def test_splitters_of_one_ranking_share_a_stage_and_the_split_reads_its_scores(tmp_path, monkeypatch):
    plan = planned(
        tmp_path, ranked(["forget", "kept"], "train", n_samples=5), ranked(["safe", "retain"], "kept", n_samples=5, order="least")
    )
    scored = [stage for stage in plan.stages.values() if stage.kind == "scores"]
    assert [stage.name for stage in scored] == ["score samples for forget and kept"]
    session = Session(Store(tmp_path), torch.device("cpu"), plan.numerics)
    prepared = {where: stage for where, stage in plan.stages.items() if stage.prepares}
    assert serial.execute(prepared, session) == {}
    found = session.loaded(plan.data[0]).partitions
    dataset = session.dataset(plan.data[0].data_address)
    expected = build_partitions(dataset, plan.data[0].splitters, plan.data[0].seed)
    assert {name: ids.tolist() for name, ids in found.items()} == {name: ids.tolist() for name, ids in expected.items()}


def test_other_cuts_of_a_ranking_find_its_scores_in_the_store(tmp_path):
    plans = [planned(tmp_path, ranked(["forget", "retain"], "train", n_samples=n)) for n in (5, 9)]
    first, second = ([stage for stage in plan.stages.values() if stage.kind == "scores"] for plan in plans)
    assert [stage.address for stage in first] == [stage.address for stage in second]
    assert plans[0].data[0].split_address != plans[1].data[0].split_address
    assert first[0].address in plans[1].stages[plans[1].data[0].split_address].requires


def test_scores_follow_every_partition_that_they_depend_on(tmp_path):
    def scored(share):
        some = {"class": "Percentage", "parameters": {"parts_names": ["some", "-"], "ref_data": "train", "percentage": share}}
        edges = {"class": "GraphEdges", "parameters": {"parts_names": ["edges", "-"], "stratum": "all"}}
        options = {"predictor": RECIPE, "n_samples": 2, "train": "some"}
        hard = {"class": "MemorisedEdges", "parameters": {"parts_names": ["hard", "-"], "ref_data": "edges", **options}}
        return [stage.address for stage in planned(tmp_path, some, edges, hard).stages.values() if stage.kind == "scores"]

    assert scored(0.5) == scored(0.5) != scored(0.4)
