"""Sources, splitters and steps of the catalogue against the suites that authors of others inherit."""

import json

import numpy as np
import pytest
import torch

from erasure.catalogue import BUILTINS
from erasure.config.slots import SLOTS
from erasure.data.corruption import Mislabel
from erasure.data.preprocess.values import Encode
from erasure.data.sources.scikit_learn import Sklearn
from erasure.registry.lookup import Registry
from erasure.testing.data import SourceConformance, SplitterConformance, StepConformance, toy_dataset

PARTS = {"parts_names": ("a", "b")}
SPLITTERS = {
    "Percentage": {"percentage": 0.3},
    "StratifiedPercentage": {"percentage": 0.3},
    "Class": {"labels": (1,)},
    "NSamples": {"n_samples": 20, "shuffle": True},
    "NSamplesOfClass": {"label": 1, "n_samples": 10},
    "List": {"samples_ids": (3, 1, 20)},
    "ByZ": {"z_labels": (2,)},
    "ZRange": {"z_labels": (1, 3)},
    "Concat": {"concat_splits": ("early", "late")},
    "Group": {"n_groups": 2},
    "Requests": {"n_requests": 3, "n_samples": 5},
}
DETERMINISTIC = {"Class", "List", "ByZ", "ZRange", "Concat"}
ELSEWHERE = {
    "splitter": {
        "Memorised",
        "MemorisedEdges",
        "Vulnerable",
        "Corrupted",
        "GraphNodes",
        "GraphEdges",
        "GraphRequests",
        "GraphStrangers",
        "GraphRequest",
        "LinkRequest",
        "Inductive",
        "SeenIn",
        "Affected",
    },
    "source": {
        "TorchVision",
        "HuggingFace",
        "ImageTable",
        "UCI",
        "TUDataset",
        "MoleculeNet",
        "Planetoid",
        "GraphDataset",
        "Links",
        "EdgeList",
        "GraphFile",
        "TOFU",
        "MUSE",
        "LUME",
    },
}
"""They need trained models, graphs, or files of a layout of their own; tests/unit/data tries them on those."""

SOURCES = {
    "Sklearn": lambda folder: {"name": "wine"},
    "SyntheticTable": lambda folder: {"n_samples": 30, "n_groups": 2},
    "SyntheticRatings": lambda folder: {"n_users": 20, "n_items": 6},
    "RatingsFile": lambda folder: {"path": str(_ratings(folder)), "min_items": 1, "min_users": 1},
    "SyntheticImages": lambda folder: {"n_samples": 12, "image_size": 6},
    "TensorFile": lambda folder: {"path": str(_arrays(folder))},
    "TableFile": lambda folder: {"path": str(_table(folder)), "label": "kind", "z": "who"},
    "PromptsAndAnswers": lambda folder: {"path": str(_questions(folder))},
    "PlainText": lambda folder: {"path": str(_text(folder)), "chunk_length": 8},
    "Poisoned": lambda folder: {"data_source": Sklearn(name="iris"), "corruption": Mislabel(percentage=0.1)},
    "Preprocessed": lambda folder: {"data_source": Sklearn(name="iris"), "steps": (Encode(y=True),)},
}


def _arrays(folder):
    np.savez(folder / "data.npz", x=np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32), y=np.arange(20) % 2)
    return folder / "data.npz"


def _table(folder):
    lines = [f"{i / 4},{'cat' if i % 3 else 'dog'},{i // 4}" for i in range(24)]
    (folder / "pets.csv").write_text("\n".join(["size,kind,who", *lines]))
    return folder / "pets.csv"


def _ratings(folder):
    path = folder / "ratings.csv"
    path.write_text("user,item\n" + "".join(f"u{k % 7},i{k % 5}\n" for k in range(30)), encoding="utf-8")
    return path


def _questions(folder):
    lines = [json.dumps({"prompt": f"Who wrote book {i}?", "answer": f"Writer {i} wrote it."}) for i in range(12)]
    (folder / "qa.jsonl").write_text("\n".join(lines))
    return folder / "qa.jsonl"


