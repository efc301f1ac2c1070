"""Runs as the local page lists them, also those that did not end well, and pages that stay inert whatever they are fed."""

import hashlib
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from report_rows import method, references, row
from ui_run import SIZES, make_run

from erasure.analysis.overview import overview_of
from erasure.errors import ConfigError, StoreError
from erasure.records.rows import write_rows
from erasure.reports.templating import template_text
from erasure.store import Store
from erasure.ui import Library, Site
from erasure.ui import library as library_module
from erasure.ui.server import PAGE_POLICY

pytest.importorskip("vl_convert", reason="the extra report is not installed")
pytest.importorskip("jinja2", reason="the extra report is not installed")

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'><svg onload=alert(3)>{{7*7}}"
ROUTES = ["", "run", "overlay", "data/runs.json", "data/predictions.json", "data/embedding.json", "data/attack.json"]


class Tags(HTMLParser):
    """Start tags with their attributes, and all text."""

    def __init__(self, body):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(body.decode())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def site_of(tmp_path):
    return Site(Library(tmp_path / "runs"), Store(tmp_path / "store", read_only=True))


def tree(folder):
    """Every path below a folder with its bytes and its time."""
    found = {}
    for path in sorted(folder.rglob("*")):
        facts = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[path.relative_to(folder).as_posix()] = (facts.st_mode, facts.st_mtime_ns, facts.st_size, content)
    return found


def test_a_run_is_listed_with_its_verdicts(tmp_path):
    make_run(tmp_path / "runs" / "one", tmp_path / "store")
    (run,) = Library(tmp_path / "runs").runs()
    assert (run.name, run.title, run.state, run.experiment, run.data) == ("one", "one", "finished", "made up", "toys")
    assert run.methods == ("bad", "good")
    assert [(v.label, v.title) for v in run.verdicts] == [("good", "not told apart"), ("bad", "damaged")]
    assert run.date == "2026-01-01T00:00:00+00:00"
    assert run.n_seeds == 1
    assert run.has_outputs


def test_what_the_list_says_is_remembered_until_a_run_changes(tmp_path, monkeypatch):
    judged = []
    monkeypatch.setattr(library_module, "overview_of", lambda folder: judged.append(folder.directory.name) or overview_of(folder))
    for name in ("a", "b"):
        write_rows([*references(), *method("good")], tmp_path / "runs" / name)
    write_rows([*references(), *method("good")], tmp_path / "runs" / "broken")
    (tmp_path / "runs" / "broken" / "rows.parquet").write_bytes(b"PAR1nonsense")
    before = tree(tmp_path / "runs")
    first = Library(tmp_path / "runs", tmp_path / "memory").runs()
    assert Library(tmp_path / "runs", tmp_path / "memory").runs() == first
    assert sorted(judged) == ["a", "b"]
    assert tree(tmp_path / "runs") == before
    write_rows([*references(), *method("bad")], tmp_path / "runs" / "b")
    again = {run.name: run for run in Library(tmp_path / "runs", tmp_path / "memory").runs()}
    assert sorted(judged) == ["a", "b", "b"]
    assert again["b"].methods == ("bad",)
    (kept,) = (tmp_path / "memory").iterdir()
    kept.write_text("{")
    assert {run.name: run for run in Library(tmp_path / "runs", tmp_path / "memory").runs()} == again


def test_settings_of_one_method_are_one_method(tmp_path):
    rows = [*references(), *method("SSD (w=1)", unlearner="SSD"), *method("SSD (w=2)", unlearner="SSD")]
    write_rows(rows, tmp_path / "runs" / "one")
    (run,) = Library(tmp_path / "runs").runs()
    assert run.methods == ("SSD",)
    assert len(run.verdicts) == 2


def test_runs_are_found_at_every_depth_and_the_folder_may_be_one_itself(tmp_path):
    write_rows([*references(), *method("good")], tmp_path)
    for name in ("a", "b/c/d", ".hidden"):
        write_rows([*references(), *method("good")], tmp_path / name)
    Store(tmp_path / "store")
    library = Library(tmp_path)
    assert {run.name for run in library.runs()} == {".", "a", "b/c/d"}
    assert library.run(".").title == tmp_path.name


