"""``erasure validate``, ``plan`` and ``show``."""

import json

import pytest

from erasure.cli.run_command import command as run_command
from erasure.cli.validate_command import command as command_
from erasure.records.rows import RESULT_FIELDS


def test_a_valid_configuration_is_called_valid(cli, write_config):
    code, out, _ = cli("validate", write_config())
    assert code == 0
    assert "config.jsonc is valid: 1 unlearner (Identity), 1 measure" in out


def test_validating_loads_no_data_and_makes_no_store(cli, write_config, tmp_path):
    cli("validate", write_config())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.jsonc"]


def test_notices_say_how_it_was_understood(cli, write_config, tiny):
    configuration = tiny(globals={}, _remark={})
    code, out, _ = cli("validate", write_config(configuration))
    assert code == 0
    assert "globals.seed is not set; 0 is used" in out
    assert 'section "_remark" is ignored' in out


def test_explain_says_what_each_name_stands_for(cli, write_config, tiny):
    upstream = {"class": "erasure.unlearners.Scrub.Scrub", "parameters": {"T": 3, "COMMENT": "a note"}}
    out = cli("validate", write_config(tiny(unlearners=[upstream])), "--explain")[1]
    assert 'unlearners[0]: "erasure.unlearners.Scrub.Scrub" is erasure.unlearners.scrub:Scrub' in out
    assert '"temperature": 3' in out
    assert "COMMENT" in out


def test_problems_as_json_have_their_places(cli, write_config, tiny):
    configuration = tiny(unlearners=["Identty"])
    configuration["predictor"]["epochs"] = -1
    code, out, _ = cli("validate", write_config(configuration), "--json")
    verdict = json.loads(out)
    assert code == 2
    assert verdict["valid"] is False
    assert [set(problem) for problem in verdict["problems"]] == [
        {"message", "path", "file", "line", "column", "hint", "kind"}
    ] * 2
    epochs, unlearner = verdict["problems"]
    assert (epochs["path"], epochs["kind"], epochs["file"]) == ("predictor.epochs", "parameter", "config.jsonc")
    assert unlearner["hint"] == 'did you mean "Identity"?'
    assert 0 < epochs["line"] < unlearner["line"]


def test_a_valid_configuration_as_json_has_its_notices(cli, write_config, tiny):
    code, out, _ = cli("validate", write_config(tiny(globals={})), "--json", "--explain")
    verdict = json.loads(out)
    assert code == 0
    assert (verdict["valid"], verdict["problems"]) == (True, [])
    assert [notice["path"] for notice in verdict["notices"]] == ["globals.seed"]
    assert {"path", "name", "class", "file", "line", "column"} == set(verdict["names"][0])
    assert verdict["experiment"]["globals"]["parameters"]["seed"] == 0


def test_an_override_is_validated_too(cli, write_config):
    code, _, err = cli("validate", write_config(), "--set", "predictor.epochs=many")
    assert code == 2
    assert "--set:1:" in err
    assert cli("validate", "config.jsonc", "--set", "predictor.epochs=3")[0] == 0


def test_what_can_be_run_can_be_validated():
    """Every option of ``run`` is one of ``validate``."""
    names = {name: {option.name for option in command.params} for name, command in (("run", run_command), ("validate", command_))}
    assert names["run"] <= names["validate"]


def test_options_leave_the_answer_as_it_is(cli, write_config, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    config = write_config()
    plain = cli("validate", config)
    options = (
        "--seeds",
        "0-2",
        "--device",
        "cpu",
        "--store",
        tmp_path / "store",
        "--output",
        tmp_path / "a" / "b",
        "--no-report",
    )
    for _ in range(2):  # the second time from memory
        assert cli("validate", config, *options) == plain
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", config]
    assert len(list((tmp_path / "cache" / "erasure" / "validated").iterdir())) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--seed", "1", "--seeds", "0-2"), "not both"),
        (("--device", "cuda:99"), "cuda"),
        (("--tracker", "mlfow"), "mlflow"),
        (("--output", "config.jsonc/results"), "config.jsonc/results"),
        (("--log-json", "config.jsonc/log"), "--log-json"),
        (("--store", "."), "store"),
    ],
)
def test_options_that_run_would_refuse_are_refused(cli, write_config, options, said):
    code, _, err = cli("validate", write_config(), *options)
    assert code == cli("run", "config.jsonc", *options)[0] > 0
    assert said in err


