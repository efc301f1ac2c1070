"""Everything that the published format allows: snippets, comments, strings for booleans, notes, propagation."""

import json
from pathlib import Path

import pytest
import upstream_vocabulary as vocabulary

from erasure.cli import _run
from erasure.errors import ConfigError
from erasure.experiment.configuration import load_experiment

STYLE = Path(__file__).parents[2] / "configs" / "upstream_style"
COMPLETE = sorted(path.name for path in STYLE.glob("*.jsonc"))
SNIPPETS = sorted(path.name for path in (STYLE / "snippets").iterdir())
IDENTITY = {"class": f"{vocabulary.UNLEARN}composite.Identity", "parameters": {}}
GOLD = {"class": f"{vocabulary.UNLEARN}GoldModel.GoldModel", "parameters": {"training_set": "retain"}}


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Writes files below a new working directory; gives the path of the last one."""
    monkeypatch.chdir(tmp_path)

    def write(**contents):
        for name, content in contents.items():
            path = tmp_path / f"{name.replace('__', '/')}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def labels(path):
    return [entry.label for entry in load_experiment(path).unlearners]


def messages(path):
    return [notice.message for notice in load_experiment(path).notices]


# The files that come with the project


@pytest.mark.parametrize("name", COMPLETE)
def test_a_complete_file_is_valid_from_anywhere(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = load_experiment(STYLE / name)
    assert len(experiment.unlearners) == 14
    assert len({entry.label for entry in experiment.unlearners}) == 14
    assert list(tmp_path.iterdir()) == []


def test_there_are_files_for_images_texts_tables_and_graphs():
    assert COMPLETE == ["adult.jsonc", "ag_news.jsonc", "bace.jsonc", "bbbp.jsonc", "fashion_mnist.jsonc"]


@pytest.mark.parametrize("name", SNIPPETS)
def test_a_snippet_is_used_by_a_complete_file(name):
    used = "".join(path.read_text() for path in [*STYLE.glob("*.jsonc"), *(STYLE / "snippets").iterdir()])
    assert name in used


@pytest.mark.parametrize("name", COMPLETE)
def test_a_complete_file_names_no_class_of_ours(name):
    places = load_experiment(STYLE / name).places
    assert all("." in place.name for _, place in places if place.name)


# Snippets


def test_a_snippet_may_be_relative_to_the_working_directory(files):
    written = vocabulary.experiment()
    written["unlearners"] = [{"compose_idt": "configs/snippets/u_id.json"}, {"compose_gold": "configs/snippets/u_gold.json"}]
    path = files(configs__snippets__u_id=IDENTITY, configs__snippets__u_gold=GOLD, configs__deep__main=written)
    assert labels(path) == ["Identity", "GoldModel"]


def test_the_keys_of_a_snippet_join_at_the_top(files):
    written = vocabulary.experiment()
    evaluator, data = written.pop("evaluator"), written.pop("data")
    path = files(
        eval={"evaluator": evaluator},
        data={"data": data},
        main=written | {"compose_eval": "eval.json", "compose_data": "data.json"},
    )
    assert load_experiment(path).canonical() == load_experiment(vocabulary.experiment()).canonical()


def test_a_snippet_may_be_a_list_of_nodes_and_compose_others(files):
    written = vocabulary.experiment() | {"unlearners": [{"compose_all": "methods.json"}]}
    path = files(
        identity=IDENTITY,
        methods=[{"compose_one": "more.json"}, GOLD],
        more={"compose": "identity.json"},
        main=written,
    )
    assert labels(path) == ["Identity", "GoldModel"]


def test_a_snippet_may_stand_for_a_parameter(files):
    written = vocabulary.experiment()
    written["predictor"]["parameters"]["model"] = {"compose_model": "model.json"}
    network = {"class": f"{vocabulary.MODEL}classifiers.standard_classifier.AdultNN", "parameters": {"n_layers": 2}}
    path = files(model=network, main=written)
    assert load_experiment(path).predictor.model.hidden_sizes == (100, 100)


def test_snippets_that_compose_each_other_are_found_out(files):
    written = vocabulary.experiment() | {"unlearners": [{"compose_a": "a.json"}]}
    path = files(a={"compose_b": "b.json"}, b={"compose_a": "a.json"}, main=written)
    with pytest.raises(ConfigError, match=r"cycle: .*main\.json → .*a\.json → .*b\.json → .*a\.json"):
        load_experiment(path)


@pytest.mark.parametrize("written", [IDENTITY, [IDENTITY, GOLD]])
def test_a_snippet_on_its_own_is_no_experiment_and_says_how_it_is_used(files, capsys, written):
    path = files(main=written)
    assert _run(["validate", str(path)]) == 2
    said = capsys.readouterr().err
    assert f"a part of one ({written[0]['class'] if isinstance(written, list) else written['class']}" in said
    assert f'{{"compose_part": "{path}"}}' in said


# Text


def test_comments_and_trailing_commas_are_no_part_of_a_file(files):
    text = json.dumps(vocabulary.experiment(), indent=1)
    text = "// first\n/* second\n */" + text.replace('"seed": 0', '"seed": 0, // last,').replace("{}", "{ /* none */ }")
    assert load_experiment(files(main=text)).canonical() == load_experiment(vocabulary.experiment()).canonical()


@pytest.mark.parametrize(("written", "meant"), [("true", True), ("false", False), ("True", True), (False, False)])
def test_booleans_may_be_strings(written, meant):
    configuration = vocabulary.experiment()
    configuration["globals"]["cached"] = written
    configuration["data"]["parameters"]["partitions"][1]["parameters"]["shuffle"] = written
    experiment = load_experiment(configuration)
    assert experiment.globals.cached is meant
    assert experiment.data.partitions[1].shuffle is meant


def test_a_seed_that_is_not_given_is_0_and_that_is_said(files):
    written = vocabulary.experiment()
    del written["globals"]["seed"]
    path = files(main=written)
    assert load_experiment(path).globals.seed == 0
    assert "globals.seed is not set; 0 is used" in messages(path)


# Notes


def test_notes_of_people_are_ignored_and_said(files):
    written = vocabulary.experiment()
    written["COMMENT"] = "a note"
    written["predictor"]["parameters"]["optimizer_Commented"] = {"class": "torch.optim.SGD"}
    written["unlearners"] = [IDENTITY | {"comment": "a note", "tried": 3}, {"COMMENT": "nothing but a note"}]
    attack = {"forget_part": "forget", "attack_model_commented": {"class": "nowhere"}}
    written["evaluator"]["parameters"]["measures"].append({"class": f"{vocabulary.EVAL}MIA.umia.Attack", "parameters": attack})
    path = files(main=written)
    assert labels(path) == ["Identity"]
    said = messages(path)
    for note in ("COMMENT", "comment", "optimizer_Commented", "attack_model_commented"):
        assert f'"{note}" is a note and is ignored' in said
    assert any('"tried" beside class and parameters is ignored' in message for message in said)


# Propagation


def test_parameters_are_given_to_every_named_section():
    written = vocabulary.experiment()
    methods = [f"{vocabulary.UNLEARN}{name}" for name in ("Finetuning.Finetuning", "NegGrad.NegGrad")]
    written["unlearners"] = [{"class": name, "parameters": {}} for name in methods]
    written["unlearners"][1]["parameters"]["epochs"] = 7
    written["experiment"] = {
        "parameters": {
            "propagate": [{"in_sections": ["unlearners/parameters"], "params": {"epochs": 3, "optimizer": vocabulary.ADAM}}]
        }
    }
    first, second = (entry.unlearner for entry in load_experiment(written).unlearners)
    assert (first.epochs, second.epochs) == (3, 7)
    assert first.optimizer == second.optimizer


def test_what_a_rule_means_for_others_changes_nothing_where_upstream_does_not_read_it():
    written = vocabulary.experiment()
    names = ("Scrub.Scrub", "FisherForgetting.FisherForgetting")
    written["unlearners"] = [{"class": f"{vocabulary.UNLEARN}{name}", "parameters": {}} for name in names]
    measures = [
        {"class": f"{vocabulary.EVAL}measures.{name}"} for name in ("AIN", "RelearnTime", "ForgetSetInfo", "PartitionInfo")
    ]
    written["evaluator"]["parameters"]["measures"] = measures
    plain = load_experiment(written)
    sections = ["unlearners/parameters", "evaluator/parameters/measures/parameters"]
    rule = {"in_sections": sections, "params": {"alpha": 0.25, "partition": "test"}}
    written["experiment"] = {"parameters": {"propagate": [rule]}}
    found = load_experiment(written)
    (scrub, fisher), (ain, relearning, size, named) = [each.unlearner for each in found.unlearners], found.evaluator.measures
    assert (fisher.alpha, ain.alpha) == (0.25, 0.25)
    assert scrub == plain.unlearners[0].unlearner
    assert (relearning, size, named.partition) == (*plain.evaluator.measures[1:3], "test")
    assert any(each.message == '"alpha" has no effect: SCRUB does not read it' for each in found.notices)
    written["unlearners"][0]["parameters"]["alpha"] = 0.75  # written there it is meant
    found = load_experiment(written)
    assert found.unlearners[0].unlearner.alpha == 0.75
    assert any(each.message == '"alpha" is SCRUB\'s own: upstream does not read it there' for each in found.notices)


# Partitions of an attack's own


def attacked(**parameters):
    written = vocabulary.experiment()
    attack = {"class": f"{vocabulary.EVAL}MIA.lira.Attack", "parameters": parameters}
    written["evaluator"]["parameters"]["measures"].append(attack)
    return written


def cut(kind, *names, **parameters):
    return {"class": f"{vocabulary.SPLIT}{kind}", "parameters": {"parts_names": names, **parameters}}


FEW = cut("NSamples", "few", "-", n_samples=3, ref_data="half")
HALF = cut("Percentage", "half", "retain", percentage=0.5, ref_data="forget")
UNUSED = cut("Percentage", "shadow_data", "-", percentage=1.0, ref_data="forget")


def test_a_partition_that_an_attack_cuts_for_itself_joins_the_data():
    experiment = load_experiment(attacked(forget_part="few", shadows={"n_shadows": 4, "dataset_preproc": [UNUSED, HALF, FEW]}))
    # What the data has already stays as it is, and what nobody names is not cut.
    assert [splitter.parts for splitter in experiment.data.partitions[3:]] == [("half", "-"), ("few", "-")]
    assert any('"few" is cut by a splitter of this node' in notice.message for notice in experiment.notices)
    plain = load_experiment(attacked(forget_part="forget", shadows={"n_shadows": 4, "dataset_preproc": [UNUSED, HALF, FEW]}))
    assert len(plain.data.partitions) == 3


def test_an_attacks_own_data_section_may_cut_what_the_data_has():
    section = {"class": "erasure.data.datasets.DatasetManager.DatasetManager", "parameters": {"partitions": [HALF, FEW]}}
    experiment = load_experiment(attacked(forget_part="few", attack_in_data=section))
    assert [splitter.parts for splitter in experiment.data.partitions[3:]] == [("half", "-"), ("few", "-")]


def test_what_is_cut_from_other_data_is_refused_with_the_reason():
    other = cut("Percentage", "few", "-", percentage=0.5, ref_data="all")
    section = {"class": "erasure.data.datasets.DatasetManager.DatasetManager", "parameters": {"partitions": [other]}}
    with pytest.raises(ConfigError, match='"few" is cut from data that this node names for itself, which are not read'):
        load_experiment(attacked(forget_part="few", attack_in_data=section))
    with pytest.raises(ConfigError, match='there is no partition "nowhere"'):
        load_experiment(attacked(forget_part="nowhere", shadows={"n_shadows": 4, "dataset_preproc": [FEW]}))


def test_two_attacks_may_not_mean_different_samples_by_one_name():
    written = attacked(forget_part="few", shadows={"n_shadows": 4, "dataset_preproc": [HALF, FEW]})
    measures = written["evaluator"]["parameters"]["measures"]
    measures.append(json.loads(json.dumps(measures[-1])))
    assert len(load_experiment(written).data.partitions) == 5
    measures[-1]["parameters"]["shadows"]["dataset_preproc"][1]["parameters"]["n_samples"] = 7
    with pytest.raises(ConfigError, match='"few" is cut in two ways by two nodes'):
        load_experiment(written)


def test_partitions_may_come_from_a_snippet(files):
    written = vocabulary.experiment()
    cuts = written["data"]["parameters"]["partitions"]
    meant = load_experiment(written).data.partitions
    for snippet in (cuts[1:], {"partitions": cuts[1:]}):
        composed = json.loads(json.dumps(written))
        composed["data"]["parameters"]["partitions"] = [cuts[0], {"compose_cuts": "cuts.json"}]
        assert load_experiment(files(cuts=snippet, main=composed)).data.partitions == meant


# Habits of the published files


def test_all_samples_may_be_shuffled_first():
    experiment = load_experiment(vocabulary.experiment())
    assert experiment.data.partitions[0].parts_names == ("all_shuffled", "-")
    assert experiment.data.partitions[0].percentage == 1


def test_preprocess_may_be_empty_at_a_source_or_inside_its_data_set():
    written = vocabulary.experiment()
    path = f"{vocabulary.DATA}TorchGeometricDataSource.TorchGeometricDataSource"
    inner = vocabulary.SOURCES[path]["datasource"]
    written["data"]["parameters"]["DataSource"] = {
        "class": path, "parameters": {"datasource": inner | {"preprocess": []}, "preprocess": []},
    }  # fmt: skip
    assert type(load_experiment(written).data.data_source).__name__ == "GraphDataset"


def test_the_same_method_with_three_rates_is_three_methods():
    written = vocabulary.experiment()
    written["unlearners"] = [
        {
            "class": f"{vocabulary.UNLEARN}Finetuning.Finetuning",
            "parameters": {"epochs": 1, "optimizer": {"class": "torch.optim.Adam", "parameters": {"lr": rate}}},
        }
        for rate in (0.001, 0.0001, 0.00001)
    ]
    found = [entry.label for entry in load_experiment(written).unlearners]
    assert found == ["Finetuning (lr=0.001)", "Finetuning (lr=0.0001)", "Finetuning (lr=1e-05)"]