def test_runs_that_did_not_end_well_are_shown_as_such(tmp_path):
    runs = tmp_path / "runs"
    good = [*references(), *method("good")]
    write_rows(good, runs / "older")
    (runs / "empty").mkdir()
    (runs / "half").mkdir()
    (runs / "half" / "rows.csv").write_text("experiment\n")
    write_rows(good, runs / "broken rows")
    (runs / "broken rows" / "rows.parquet").write_bytes(b"PAR1nonsense")
    for name, text in {
        "no json": "{",
        "a list": "[]",
        "newer": '{"format": 99}',
        "odd": '{"format": 1, "groups": [3], "models": 7}',
    }.items():
        write_rows(good, runs / name)
        (runs / name / "report.json").write_text(text)
    write_rows([*references(), row("SSD", value=None, status="failed", reason="the loss is NaN")], runs / "failed")
    library = Library(runs)
    states = {run.name: run.state for run in library.runs()}
    damaged = dict.fromkeys(["broken rows", "no json", "a list", "newer", "odd"], "damaged")
    assert states == {"older": "finished", "half": "unfinished", "failed": "with failures", **damaged}
    assert all(run.reason for run in library.runs() if run.state != "finished")
    site = Site(library, Store(tmp_path / "store", read_only=True))
    listed = site.answer("", {}).body.decode()
    for name, state in states.items():
        assert name in listed
        assert state in listed
        for route in ("run", "overlay"):
            answer = site.answer(route, {"run": name})
            shown = route == "run" and state in {"finished", "with failures"}
            assert answer.status == (200 if shown else 404), (route, name)


def test_a_run_that_goes_on_is_read_anew(tmp_path):
    run = tmp_path / "runs" / "one"
    run.mkdir(parents=True)
    (run / "rows.csv").write_text("")
    site = site_of(tmp_path)
    assert site.library.run("one").state == "unfinished"
    make_run(run, tmp_path / "store")
    assert site.library.run("one").state == "finished"
    before = site.answer("run", {"run": "one"}).body
    assert site.answer("run", {"run": "one"}).body is before
    make_run(run, tmp_path / "store", experiment="renamed")
    assert "renamed" in site.answer("run", {"run": "one"}).body.decode()


def test_an_empty_folder_says_what_to_do(tmp_path):
    (tmp_path / "runs").mkdir()
    answer = site_of(tmp_path).answer("", {})
    assert answer.status == 200
    assert "There are no runs in this folder yet" in answer.body.decode()
    assert "erasure run CONFIG" in answer.body.decode()
    with pytest.raises(ConfigError, match="is not a directory; name a folder of runs"):
        Library(tmp_path / "nothing")


def test_links_do_not_lead_out_of_the_folder(tmp_path):
    outside = tmp_path / "outside"
    make_run(outside, tmp_path / "store", experiment="secret")
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / "link").symlink_to(outside, target_is_directory=True)
    (runs / "one").mkdir()
    for name in ("rows.parquet", "report.json"):
        (runs / "one" / name).symlink_to(outside / name)
    write_rows([*references(), *method("good")], runs / "two")
    (runs / "two" / "report.json").symlink_to(outside / "report.json")
    site = site_of(tmp_path)
    assert {(run.name, run.state) for run in site.library.runs()} == {("one", "damaged"), ("two", "damaged")}
    for name in ("link", "one", "two", "../outside", str(outside)):
        for route in ROUTES[1:]:
            answer = site.answer(route, {"run": name, "a": "good", "b": "bad"})
            assert b"secret" not in answer.body
            assert route == "data/runs.json" or answer.status == 404, (route, name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes on this system")
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path):
    write_rows([*references(), *method("good")], tmp_path / "runs" / "one")
    os.mkfifo(tmp_path / "runs" / "one" / "report.json")
    (run,) = Library(tmp_path / "runs").runs()
    assert run.state == "damaged"
    assert "plain file" in run.reason