def test_a_hostile_label_does_not_steer_the_terminal(cli, write_config, tiny):
    label = "\x1b[2J[/red]\r\n"
    file = write_config(tiny(unlearners=[{"class": "Identity", "label": label}, "\x1b[1mNothing"]))
    assert "\x1b" not in "".join(cli("validate", file)[1:])
    file = write_config(tiny(unlearners=[{"class": "Identity", "label": label}]))
    for arguments in (["validate", file, "--explain"], ["plan", file], ["run", file], ["show", "runs/tiny", "--rows"]):
        code, out, err = cli(*arguments)
        assert code == 0
        assert "\x1b" not in out + err
        assert "[2J[/red]" in out


def test_a_module_beside_the_configuration_needs_trust(cli, write_config, tiny, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)  # undone after the test, with what --trust adds
    (tmp_path / "my_trusted_nets.py").write_text(
        "import torch\n\nclass Net(torch.nn.Linear):\n    def __init__(self):\n        super().__init__(4, 3)\n", encoding="utf-8"
    )
    configuration = tiny()
    configuration["predictor"]["model"] = "my_trusted_nets.Net"
    code, _, err = cli("validate", write_config(configuration))
    assert code == 2
    assert "--trust my_trusted_nets" in err
    assert cli("validate", "config.jsonc", "--trust", "my_trusted_nets")[0] == 0


def test_a_plan_before_the_first_run_knows_no_times(cli, write_config, tmp_path):
    code, out, _ = cli("plan", write_config(), "--store", tmp_path / "store")
    assert code == 0
    assert "train original" in out
    assert "unlearn Identity" in out
    assert " 0 cached; " in out
    assert "take an unknown time" in out
    assert not (tmp_path / "store").exists()


def test_a_plan_after_the_run_is_cached(cli, in_finished):
    planned = json.loads(cli("plan", "config.jsonc", "--json")[1])
    assert all(stage["cached"] for stage in planned["stages"])
    assert planned["total"]["cached"] == planned["total"]["stages"] == len(planned["stages"])
    assert planned["total"]["estimated_s"] == 0


def test_a_plan_estimates_from_earlier_stages_of_the_same_kind(cli, in_finished):
    planned = json.loads(cli("plan", "config.jsonc", "--seed", 1, "--json")[1])
    missing = [stage for stage in planned["stages"] if not stage["cached"]]
    assert {"model", "unlearned", "outputs", "values"} <= {stage["kind"] for stage in missing}
    assert all(stage["estimated_s"] > 0 for stage in missing)
    assert planned["total"]["without_estimate"] == 0
    assert planned["total"]["estimated_s"] == pytest.approx(sum(stage["estimated_s"] for stage in missing))
    addresses = [stage["address"] for stage in planned["stages"]]
    for number, stage in enumerate(planned["stages"]):
        assert set(stage["requires"]) <= set(addresses[:number])


def test_a_method_that_never_ran_has_no_estimate(cli, in_finished):
    out = cli("plan", "config.jsonc", "--set", 'unlearners=["NegGrad"]')[1]
    line = next(line for line in out.splitlines() if line.startswith("unlearn NegGrad"))
    assert line.split()[-2] == "?"
    assert "at least 0.0 s" not in out
    assert next(line for line in out.splitlines() if line.startswith("train original")).split()[-2] == "cached"


def test_show_prints_the_table_of_an_earlier_run(cli, in_finished):
    code, out, _ = cli("show", "runs/tiny")
    assert code == 0
    assert "accuracy forget" in out
    assert "Identity" in out
    assert "changed nothing" in out


def test_show_filters_rows(cli, in_finished):
    rows = json.loads(cli("show", "runs/tiny", "--label", "identity", "--json")[1])
    assert [row["label"] for row in rows] == ["Identity"]
    assert list(rows[0]) == list(RESULT_FIELDS)
    assert json.loads(cli("show", "runs/tiny", "--measure", "nothing", "--json")[1]) == []
    lines = cli("show", "runs/tiny", "--rows", "--measure", "ACCURACY")[1].splitlines()
    assert len(lines) == 3
    assert all("accuracy forget" in line for line in lines)
    assert "no-op" in lines[-1]


def test_show_of_no_run_points_at_the_runs_there_are(cli, in_finished):
    code, _, err = cli("show", "runs/tny")
    assert code == 2
    assert 'did you mean "runs/tiny"?' in err
    assert "runs/tiny" in cli("show", "elsewhere")[2]


def test_show_of_damaged_results_is_refused(cli, tmp_path):
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 this is not a table")
    code, _, err = cli("show", tmp_path)
    assert code == 1
    assert "rows.parquet" in err
