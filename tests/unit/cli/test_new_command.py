"""``erasure new``: what it writes is valid and runs; it asks, and it never overwrites by itself."""

import importlib.util
import io
import json
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest

from erasure.config import load
from erasure.experiment.configuration import load_experiment

ROWS = [(20 + i, 1.5 * (i % 7), ("red", "blue", "green")[i % 3], f"person {i}", ("ill", "well")[(i % 7) > 3]) for i in range(200)]


class Terminal(io.StringIO):
    """Standard input that somebody types at."""

    def isatty(self):
        return True


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def typed(monkeypatch):
    def answers(*lines):
        monkeypatch.setattr(sys, "stdin", Terminal("".join(f"{line}\n" for line in lines)))

    return answers


@pytest.fixture
def patients(here):
    lines = ["age,dose,colour,who,state", *(",".join(map(str, row)) for row in ROWS)]
    (here / "patients.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return "patients.csv"


def written(name="experiment.jsonc"):
    return load(name).root.plain()


def partitions(name="experiment.jsonc"):
    return [(p["class"], p["parameters"]) for p in written(name)["data"]["parameters"]["partitions"]]


def rows(out):
    return json.loads(out)["rows"]


@pytest.mark.parametrize("forget", ["10%", *(pytest.param(forget, marks=pytest.mark.nightly) for forget in ("class:3", "12"))])
def test_digits_run(cli, here, forget):
    assert cli("new", "--data", "digits", "--forget", forget, "--methods", "SSD", "--epochs", "1")[0] == 0
    code, out, err = cli("run", "experiment.jsonc", "--quiet", "--no-report", "--set", "evaluator.floor_repeats=0")
    assert code == 0, err
    assert all(name in out for name in ("GoldModel", "SSD", "Identity"))


def test_a_table_runs_with_text_as_categories_and_without_free_text(cli, patients):
    code, out, err = cli(
        "new", "p.jsonc", "--data", patients, "--label", "state", "--forget", "class:ill", "--epochs", "2", "--yes"
    )
    assert code == 0, err
    assert "erasure run p.jsonc" in out
    source = written("p.jsonc")["data"]["parameters"]["data_source"]["parameters"]
    assert source == {"path": patients, "label": "state", "features": ["age", "dose", "colour"], "categorical": ["colour"]}
    assert partitions("p.jsonc")[1][1]["labels"] == "ill"
    assert len(load_experiment("p.jsonc").unlearners) == 6
    code, out, err = cli("run", "p.jsonc", "--quiet", "--no-report", "--set", "evaluator.floor_repeats=0")
    assert code == 0, err
    assert "SalUn" in out


@pytest.mark.parametrize("cell", ["", "?", "NA"], ids=repr)
def test_missing_values_are_filled_and_rows_without_a_label_left_out(cli, here, cell):
    lines = [f"{i},{cell if i == 3 else i % 5},{i % 2}" for i in range(60)]
    (here / "t.csv").write_text("\n".join(["a,b,y", *lines]), encoding="utf-8")
    assert cli("new", "--data", "t.csv", "--label", "y", "--epochs", "1", "--methods", "SSD", "--yes")[0] == 0
    assert written()["data"]["parameters"]["data_source"]["parameters"]["missing"] == "impute"
    assert cli("run", "experiment.jsonc", "--quiet", "--no-report", "--set", "evaluator.floor_repeats=0")[0] == 0
    (here / "u.csv").write_text("\n".join(["a,b,y", *lines, f"1,1,{cell}"]), encoding="utf-8")
    assert cli("new", "u.jsonc", "--data", "u.csv", "--label", "y", "--epochs", "1", "--methods", "SSD", "--yes")[0] == 0
    assert written("u.jsonc")["data"]["parameters"]["data_source"]["parameters"]["missing"] == "drop"
    assert cli("run", "u.jsonc", "--quiet", "--no-report", "--set", "evaluator.floor_repeats=0")[0] == 0


def test_an_attack_is_left_out_where_there_are_too_few_samples_for_it(cli, here):
    for forget, has in (("9", False), ("10", True), ("class:0", True), ("1%", False), ("2%", True)):
        assert cli("new", "--data", "digits", "--forget", forget, "--yes", "--overwrite")[0] == 0
        assert ("UMIA" in written()["evaluator"]["parameters"]["measures"]) == has, forget


def test_classes_that_are_other_whole_numbers_are_named(cli, here):
    (here / "t.csv").write_text("\n".join(["a,y", *(f"{i},{5 + 2 * (i % 2)}" for i in range(60))]), encoding="utf-8")
    assert cli("new", "--data", "t.csv", "--label", "y", "--forget", "class:7", "--epochs", "1", "--yes")[0] == 0
    assert partitions()[1][1]["labels"] == "7"
    assert cli("run", "experiment.jsonc", "--quiet", "--no-report", "--set", "evaluator.floor_repeats=0")[0] == 0


def test_a_folder_of_pictures_runs(cli, here):
    image = pytest.importorskip("PIL.Image", reason="needs pillow")
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("needs the extra vision")
    for name in ("cats", "dogs"):
        (here / "pets" / name).mkdir(parents=True)
        for i in range(12):
            image.new("RGB", (40 + i, 30), (i * 20, 10, 200 if name == "cats" else 0)).save(here / "pets" / name / f"{i}.png")
    code, _, err = cli("new", "--data", "pets", "--forget", "class:cats", "--methods", "SSD", "--epochs", "1")
    assert code == 0, err
    code, out, err = cli("run", "experiment.jsonc", "--quiet", "--no-report", "--set", "evaluator.floor_repeats=0")
    assert code == 0, err
    assert "SSD" in out


def test_it_asks_for_everything(cli, patients, typed):
    typed("table", patients, "state", "share", "20%", "chosen", "NegGrad, SCRUB", "none", "3")
    code, _, err = cli("new")
    assert code == 0, err
    assert partitions()[1] == (
        "Percentage",
        {"parts_names": ["forget", "retain"], "ref_data": "train", "percentage": 0.2},
    )
    assert [e if isinstance(e, str) else e["class"] for e in written()["unlearners"]] == [
        "GoldModel",
        "NegGrad",
        "SCRUB",
        "Identity",
    ]
    assert written()["predictor"]["parameters"]["epochs"] == 3


def test_json_says_what_was_written_where(cli, here):
    code, out, _ = cli("new", "a/b.jsonc", "--data", "breast_cancer", "--yes", "--json")
    assert code == 0
    assert json.loads(out) == {"file": "a/b.jsonc", "name": "breast_cancer", "samples": 569, "classes": [0, 1]}
    assert (here / "a" / "b.jsonc").exists()


def test_enter_takes_the_defaults_which_are_those_of_yes(cli, here, typed):
    typed(*[""] * 5)
    assert cli("new", "asked.jsonc")[0] == 0
    assert cli("new", "told.jsonc", "--yes")[0] == 0
    assert written("asked.jsonc") == written("told.jsonc")


def test_an_answer_that_is_no_choice_is_asked_again(cli, here, typed):
    typed("words", "breast_cancer", "samples", "7", "recommended", "2")
    assert cli("new")[0] == 0
    assert partitions()[1][1]["n_samples"] == 7


def test_a_file_that_is_there_is_replaced_only_if_somebody_says_so(cli, here, typed):
    (here / "experiment.jsonc").write_text("mine")
    for arguments in ([], ["--yes"]):
        code, _, err = cli("new", "--data", "digits", *arguments)
        assert code == 2
        assert "--overwrite" in err
    typed("n")
    assert cli("new", "--data", "digits", "--forget", "5", "--methods", "SSD", "--epochs", "1")[0] == 2
    assert (here / "experiment.jsonc").read_text() == "mine"
    typed("y")
    assert cli("new", "--data", "digits", "--forget", "5", "--methods", "SSD", "--epochs", "1")[0] == 0
    assert written()["name"] == "digits"
    assert cli("new", "--data", "breast_cancer", "--yes", "--overwrite")[0] == 0
    assert written()["name"] == "breast_cancer"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no terminal to ask on"),
        (["--yes", "--data", "digit"], 'no data "digit"'),
        (["--yes", "--data", "patients.csv"], "Pass --label"),
        (["--yes", "--data", "patients.csv", "--label", "stat"], 'no column "stat"'),
        (["--yes", "--data", "patients.csv", "--label", "who"], "a label has few"),
        (["--yes", "--data", "patients.csv", "--label", "dose"], "fractions"),
        (["--yes", "--data", "patients.csv", "--label", "state", "--forget", "class:dead"], "there are ill, well"),
        (["--yes", "--data", "."], "one folder of pictures"),
        (["--yes", "--data", "digits", "--forget", "0%"], "forget one at least"),
        (["--yes", "--data", "digits", "--forget", "100%"], "not all"),
        (["--yes", "--data", "digits", "--forget", "898"], "between 1 and 897"),
        (["--yes", "--data", "digits", "--forget", "some"], "does not say what to forget"),
        (["--yes", "--data", "digits", "--methods", "Scrubb"], "SCRUB"),
        (["--yes", "--data", "digits", "--methods", "Cascade"], "needs steps"),
        (["--yes", "--data", "digits", "--methods", ","], "no method"),
        (["--yes", "--data", "digits", "--epochs", "0"], "--epochs"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_answers_are_refused_and_nothing_is_written(cli, patients, here, arguments, message):
    code, _, err = cli("new", *arguments)
    assert code == 2
    assert message in err
    assert [each.name for each in here.iterdir()] == [patients]


def complete(**variables):
    environment = os.environ | {"_ERASURE_COMPLETE": variables.pop("mode")} | variables
    code = "from erasure.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("mode", "word"), [("zsh_source", "compdef"), ("fish_source", "complete")])
def test_shells_get_a_script_for_completion(mode, word):
    assert word in complete(mode=mode).stdout


@pytest.mark.parametrize(("words", "expected"), [("erasure ne", "plain,new"), ("erasure new --fo", "plain,--forget")])
def test_completion_answers(words, expected):
    done = complete(mode="bash_complete", COMP_WORDS=words, COMP_CWORD=str(len(words.split()) - 1))
    assert expected in done.stdout.splitlines()


def test_answers_that_cannot_be_used_are_asked_for_again(cli, typed, patients):
    typed("patience", "table", "nobody.csv", patients, "state", "class:cured", "class:ill", "recommended", "0", "2")
    code, _, err = cli("new")
    assert code == 0, err
    assert all(
        said in err for said in ('no data "patience"', 'no data "nobody.csv"', 'no class "cured"', "a whole number, 1 or more")
    )
    assert partitions()[1][1]["labels"] == "ill"


def test_who_stops_answering_has_written_nothing(cli, typed, here):
    typed("digits")
    code, _, err = cli("new")
    assert code == 130
    assert "nothing was written" in err
    assert not (here / "experiment.jsonc").exists()


def made_and_run(cli, *arguments, name="experiment.jsonc"):
    """What ``new`` wrote: its source, after it has run; and what ``new`` said."""
    code, _, said = cli("new", name, *arguments, "--methods", "SSD", "--epochs", "1", "--yes", "--overwrite")
    assert code == 0, said
    code, _, err = cli("run", name, "--quiet", "--no-report", "--set", "evaluator.floor_repeats=0")
    assert code == 0, err
    return written(name)["data"]["parameters"]["data_source"], said


def test_row_numbers_are_left_out_and_what_is_written_runs(cli, here):
    lines = [f"{i},{i % 5},{i % 7 / 2},{('yes', 'no')[i % 2]}" for i in range(60)]
    (here / "t.csv").write_text("\n".join([",a,b,y", *lines]), encoding="utf-8")
    source, said = made_and_run(cli, "--data", "t.csv", "--label", "y")
    assert source["parameters"] == {"path": "t.csv", "label": "y", "features": ["a", "b"]}
    assert "numbers the rows" in said
    noted = [f"{line},a note on number {i}" for i, line in enumerate(lines)]
    (here / "t.csv").write_text("\n".join([",a,b,y,note", *noted]), encoding="utf-8")
    source, said = made_and_run(cli, "--data", "t.csv", "--label", "y")
    assert source["parameters"]["features"] == ["a", "b"]
    assert 'column "note" is left out: this is free text' in said


def test_a_column_without_a_name_that_does_not_number_the_rows_is_refused(cli, here):
    (here / "t.csv").write_text("\n".join(["a,,y", *(f"{i},{i % 3},{i % 2}" for i in range(60))]), encoding="utf-8")
    code, _, err = cli("new", "--data", "t.csv", "--label", "y", "--yes")
    assert code == 2
    assert "column 1 has no name" in err
    assert "index_column = 1" in err


def test_other_separators_are_seen(cli, here):
    (here / "t.csv").write_text("\n".join(["a;b;y", *(f"{i % 9};{i % 4};{i % 2}" for i in range(60))]), encoding="utf-8")
    assert made_and_run(cli, "--data", "t.csv", "--label", "y")[0]["parameters"]["separator"] == ";"


def test_decimal_commas_beside_semicolons_are_seen(cli, here):
    (here / "data.csv").write_text("a;b;y\n" + "".join(f"{i},5;{i % 7},25;{'no' if i % 2 else 'yes'}\n" for i in range(40)))
    assert cli("new", "--data", "data.csv", "--label", "y", "--yes")[0] == 0
    assert written()["data"]["parameters"]["data_source"]["parameters"] == {
        "path": "data.csv", "label": "y", "separator": ";", "decimal": ",",
    }  # fmt: skip


def test_numbers_that_are_written_otherwise_are_left_out_with_a_remedy(cli, here):
    lines = [f'{i % 9},"1,{100 + i}",{i % 2}' for i in range(60)]
    (here / "t.csv").write_text("\n".join(["a,pay,y", *lines]), encoding="utf-8")
    source, said = made_and_run(cli, "--data", "t.csv", "--label", "y")
    assert source["parameters"]["features"] == ["a"]
    assert "thousands" in said
    assert "RemoveCharacter" in said


def test_dates_that_repeat_are_no_categories(cli, here):
    lines = [f"2024-01-{1 + i % 5:02d},{'CO' if i % 3 else 'NC'}{'' if i % 2 else 'H'},{i % 9},{i % 2}" for i in range(60)]
    (here / "t.csv").write_text("\n".join(["day,state,a,y", *lines]), encoding="utf-8")
    code, _, err = cli("new", "c.jsonc", "--data", "t.csv", "--label", "y", "--yes")
    parameters = written("c.jsonc")["data"]["parameters"]["data_source"]["parameters"]
    assert (code, parameters["features"], parameters["categorical"]) == (0, ["state", "a"], ["state"])
    assert 'column "day" is left out: these are dates' in err


def test_a_table_of_hugging_face_keeps_its_numbers(cli, here):
    datasets = pytest.importorskip("datasets", reason="needs the extra text")
    columns = {"row": range(60), "city": ["Rome", "Bonn", "Oslo"] * 20, "name": [f"n{i}" for i in range(60)]}
    columns |= {"age": [20 + i % 40 for i in range(60)], "y": [i % 2 for i in range(60)]}
    datasets.Dataset.from_dict(columns).save_to_disk(str(here / "people"))
    code, _, err = cli("new", "c.jsonc", "--data", "people", "--label", "y", "--yes")
    assert code == 0
    assert '"columns": ["city", "age"]' in (here / "c.jsonc").read_text()
    assert "the columns row, name are left out: the inputs are a table of numbers and categories" in err


def test_texts_are_read_as_text(cli, here):
    pytest.importorskip("datasets", reason="needs the extra text")
    words = ("good", "fine", "bad", "poor")
    lines = [f"this film is {words[i % 4]} and number {i},{('up', 'down')[i % 4 > 1]}" for i in range(60)]
    (here / "films.csv").write_text("\n".join(["review,verdict", *lines]), encoding="utf-8")
    source, _ = made_and_run(cli, "--data", "films.csv", "--label", "verdict", "--forget", "class:up")
    assert source == {
        "class": "HuggingFace",
        "parameters": {"files": ["films.csv"], "columns": ["review"], "label": "verdict"},
    }
    assert written()["predictor"]["parameters"]["model"]["class"] == "SmallTransformer"


def test_molecules_in_a_table_of_ones_own_are_answered_by_what_reads_them(cli, here):
    lines = [f"{'C' * (1 + i)}(=O)N,{i % 2}" for i in range(60)]
    (here / "m.csv").write_text("\n".join(["smiles,active", *lines]), encoding="utf-8")
    code, _, err = cli("new", "--data", "m.csv", "--label", "active", "--yes")
    assert code == 2
    assert "MoleculeNet" in err


def test_a_file_of_molecule_net_becomes_graphs(cli, here):
    for package in ("rdkit", "torch_geometric"):
        pytest.importorskip(package, reason="needs the extra graph")
    folder = here / "sets" / "bbbp" / "raw"
    folder.mkdir(parents=True)
    lines = [f"{i},molecule {i},{i % 2},{'C' * (1 + i % 9)}{'NO'[i % 2]}" for i in range(40)]
    (folder / "BBBP.csv").write_text("\n".join(["num,name,p_np,smiles", *lines]) + "\n", encoding="utf-8")
    source, _ = made_and_run(cli, "--data", "sets/bbbp/raw/BBBP.csv")
    assert source == {"class": "MoleculeNet", "parameters": {"name": "bbbp", "root": "sets", "download": False}}


@pytest.mark.parametrize(
    ("shape", "model"), [((60, 12), "MLP"), ((60, 12, 12, 3), "CNN"), ((60, 12, 12), "CNN")], ids=["table", "colour", "grey"]
)
def test_named_tensors_run(cli, here, shape, model):
    generator = np.random.default_rng(0)
    x = generator.random(shape, dtype=np.float32) if len(shape) == 2 else generator.integers(0, 255, shape, dtype=np.uint8)
    np.savez(here / "t.npz", x=x, y=np.arange(60) % 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the run says again which axes were moved
        assert made_and_run(cli, "--data", "t.npz")[0] == {"class": "TensorFile", "parameters": {"path": "t.npz"}}
    chosen = written()["predictor"]["parameters"]["model"]
    assert (chosen if isinstance(chosen, str) else chosen["class"]) == model


def test_a_label_for_data_that_has_one_is_refused(cli, here):
    code, _, err = cli("new", "--yes", "--data", "digits", "--label", "digit")
    assert code == 2 and '--label "digit" has no effect' in err


@pytest.mark.parametrize("given", ["sets/RINGS", "sets/RINGS/raw"])
def test_a_folder_of_graphs_runs(cli, here, given):
    pytest.importorskip("torch_geometric", reason="needs the extra graph")
    folder = here / "sets" / "RINGS" / "raw"
    folder.mkdir(parents=True)
    edges, owners, n = [], [], 0
    for graph in range(40):
        size = 3 + graph % 3
        edges += [f"{n + k + 1}, {n + (k + 1) % size + 1}\n{n + (k + 1) % size + 1}, {n + k + 1}" for k in range(size)]
        owners += [str(graph + 1)] * size
        n += size
    files = {"A": edges, "graph_indicator": owners, "graph_labels": [str(graph % 2) for graph in range(40)]}
    for name, lines in files.items():
        (folder / f"RINGS_{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    parameters = {"name": "RINGS", "root": "sets", "download": False}
    assert made_and_run(cli, "--data", given)[0] == {"class": "TUDataset", "parameters": parameters}


def test_a_folder_of_hugging_face_runs(cli, here):
    datasets = pytest.importorskip("datasets", reason="needs the extra text")
    rows = {"text": [f"a line that is {('long', 'short')[i % 2]} {i}" for i in range(60)], "kind": [i % 2 for i in range(60)]}
    features = datasets.Features({"text": datasets.Value("string"), "kind": datasets.ClassLabel(names=["a", "b"])})
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(here / "lines"))
    source, _ = made_and_run(cli, "--data", "lines", "--label", "kind", "--forget", "class:b")
    assert source == {"class": "HuggingFace", "parameters": {"path": "lines", "label": "kind", "columns": ["text"]}}