@pytest.mark.parametrize(
    "route", ["etc/passwd", "../x", "run/", "/run", "data", "data/../run", "report.css", "ui_runs.js", "%72un"]
)
def test_routes_are_a_list_and_no_paths(tmp_path, route):
    make_run(tmp_path / "runs" / "one", tmp_path / "store")
    answer = site_of(tmp_path).answer(route, {"run": "one"})
    assert answer.status == 404
    assert b"There is no such page" in answer.body


def test_nothing_is_written(tmp_path):
    make_run(tmp_path / "runs" / "one", tmp_path / "store")
    # What a writable store would tidy up.
    (tmp_path / "store" / "index.jsonl").unlink()
    (tmp_path / "store" / "tmp" / "dead").mkdir(parents=True)
    os.utime(tmp_path / "store" / "tmp" / "dead", (1, 1))
    before = tree(tmp_path)
    site = site_of(tmp_path)
    for route in ROUTES:
        for attack in ("loss", "confidence"):
            assert site.answer(route, {"run": "one", "a": "good", "b": "bad", "attack": attack}).status == 200, route
    assert tree(tmp_path) == before


def test_hostile_names_stay_text(tmp_path):
    def hostile(label, partition, arrays):
        arrays["logits"] = arrays["logits"][::-1].copy()

    make_run(tmp_path / "runs" / "<b>'\"&{{7*7}}", tmp_path / "store", change=hostile, experiment=EVIL)
    path = tmp_path / "runs" / "<b>'\"&{{7*7}}" / "report.json"
    kept = json.loads(path.read_text())
    kept["dataset"] |= {"name": EVIL, "class_names": [EVIL, EVIL, "x\x00\u202ey"]}
    kept["failures"] = [{"stage": EVIL, "reason": EVIL}]
    path.write_text(json.dumps(kept))
    site = site_of(tmp_path)
    (run,) = site.library.runs()
    for route in ("", "overlay", "run"):
        answer = site.answer(route, {"run": run.name, "a": "good", "b": "bad"})
        assert answer.status == 200
        tags = Tags(answer.body)
        assert all(
            "alert" not in (value or "") for tag, attrs in tags.tags for name, value in attrs.items() if name.startswith("on")
        )
        assert not tags.all("img")
        assert "49" not in re.findall(r"\d+", " ".join(a.get("value", "") or "" for a in tags.all("input")))
        scripts = tags.all("script")
        assert all(set(script) <= {"src", "defer", "type", "id"} for script in scripts)
        assert b"<script>alert" not in answer.body


def test_pages_load_only_what_the_server_has(tmp_path):
    make_run(tmp_path / "runs" / "one", tmp_path / "store")
    site = site_of(tmp_path)
    for route in ("", "overlay", "nothing"):
        answer = site.answer(route, {"run": "one"})
        tags = Tags(answer.body)
        loaded = [a["src"] for a in tags.all("script")] + [a["href"] for a in tags.all("link")]
        assert all(name == "data:," or site.answer(name, {}).status == 200 for name in loaded)
        assert answer.policy == PAGE_POLICY
        # The policy would refuse these.
        assert not tags.all("style")
        assert all("style" not in attrs and not any(name.startswith("on") for name in attrs) for _, attrs in tags.tags)
    for script in ("theme.js", "runs.js", "overlay.js"):
        text = site.answer(script, {}).body.decode()
        assert not re.search(r"innerHTML|eval\(|document\.write|https?://(?!www\.w3\.org/2000/svg)", text)


def test_the_report_runs_its_own_script_and_leads_back(tmp_path):
    make_run(tmp_path / "runs" / "one", tmp_path / "store")
    (tmp_path / "runs" / "one" / "report.html").write_text("<script>alert('not this one')</script>")
    answer = site_of(tmp_path).answer("run", {"run": "one"})
    body = answer.body.decode()
    assert "not this one" not in body
    assert "Verdict on each method" in body
    assert {"./", "overlay?run=one"} <= {a.get("href") for a in Tags(answer.body).all("a")}
    said = re.search(r"script-src '(sha256-[^']+)'", answer.policy)[1]
    assert said in re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', body)[1]
    assert template_text("report.js") in body
    assert "frame-ancestors 'none'" in answer.policy


