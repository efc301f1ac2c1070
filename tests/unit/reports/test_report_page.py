"""The page: complete in itself, inert whatever it is fed, and usable without what may be missing."""

import base64
import hashlib
import json
import re
import sys
from html.parser import HTMLParser

import pytest
from report_rows import evidence, jury_of, method, references, row

from erasure.analysis.overview import overview_of
from erasure.errors import MissingDependency, StoreError
from erasure.records.evidence import RunRecord
from erasure.records.rows import write_rows
from erasure.records.run_folder import RunFolder, TracePoint
from erasure.reports.figures.of_run import figures_of
from erasure.reports.page import page, write_page

pytest.importorskip("vl_convert", reason="the extra report is not installed")
pytest.importorskip("jinja2", reason="the extra report is not installed")

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'><svg onload=alert(3)>${7*7}{{7*7}}"


class Elements(HTMLParser):
    """Every start tag, and the text outside scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.within = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.within.append(tag)

    def handle_endtag(self, tag):
        if tag in self.within:
            while self.within.pop() != tag:
                pass

    def handle_data(self, data):
        if not {"script", "style"} & set(self.within):
            self.text.append(data)

    def named(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def made(rows=None, kept=None, trace=()):
    rows = rows or [*references(), *method("good"), *method("bad", retain=0.5)]
    kept = evidence("good", "bad") if kept is None else kept
    return page(overview_of(RunFolder(rows, RunRecord.of(kept), trace, jury=jury_of(rows) if len(rows) < 500 else ())))


@pytest.fixture(scope="module")
def text():
    return made()


def test_what_several_verdicts_rest_on_alike_is_said_once():
    names = ["one", "two", "three"]
    rows = [*references(), *(part for i, name in enumerate(names) for part in method(name, forget=0.9 + 0.004 * i))]
    several = overview_of(RunFolder(rows, RunRecord.of(evidence(*names)), jury=jury_of(rows)))
    (shared,) = {verdict.reasons for verdict in several.verdicts}
    whole = " ".join(Elements(page(several)).text)
    assert "Of every method that is" in whole
    listed = whole[whole.index("Of every method") : whole.index("How verdicts are decided")]
    assert all(listed.count(reason[:40]) == 1 for reason in shared)  # options in them are marked up
    assert listed.count("standard deviations of a retrained model away on average") == len(names)


def test_the_first_screen_says_what_was_forgotten_what_to_use_and_why(text):
    words = " ".join(" ".join(Elements(text).text).split())
    assert "All 100 training images of class “cat”, of 1,000 (10 %), were to be forgotten" in words
    # One second and half a second in advance, of gold's ten.
    assert (
        "good came nearest to retraining on this seed, at 15 % of the time that retraining takes. Another seed may name another method"
        in words
    )
    assert words.index("good came nearest") < words.index("Verdict on each method") < words.index("All values")
    assert (
        "Accuracy on retained samples is 50.0 %; retrained models have 99.0 % (49.0 points less, p = 0.001 or less)."
        in words.replace("\u00a0", " ")
    )
    assert "2 methods and 3 values were tested by t-tests" in words


def test_what_is_kept_stands_beside_what_a_request_takes():
    kept = evidence("good", "bad")
    told = {"access": "training time", "guarantee": "exact", "assumptions": ["Ids tell samples apart."], "kept_bytes": 3 * 2**20}
    kept["models"][2] |= told
    words = " ".join(" ".join(Elements(made(kept=kept)).text).split())
    assert "Needs A request takes Before any request Kept beside the model" in words
    assert "good exact Ids tell samples apart. training time 1 s 0.5 s 3 MiB" in words
    assert "Before any request" not in " ".join(Elements(made()).text)  # of a run that recorded no access


def test_the_page_loads_nothing(text):
    elements = Elements(text)
    for tag, attributes in elements.tags:
        for name in ("src", "href", "action", "data", "srcset", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
    assert not re.search(r"@import|url\((?!#)", text)
    assert not elements.named("link")
    assert not elements.named("iframe")


def test_only_our_own_script_may_run(text):
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL).group(1)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(a["content"] for a in Elements(text).named("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_hostile_names_stay_text_wherever_they_stand(tmp_path):
    labels = (EVIL, "good")
    rows = [*references(), *method(EVIL, retain=0.5, reason=EVIL), *method("good")]
    rows += [row(EVIL, EVIL, partition=EVIL, value=0.1, gold=0.2), row(EVIL, "x", value=None, status="failed", reason=EVIL)]
    kept = evidence(
        *labels, experiment=EVIL, failures=[{"stage": EVIL, "reason": EVIL}], missing=[{"what": EVIL, "reason": EVIL}]
    )
    kept["dataset"] |= {"name": EVIL, "fingerprint": {EVIL: EVIL}}
    kept["groups"][0]["classes"]["names"] = [EVIL, "dog"]
    kept["groups"][0]["layers"]["names"] = [EVIL, "head"]
    kept["groups"][0]["forgotten"]["classes"][0]["class"] = EVIL
    kept["groups"][0]["samples"] = [
        {"label": EVIL, "side": "least", "ids": [1], "loss": [0.1], "gold": [1.0], "original": [None]}
    ]
    kept["sources"] = [{"kind": "method", "name": EVIL, "paper": EVIL, "deviations": [EVIL], "bibtex": ""}]
    kept["configuration"] = {"files": [{"file": EVIL, "text": EVIL}], "canonical": {"x": EVIL}}
    kept["measures"] = {EVIL: {"summary": EVIL, "answers": EVIL}, "accuracy": {"summary": EVIL}}
    kept["command"] = {"text": EVIL, "note": EVIL}
    kept["curves"] = [
        {"kind": "roc", "label": label, "role": "unlearned", "measure": EVIL, "fpr": [0.0, 0.1, 1.0], "tpr": [0.0, 0.3, 1.0]}
        for label in labels
    ]
    trace = [TracePoint(epoch, EVIL, EVIL, EVIL, 0.5, 0.4) for epoch in range(3)]
    text = made(rows, kept, trace)
    elements = Elements(text)
    assert len(elements.named("script")) == 1
    assert not elements.named("img")
    assert not [name for _, attributes in elements.tags for name in attributes if name.startswith("on")]
    assert "<p>This figure could not be drawn" not in text
    assert any("onerror=alert(2)" in part for part in elements.text)


def test_hostile_names_cannot_end_the_data_of_a_long_table():
    rows = [r for i in range(250) for r in method(f"{EVIL} {i}")]
    text = made(rows, {})
    elements = Elements(text)
    assert [a.get("type") for a in elements.named("script")] == ["application/json", None]
    data = re.search(r'id="lines">(.*?)</script>', text, re.DOTALL).group(1)
    lines = json.loads(data)
    assert len(lines) == 250
    assert lines[0]["label"].startswith(EVIL)
    assert lines[0]["cells"][0] == ["0.900", 0.9, "", "best"]
    assert "<" not in data
    assert len(re.findall(r'<tr class="unlearned">', text)) == 200


def test_many_methods_leave_the_page_small():
    rows = [r for i in range(6000) for r in method(f"m{i}", forget=0.9 + i * 1e-5)]
    text = made(rows, {})
    assert len(text) < 2_000_000
    assert "The page holds the 5,000 best of 6,000 models" in text
    assert "6,000 methods were judged" in text


def test_ids_are_used_once_and_every_reference_has_its_target(text):
    elements = Elements(text)
    ids = [attributes["id"] for _, attributes in elements.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for name in ("aria-labelledby", "aria-describedby"):
        assert {a[name] for _, a in elements.tags if name in a} <= set(ids)
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(ids)
    assert {a["href"].removeprefix("#") for a in elements.named("a")} <= set(ids)


def test_figures_speak_and_tables_have_captions(text):
    elements = Elements(text)
    drawn = elements.named("svg")
    assert drawn
    assert all(a["role"] == "img" and a["aria-labelledby"] for a in drawn)
    assert len(elements.named("caption")) == len(elements.named("table"))
    assert all(a.get("scope") for a in elements.named("th"))
    assert elements.named("html") == [{"lang": "en"}]


def test_colours_of_figures_follow_the_theme(text):
    drawn = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert "var(--c-ink)" in drawn
    assert not set(re.findall(r'(?:fill|stroke)="(#[0-9a-f]{6})"', drawn))


def test_a_failed_method_is_shown_with_its_reason():
    kept = evidence("good", "bad")
    kept["models"][-1] = {**kept["models"][-1], "failed": "the loss is not finite", "elapsed_s": None}
    text = made([*references(), *method("good")], kept)
    assert "the loss is not finite" in text
    rows = [*references(), *method("good")]
    found = overview_of(RunFolder(rows, RunRecord.of(kept), jury=jury_of(rows)))
    assert [str(j.finding) for j in found.verdicts] == ["not-told-apart", "failed"]


def test_an_older_run_without_evidence_has_a_report_of_its_rows(tmp_path):
    write_rows([*references(), *method("good"), *method("bad", retain=0.5)], tmp_path)
    text = write_page(tmp_path).read_text("utf-8")
    assert "made from its rows alone" in text
    assert "undecided" in text and "The values of the further golds were not kept" in text


def test_a_run_without_methods_or_values_has_a_report():
    assert "No method was tried" in made(references(), {})
    assert "All values" in page(overview_of(RunFolder([])))


def test_evidence_that_is_no_json_is_a_clear_error(tmp_path):
    write_rows(references(), tmp_path)
    (tmp_path / "report.json").write_text("{", encoding="utf-8")
    with pytest.raises(StoreError, match=r"report\.json is not JSON"):
        write_page(tmp_path)
    (tmp_path / "report.json").write_text('{"format": 99}', encoding="utf-8")
    with pytest.raises(StoreError, match="format 1"):
        write_page(tmp_path)


@pytest.mark.parametrize("package", ["jinja2", "vl_convert"])
def test_without_its_extra_the_report_says_what_to_install(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependency, match=r"erasure-unlearning\[report\]"):
        made()


def test_every_figure_is_drawn_from_the_evidence():
    trace = [TracePoint(epoch, "good", "accuracy", "forget", 1 - 0.1 * epoch, 0.9) for epoch in range(3)]
    kept = evidence("good", "bad")
    for number, model in enumerate(kept["models"][2:]):
        model |= {"key": "SSD", "parameters": {"selection_weighting": 1.0 + number}}
    rows = [*references(), *method("good"), *method("bad", retain=0.5)]
    overview = overview_of(RunFolder(rows, RunRecord.of(kept), trace, jury=jury_of(rows)))
    keys = [figure.key for figure in figures_of(overview)]
    assert keys == [
        "tradeoff",
        "values",
        "power",
        "differences",
        "loss",
        "roc",
        "by_class",
        "layers",
        "trace",
        "costs",
        "sensitivity",
    ]
    text = page(overview)
    drawn = {
        figure.key: len(re.findall(rf'<svg [^>]*"(?:wide|narrow)-{figure.key}-title"', text)) for figure in figures_of(overview)
    }
    once = {"power", "loss", "roc", "by_class", "layers", "trace", "sensitivity"}  # those that a phone has room for
    assert drawn == {key: 1 if key in once else 2 for key in keys}
    assert set(re.findall(r'<figure id="figure-(\w+)" class="small"', text)) <= once