def _text(folder):
    (folder / "tale.txt").write_text("Once there was a model that could not forget. " * 20)
    return folder / "tale.txt"


def _cls(kind, name):
    return Registry().resolve(name, SLOTS[kind]()).cls


def _checks(suite):
    return [name for name in dir(suite) if name.startswith("test_")]


def _splitter_suite(name, **facts):
    component = _cls("splitter", name)(**(PARTS | SPLITTERS[name]))

    class Suite(SplitterConformance):
        stochastic = name not in DETERMINISTIC
        disjoint = name != "Requests"  # what is retained of each request

        def make(self):
            return component

        def partitions(self, data):
            ids = torch.arange(len(data))
            return {"all": ids, "early": ids[:15], "late": ids[10:30]}

    return type("Suite", (Suite,), facts)()


@pytest.mark.parametrize("check", _checks(SplitterConformance))
@pytest.mark.parametrize("name", SPLITTERS)
def test_a_splitter_keeps_to_the_contract(name, check):
    getattr(_splitter_suite(name), check)()


@pytest.mark.parametrize("check", _checks(SourceConformance))
@pytest.mark.parametrize("name", SOURCES)
def test_a_source_keeps_to_the_contract(name, check, tmp_path):
    parameters = SOURCES[name](tmp_path)

    class Suite(SourceConformance):
        def make(self):
            return _cls("source", name)(**parameters)

    getattr(Suite(), check)()


def test_every_source_and_splitter_is_here_or_tried_elsewhere():
    assert set(SPLITTERS) | ELSEWHERE["splitter"] == set(BUILTINS["splitter"])
    assert set(SOURCES) | ELSEWHERE["source"] == set(BUILTINS["source"])


# The suites find what they are there to find: one culprit for each check.


class CulpritSource(SourceConformance):
    def __init__(self, **faults):
        self.faults, self.state = faults, {"n": 0}

    def make(self):
        return _culprit_source(self.state, **self.faults)


def _culprit_source(state, **faults):
    source = Sklearn(name="iris")
    load, fingerprint = source.load, source.fingerprint

    def loading():
        state["n"] += 1
        data = load()
        if "labels" in faults:
            object.__setattr__(data, "y", data.y + 7)
        if "short" in faults:
            object.__setattr__(data, "y", data.y[:-1])
        if "shape" in faults:
            object.__setattr__(data, "x_shape", (99,))
        if "memory" in faults:
            object.__setattr__(data, "y", data.y.roll(state["n"]))
        if "random" in faults:
            np.random.rand()
        if "shared" in faults:
            object.__setattr__(data, "class_names", ("one",))
        return data

    object.__setattr__(source, "load", loading)
    object.__setattr__(source, "fingerprint", lambda: state["n"] if "fingerprint" in faults else fingerprint())
    return source


@pytest.mark.parametrize(
    ("fault", "check", "said"),
    [
        ("short", "test_columns_belong_together", "labels"),
        ("labels", "test_labels_are_what_the_task_says", "outside"),
        ("shared", "test_labels_are_what_the_task_says", "class names"),
        ("shape", "test_inputs_are_gathered_by_id_in_any_order", "x_shape"),
        ("memory", "test_equal_sources_have_one_address_and_yield_the_same_bytes", "different data"),
        ("fingerprint", "test_the_fingerprint_is_plain_json_and_loading_does_not_change_it", "fingerprint"),
        ("random", "test_no_global_generator_is_consumed", "numpy"),
    ],
)
def test_a_source_that_breaks_a_rule_fails_its_check(fault, check, said):
    getattr(CulpritSource(), check)()
    with pytest.raises(AssertionError, match=said):
        getattr(CulpritSource(**{fault: True}), check)()