def test_the_best_method_is_beside_gold_at_first(tmp_path):
    make_run(tmp_path / "runs" / "one", tmp_path / "store")
    body = Tags(site_of(tmp_path).answer("overlay", {"run": "one"}).body)
    (frame,) = body.all("body")
    assert (frame["data-a"], frame["data-b"]) == ("good", "gold")
    chosen = [a["value"] for a in body.all("option") if "selected" in a]
    assert chosen == ["good", "gold", "forget"]
    assert all(role in {a["value"] for a in body.all("option")} for role in SIZES)


def test_a_run_without_addresses_says_how_to_get_them(tmp_path):
    write_rows([*references(), *method("good")], tmp_path / "runs" / "one")
    make_run(tmp_path / "runs" / "two", tmp_path / "store")
    path = tmp_path / "runs" / "two" / "report.json"
    kept = json.loads(path.read_text())
    del kept["groups"][0]["outputs"]
    path.write_text(json.dumps(kept))
    site = site_of(tmp_path)
    assert [run.has_outputs for run in site.library.runs()] == [False, False]
    assert "Run its configuration again" in site.answer("overlay", {"run": "two"}).body.decode()
    with pytest.raises(StoreError, match="There is no run"):
        site.library.overview("three")


@pytest.mark.skipif(sys.platform in {"win32", "darwin"}, reason="names of files are Unicode there")
def test_names_that_are_not_unicode_do_not_cost_the_list(tmp_path):
    make_run(tmp_path / "runs" / os.fsdecode(b"na\xefve"), tmp_path / "store")
    site = site_of(tmp_path)
    answer = site.answer("", {})
    assert "na%EFve" in answer.body.decode()
    assert site.answer("run", {"run": os.fsdecode(b"na\xefve")}).status == 200


def test_the_page_needs_no_torch(tmp_path):
    make_run(tmp_path / "runs" / "one", tmp_path / "store")
    code = (
        "import sys\nfrom erasure.ui import Library, Site\nfrom erasure.store import Store\n"
        f"site = Site(Library({str(tmp_path / 'runs')!r}), Store({str(tmp_path / 'store')!r}, read_only=True))\n"
        f"for route in {ROUTES!r}:\n"
        "    assert site.answer(route, {'run': 'one', 'a': 'good', 'b': 'bad'}).status == 200, route\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_models_of_another_gold_are_a_group_of_their_own(tmp_path):
    make_run(tmp_path / "runs" / "one", tmp_path / "store")
    path = tmp_path / "runs" / "one" / "report.json"
    kept = json.loads(path.read_text())
    (first,) = kept["groups"]
    names = {"original": "original (kept)", "gold": "gold (kept)", "bad": "bad"}
    places = [place | {"label": names[place["label"]]} for place in first["outputs"] if place["label"] in names]
    kept["groups"].append(
        first | {"retain": "kept", "outputs": [p | {"partition": p["partition"].replace("retain", "kept")} for p in places]}
    )
    kept["models"] += [{**kept["models"][k], "label": names[kept["models"][k]["label"]], "retain": "kept"} for k in (0, 1)]
    path.write_text(json.dumps(kept))
    site = site_of(tmp_path)
    assert {"overlay?run=one&group=1"} <= {a.get("href") for a in Tags(site.answer("overlay", {"run": "one"}).body).all("a")}
    second = Tags(site.answer("overlay", {"run": "one", "group": "1"}).body)
    (frame,) = second.all("body")
    assert (frame["data-a"], frame["data-b"]) == ("bad", "gold (kept)")
    assert "good" not in {a["value"] for a in second.all("option")}
    found = json.loads(
        site.answer("data/predictions.json", {"run": "one", "group": "1", "a": "bad", "b": "gold (kept)", "on": "retain"}).body
    )
    assert (found["partition"], sum(map(sum, found["first"]))) == ("kept", SIZES["retain"])


def test_looking_through_a_folder_stops_somewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(library_module, "_MAX_DIRECTORIES", 3)
    for name in "abcdef":
        write_rows([*references(), *method("good")], tmp_path / "runs" / name)
    site = site_of(tmp_path)
    assert len(site.library.runs()) == 2
    assert "more directories than are looked through" in site.answer("", {}).body.decode()
