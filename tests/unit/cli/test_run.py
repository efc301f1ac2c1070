"""``erasure run``: output, exit codes, options."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from erasure.cli.options import parse_seeds
from erasure.cli.run_command import directory_name

DIVERGING = {"class": "NegGrad", "parameters": {"epochs": 30, "optimizer": {"class": "SGD", "parameters": {"lr": 1e30}}}}


def test_results_go_to_a_directory_of_the_configurations_name(finished):
    assert sorted(path.name for path in (finished / "runs" / "tiny").iterdir()) == [
        "report.html",
        "report.json",
        "rows.csv",
        "rows.json",
        "rows.parquet",
        "stages.json",
        "summary.json",
        "table.md",
        "verdicts.json",
    ]
    assert (finished / ".erasure" / "store" / "FORMAT").is_file()


def test_a_sound_run_prints_its_table_and_where_the_results_are(cli, in_finished, tmp_path):
    code, out, err = cli("run", "config.jsonc", "--output", tmp_path / "out")
    assert code == 0
    assert "accuracy forget" in out
    assert "changed nothing" in out
    assert f"results in {tmp_path / 'out'}" in out
    assert all(line.startswith("warning: ") for line in err.splitlines())


def test_json_is_all_there_is_on_stdout(cli, in_finished, tmp_path):
    code, out, err = cli("run", "config.jsonc", "--output", tmp_path / "out", "--json", "--no-report")
    assert code == 0
    assert json.loads(out) == json.loads((tmp_path / "out" / "rows.json").read_text())
    assert "results in" in err


def test_notices_are_said_unless_it_is_to_be_quiet(cli, in_finished, tmp_path):
    options = ("--set", "globals={}", "--output", tmp_path / "out")
    assert "note: " in cli("run", "--no-report", "config.jsonc", *options)[2]
    code, out, err = cli("run", "--no-report", "config.jsonc", *options, "--quiet")
    assert (code, err) == (0, "")
    assert "accuracy" in out


def test_an_override_changes_the_run(cli, in_finished, tmp_path):
    options = ("--set", 'name="other"', "--set", "unlearners=[]", "--output", tmp_path, "--no-report")
    code, out, _ = cli("run", "config.jsonc", *options, "--json")
    assert code == 0
    assert {(row["experiment"], row["model_role"]) for row in json.loads(out)} == {("other", "original"), ("other", "gold")}


def test_several_seeds_give_intervals(cli, write_config, tmp_path):
    code, out, _ = cli("run", "--no-report", write_config(), "--seeds", "0-1,0", "--store", tmp_path / "store", "--json")
    rows = json.loads(out)
    assert code == 0
    assert len({row["seed_train"] for row in rows}) == 2
    assert all(row["n"] == 2 and row["low"] <= row["value"] <= row["high"] for row in rows if row["label"] == "original")


def test_a_failed_method_makes_exit_code_1_and_names_its_cause_once(cli, write_config, tiny, tmp_path):
    code, out, err = cli("run", "--no-report", write_config(tiny(unlearners=["Identity", DIVERGING])), "--quiet")
    assert code == 1
    assert "NegGrad" in out
    assert err.count("failed: ") == 1
    assert "failed: unlearn NegGrad: the weights have run away" in err
    assert "more could not run or failed alike" in err
    rows = json.loads((tmp_path / "runs" / "tiny" / "rows.json").read_text())
    by_label = {row["label"]: row for row in rows}
    assert by_label["NegGrad"]["status"] == "failed"
    assert (by_label["NegGrad"]["measure"], by_label["NegGrad"]["partition"]) == ("accuracy", "forget")
    assert by_label["Identity"]["status"] == "no-op"


def test_a_directory_that_is_no_store_is_refused(cli, write_config, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("precious")
    code, _, err = cli("run", write_config(), "--store", "mine")
    assert code == 1
    assert "is not empty and not a store" in err
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["thesis.tex"]


def test_a_device_that_is_not_there_is_refused(cli, write_config):
    code, _, err = cli("run", write_config(), "--device", "tpu")
    assert code == 2
    assert "auto, cpu, cuda" in err


def test_one_seed_or_several_but_not_both(cli, write_config):
    code, _, err = cli("run", write_config(), "--seed", 1, "--seeds", "2")
    assert code == 2
    assert "not both" in err


@pytest.mark.parametrize(
    ("text", "seeds"), [("3", (3,)), ("0,1,2", (0, 1, 2)), ("0-4", (0, 1, 2, 3, 4)), ("5, 1-2,1", (5, 1, 2)), (None, None)]
)
def test_seeds_are_numbers_and_ranges(text, seeds):
    assert parse_seeds(None, None, text) == seeds


@pytest.mark.parametrize("text", ["", "a", "-1", "3-1", "1,,2", "0-99999999", "1.5", "٣", "²"])
def test_other_seeds_are_refused(cli, write_config, text):
    code, _, err = cli("run", write_config(), "--seeds", text)
    assert code == 2
    assert "seed" in err


@pytest.mark.parametrize(
    ("name", "directory"),
    [("a b", "a_b"), ("../../etc", "_.._etc"), ("..", "experiment"), ("/x", "_x"), ("a\x1b[2J\n", "a__2J_"), ("é-1.2", "é-1.2")],
)
def test_a_name_becomes_one_harmless_directory(name, directory):
    assert directory_name(name) == directory


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_ctrl_c_leaves_a_store_from_which_the_run_goes_on(cli, write_config, tiny, tmp_path):
    configuration = tiny()
    configuration["predictor"]["epochs"] = 30
    file = write_config(configuration)
    long = ["--set", 'unlearners=[{"class": "Finetuning", "parameters": {"epochs": 100000}}]']
    process = subprocess.Popen(
        [sys.executable, "-m", "erasure", "run", file, *long],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        manifests = tmp_path.glob(".erasure/store/objects/??/*/manifest.json")
        if sum(json.loads(manifest.read_text())["kind"] == "model" for manifest in manifests) == 2:
            break
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    assert err.splitlines()[-1] == "interrupted; rerun the same command to resume"
    assert "Traceback" not in err
    stages = json.loads(cli("plan", file, "--json")[1])["stages"]
    assert [stage["cached"] for stage in stages if stage["kind"] == "model"] == [True, True]
    assert cli("run", "--no-report", file)[0] == 0


@pytest.mark.parametrize("place", ["config.jsonc", "config.jsonc/below", "file/below/it"])
@pytest.mark.parametrize("command", [("run",), ("sweep",), ("tune", "--method", "Finetuning")])
def test_a_place_that_cannot_be_written_is_found_first(cli, write_config, tiny, tmp_path, command, place):
    config = write_config(tiny(unlearners=["Finetuning"]) | {"sweep": {"over": {"predictor.epochs": [1, 2]}}})
    (tmp_path / "file").touch()
    name, *options = command
    code, _, err = cli(name, config, *options, "--store", tmp_path / "store", "--output", tmp_path / place)
    assert code == 1
    assert "--output" in err
    assert not (tmp_path / "store").exists()  # nothing was computed
    assert (tmp_path / "file").read_bytes() == b""


def test_another_experiments_results_are_not_overwritten(cli, in_finished, tiny, tmp_path):
    mine, other = tmp_path / "mine", tmp_path / "other.jsonc"
    assert cli("run", "config.jsonc", "--output", mine, "--no-report")[0] == 0
    before = {path.name: path.read_bytes() for path in mine.iterdir() if path.is_file()}
    other.write_text(json.dumps(tiny(name="other") | {"sweep": {"over": {"predictor.epochs": [1, 2]}}}))
    for command in ("run", "sweep"):
        code, _, err = cli(command, other, "--store", tmp_path / "store", "--output", mine)
        assert code == 1
        assert '"tiny"' in err
        assert "--output" in err
    assert {path.name: path.read_bytes() for path in mine.iterdir() if path.is_file()} == before
    assert not (tmp_path / "store").exists()


def test_the_same_experiment_may_be_run_again_and_other_settings_are_said(cli, in_finished, tmp_path):
    mine = tmp_path / "mine"
    for _ in range(2):
        code, _, err = cli("run", "config.jsonc", "--output", mine, "--no-report")
        assert code == 0
        assert "other settings" not in err
    code, _, err = cli("run", "config.jsonc", "--output", mine, "--set", "predictor.epochs=2", "--no-report")
    assert code == 0
    assert "other settings" in err


def test_a_run_does_not_go_where_a_sweep_is(cli, write_config, tiny, tmp_path):
    config = write_config(tiny() | {"sweep": {"over": {"predictor.epochs": [1]}}})
    for _ in range(2):
        assert cli("sweep", config, "--output", tmp_path / "out", "--no-report")[0] == 0
    code, _, err = cli("run", config, "--output", tmp_path / "out")
    assert code == 1
    assert "sweep" in err