class CulpritSplitter(SplitterConformance):
    def __init__(self, fault=""):
        self.fault = fault

    def make(self):
        splitter = _cls("splitter", "NSamples")(parts_names=("a", "b"), n_samples=20, shuffle=True)
        object.__setattr__(splitter, "split", lambda *given: self.wrong(type(splitter).split(splitter, *given), *given))
        return splitter

    def wrong(self, parts, data, partitions, generator):
        first, second = parts
        match self.fault:
            case "lost":
                return first[:-1], second
            case "doubled":
                return torch.cat([first, first[:1]]), second
            case "shared":
                return torch.cat([first, second[:1]]), second
            case "made up":
                return torch.cat([first, torch.tensor([10_000])]), second
            case "three":
                return first, second, second
            case "float":
                return first.double(), second
            case "random":
                order = np.random.permutation(len(first))
                return first[torch.from_numpy(order)], second
            case "changes":
                data.y[0] += 1
        return parts


@pytest.mark.parametrize(
    ("fault", "check", "said"),
    [
        ("three", "test_there_are_as_many_parts_as_names_each_of_whole_numbers", "3 parts"),
        ("float", "test_there_are_as_many_parts_as_names_each_of_whole_numbers", "int64"),
        ("lost", "test_no_sample_is_lost_doubled_or_made_up", "no part"),
        ("doubled", "test_no_sample_is_lost_doubled_or_made_up", "twice"),
        ("shared", "test_no_sample_is_lost_doubled_or_made_up", "share"),
        ("made up", "test_no_sample_is_lost_doubled_or_made_up", "does not have"),
        ("random", "test_the_same_seed_gives_the_same_parts_in_the_same_order", "differ"),
        ("random", "test_no_global_generator_is_consumed", "numpy"),
        ("changes", "test_data_and_partitions_stay_as_they_are", "changed"),
    ],
)
def test_a_splitter_that_breaks_a_rule_fails_its_check(fault, check, said):
    getattr(CulpritSplitter(), check)()
    with pytest.raises(AssertionError, match=said):
        getattr(CulpritSplitter(fault), check)()


def test_a_wrong_claim_about_randomness_is_noticed():
    with pytest.raises(AssertionError, match="stochastic is False"):
        _splitter_suite("NSamples", stochastic=False).test_the_seed_matters_exactly_if_the_splitter_is_stochastic()
    with pytest.raises(AssertionError, match="stochastic is True"):
        _splitter_suite("Class", stochastic=True).test_the_seed_matters_exactly_if_the_splitter_is_stochastic()


class CulpritStep(StepConformance):
    def __init__(self, fault=""):
        self.fault = fault

    def make(self):
        step = _cls("step", "Add")(add=1, x=True, columns="size")
        apply = step.apply

        def wrong(samples):
            match self.fault:
                case "changes":
                    samples.x["size"].values[0] += 1
                case "random":
                    torch.rand(1)
                case "short":
                    return apply(samples).mapped("y", lambda _, column: type(column)(column.values[:-1]))
                case "memory":
                    shift = np.random.default_rng().normal()
                    return apply(samples).mapped("x", lambda _, column: type(column)(column.values + shift), ["size"])
            return apply(samples)

        object.__setattr__(step, "apply", wrong)
        return step


@pytest.mark.parametrize(
    ("fault", "check", "said"),
    [
        ("changes", "test_the_given_samples_are_not_changed", "changed"),
        ("memory", "test_the_same_samples_become_the_same", "second time"),
        ("short", "test_labels_and_groups_stay_with_their_inputs", "lengths"),
        ("random", "test_no_global_generator_is_consumed", "torch"),
    ],
)
def test_a_step_that_breaks_a_rule_fails_its_check(fault, check, said):
    getattr(CulpritStep(), check)()
    with pytest.raises(AssertionError, match=said):
        getattr(CulpritStep(fault), check)()


def test_the_toy_has_every_class_and_several_groups():
    data = toy_dataset()
    assert data.y.unique().tolist() == [0, 1, 2]
    assert len(data.z.unique()) > 2
