"""``erasure store``."""

import io
import json
import shutil
import tarfile

import pytest

from erasure.records.stages_file import read_stages, write_stages
from erasure.store import Store


@pytest.fixture
def copied(finished, tmp_path, monkeypatch):
    """The finished run in a directory of its own, to be changed."""
    shutil.copytree(finished, tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run")
    monkeypatch.delenv("ERASURE_STORE", raising=False)
    monkeypatch.delenv("ERASURE_STORE_BASE", raising=False)
    return tmp_path / "run"


def entries(cli, *arguments):
    code, out, _ = cli("store", "list", "--json", *arguments)
    assert code == 0
    return json.loads(out)


def damage(directory, address, name):
    path = directory / ".erasure" / "store" / "objects" / address[:2] / address / name
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def test_list_filters_by_kind_size_and_age(cli, copied):
    everything = entries(cli)
    kinds = {entry["kind"] for entry in everything}
    assert {"data", "split", "model", "unlearned", "outputs", "values", "verdict"} <= kinds
    assert {entry["kind"] for entry in entries(cli, "--kind", "model", "--kind", "data")} == {"model", "data"}
    limit = sorted(entry["size"] for entry in everything)[len(everything) // 2]
    assert len(entries(cli, "--larger", f"{limit}B")) + len(entries(cli, "--smaller", f"{limit}B")) == len(everything)
    assert entries(cli, "--older", "1d") == []
    assert entries(cli, "--newer", "1.5h") == everything


def test_list_is_a_line_an_object_with_a_total(cli, copied):
    _, out, _ = cli("store", "list", "--kind", "model")
    *lines, total = out.splitlines()
    assert total.startswith(f"{len(lines)} objects, ")
    assert all(" model " in line and line.endswith("train MLP") for line in lines)


def test_list_of_a_store_that_is_not_there_is_empty(cli, tmp_path, monkeypatch):
    assert cli("store", "list", "--store", tmp_path / "nowhere")[:2] == (0, "0 objects, 0 B\n")
    assert not (tmp_path / "nowhere").exists()


def test_show_says_what_an_object_holds(cli, copied):
    (split,) = entries(cli, "--kind", "split")
    model = entries(cli, "--kind", "unlearned")[0]
    code, out, _ = cli("store", "show", model["address"][:6])
    assert code == 0
    assert out.startswith(f"unlearned {model['address']}\n")
    assert "model.safetensors" in out
    assert 'signature: "unlearn Identity #' in out
    assert "as original" in out
    record = json.loads(cli("store", "show", split["address"], "--json")[1])
    assert record["kind"] == "split"
    assert set(record["files"]["order.json"]) == {"size", "sha256"}
    assert [item["kind"] for item in record["inputs"] if item["is_stored"]] == ["data"]


@pytest.mark.parametrize(
    ("address", "named"),
    [
        ("ffffff", "begins with"),
        ("abc", "at least its first six"),
        ("../../../etc", "is no address"),
        ("zzzzzz", "is no address"),
    ],
)
def test_what_names_no_object_is_bad_input(cli, copied, address, named):
    code, _, err = cli("store", "show", address)
    assert code == 2
    assert named in err


def test_a_prefix_of_two_objects_asks_for_more_digits(cli, copied):
    place = copied / ".erasure" / "store" / "objects" / "aa"
    for last in "01":
        (place / ("a" * 63 + last)).mkdir(parents=True)
        (place / ("a" * 63 + last) / "manifest.json").touch()
    code, _, err = cli("store", "show", "aaaaaaa")
    assert code == 2
    assert '2 objects begin with "aaaaaaa"; give more digits' in err


def test_verify_names_what_is_damaged_and_moves_it_if_asked(cli, copied):
    n = len(entries(cli))
    assert cli("store", "verify")[:2] == (0, f"{n} objects checked, 0 damaged\n")
    model = entries(cli, "--kind", "model")[0]["address"]
    damage(copied, model, "model.safetensors")
    code, out, err = cli("store", "verify")
    assert (code, out) == (1, f"{n} objects checked, 1 damaged\n")
    assert model in err
    assert "checksum" in err
    assert list(json.loads(cli("store", "verify", "--json")[1])["damaged"]) == [model]
    assert cli("store", "verify", entries(cli, "--kind", "data")[0]["address"][:8])[0] == 0
    code, out, _ = cli("store", "verify", "--quarantine")
    assert code == 1
    assert "quarantine" in out
    assert cli("store", "verify")[:2] == (0, f"{n - 1} objects checked, 0 damaged\n")


def test_prune_deletes_nothing_before_it_is_told_so(cli, copied):
    before = entries(cli)
    code, out, _ = cli("store", "prune", "--kind", "outputs")
    assert code == 0
    assert "nothing was deleted, add --yes" in out
    assert "nothing was deleted" in cli("store", "prune", "--kind", "outputs", "--yes", "--dry-run")[1]
    assert json.loads(cli("store", "prune", "--kind", "outputs", "--json")[1])["deleted"] == 0
    assert entries(cli) == before


def test_prune_without_a_condition_is_refused(cli, copied):
    code, _, err = cli("store", "prune", "--yes")
    assert code == 2
    assert "--unreferenced-by" in err
    assert entries(cli)


def test_a_pruned_store_is_filled_again_by_the_next_run(cli, copied):
    n = len(entries(cli, "--kind", "outputs"))
    _, out, _ = cli("store", "prune", "--kind", "outputs", "--yes")
    assert out.startswith(f"deleted {n} object")
    assert entries(cli, "--kind", "outputs") == []
    before = (copied / "runs" / "tiny" / "rows.parquet").read_bytes()
    assert cli("run", "--no-report", "config.jsonc", "--quiet")[0] == 0
    assert (copied / "runs" / "tiny" / "rows.parquet").read_bytes() == before
    cli("store", "prune", "--all", "--yes")
    assert entries(cli) == []
    assert cli("run", "--no-report", "config.jsonc", "--quiet")[0] == 0


def test_prune_spares_what_runs_use(cli, copied):
    store = Store(".erasure/store")
    used = [entry["address"] for entry in entries(cli) if entry["kind"] != "outputs"]
    run = copied / "runs" / "tiny"
    write_stages({address: f"stage {number}" for number, address in enumerate(used)}, run)
    assert list(read_stages(run)) == used
    cli("store", "prune", "--unreferenced-by", "runs/**", "--yes")
    assert sorted(used) == list(store.addresses())


@pytest.mark.parametrize("text", [None, "{", "[]", '{"stages": 3}'])
def test_prune_stops_where_a_run_does_not_say_what_it_uses(cli, copied, text):
    (copied / "runs" / "tiny" / "stages.json").unlink(missing_ok=True)
    if text is not None:
        (copied / "runs" / "tiny" / "stages.json").write_text(text)
    before = entries(cli)
    code, _, err = cli("store", "prune", "--unreferenced-by", "runs", "--yes")
    assert code == 1
    assert "stages.json" in err
    assert entries(cli) == before


def test_objects_go_to_another_store_and_serve_there(cli, copied, tmp_path):
    code, out, _ = cli("store", "export", tmp_path / "all.tar")
    assert code == 0
    assert out.startswith(f"{len(entries(cli))} objects in ")
    other = tmp_path / "other"
    code, out, _ = cli("store", "import", tmp_path / "all.tar", "--store", other)
    assert (code, out) == (0, f"{len(entries(cli))} objects taken in, 0 were there, 0 refused\n")
    assert cli("store", "verify", "--store", other)[0] == 0
    log = tmp_path / "log.jsonl"
    assert cli("run", "--no-report", "config.jsonc", "--quiet", "--store", other, "--log-json", log)[0] == 0
    finished = [json.loads(line) for line in log.read_text().splitlines()]
    assert all(event["cached"] for event in finished if event["event"] == "StageFinished")


def test_export_takes_what_is_named(cli, copied, tmp_path):
    models = [entry["address"] for entry in entries(cli, "--kind", "model")]
    cli("store", "export", tmp_path / "one.tar", models[0][:10])
    cli("store", "export", tmp_path / "kind.tar", "--kind", "model")
    cli("store", "import", tmp_path / "one.tar", "--store", tmp_path / "one")
    cli("store", "import", tmp_path / "kind.tar", "--store", tmp_path / "kind")
    assert list(Store(tmp_path / "one").addresses()) == models[:1]
    assert list(Store(tmp_path / "kind").addresses()) == models
    code, _, err = cli("store", "export", tmp_path / "none.tar", "--kind", "nothing")
    assert code == 2
    assert "nothing to export" in err


def test_a_damaged_file_is_refused_with_exit_code_1(cli, copied, tmp_path):
    path = tmp_path / "one.tar"
    cli("store", "export", path, "--kind", "data")
    data = path.read_bytes()
    place = data.index(b'"elapsed_s"')
    path.write_bytes(data[: place - 200] + bytes([data[place - 200] ^ 1]) + data[place - 199 :])
    code, out, err = cli("store", "import", path, "--store", tmp_path / "other")
    assert code == 1
    assert "corrupt" in err or "refused" in err
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo("../../evil\x1b[2J")
        member.size = 1
        tar.addfile(member, io.BytesIO(b"x"))
    code, out, err = cli("store", "import", path, "--store", tmp_path / "other")
    assert code == 1
    assert "nothing was taken" in err
    assert "\x1b" not in out + err
    code, out, err = cli("store", "import", tmp_path / "missing.tar", "--store", tmp_path / "other")
    assert code == 2
    assert "missing.tar' does not exist" in err


@pytest.mark.parametrize("arguments", [["--older", "soon"], ["--larger", "big"], ["--larger", "3 parsecs"]])
def test_amounts_that_are_none_are_bad_input(cli, copied, arguments):
    code, _, err = cli("store", "list", *arguments)
    assert code == 2
    assert "write for example" in err


def test_a_base_is_read_and_never_pruned(cli, copied, tmp_path, monkeypatch):
    monkeypatch.setenv("ERASURE_STORE_BASE", str(copied / ".erasure" / "store"))
    other = tmp_path / "other"
    assert len(entries(cli, "--store", other)) == len(entries(cli))
    assert "would delete 0 objects" in cli("store", "prune", "--all", "--yes", "--store", other)[1]
    assert entries(cli)


def test_the_former_name_works_with_a_notice(cli, tmp_path):
    code, out, err = cli("cache", "list", "--store", tmp_path / "nowhere")
    assert (code, out) == (0, "0 objects, 0 B\n")
    assert '"erasure cache" is now "erasure store"' in err
