"""The page for the person who asked: plain words, nothing loaded, and no promise that is none of ours."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from erasure.accounting.guarantee import Guarantee
from erasure.certificates.answer_page import answer_page
from erasure.certificates.statement import Statement

ROOT = Path(__file__).parents[3]


def statement(**changes):
    given = {
        "original": "a" * 64,
        "unlearned": "b" * 64,
        "request": "c" * 64,
        "n_forgotten": 1,
        "method": "<SSD>",
        "method_version": "1",
        "verdict": "indistinguishable",
        "verdict_sentence": "No difference was found.",
        "n_golds": 20,
        "finished": "2026-01-02T03:04:05Z",
    }
    return Statement(**given | changes)


class _Loads(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found += [value for name, value in attrs if name in {"src", "href", "action"}] + ([tag] if tag == "script" else [])


@pytest.mark.parametrize(
    ("page", "words"),
    [
        (answer_page(statement()), "compared with 20 models that really were trained without your data"),
        (answer_page(statement(n_forgotten=1200)), "1,200 records"),
        (
            answer_page(statement(guarantee=Guarantee(kind="exact", assumptions=("Only given samples.",)))),
            "trained again from the beginning",
        ),
        (
            answer_page(statement(verdict="exact", guarantee=Guarantee(kind="exact"))),
            "that had learned from your record were made again",
        ),
        (
            answer_page(statement(verdict="certified", guarantee=Guarantee(kind="certified", eps=0.5, delta=1e-5))),
            "cannot be more than 62 % sure of it after looking at the model",
        ),
        (answer_page(None, refusal="The evidence is <thin>.", n_forgotten=2), "The evidence is &lt;thin&gt;."),
    ],
)
def test_it_says_what_was_done_and_loads_nothing(page, words):
    assert words in page
    loads = _Loads()
    loads.feed(page)
    assert loads.found == []
    assert "<SSD>" not in page
    assert "@media print" in page
    for title in ("What was done", "What it means for you", "What it does not mean", "Whom to ask"):
        assert f"<h2>{title}</h2>" in page


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"verdict": "retrained", "guarantee": Guarantee(kind="exact")},
        {"verdict": "exact", "guarantee": Guarantee(kind="exact", assumptions=("The training function learns from these.",))},
        {"verdict": "certified", "guarantee": Guarantee(kind="certified", eps=0.5, delta=1e-5)},
    ],
)
def test_words_that_need_training_are_in_the_folded_part_alone(changes):
    page = answer_page(statement(**changes), contact="Anna <anna@example.org>")
    before, folded = page.split("<details>")
    assert "a" * 64 in folded
    assert "Anna &lt;anna@example.org&gt;. If the answer" in before
    text = re.sub("<[^>]+>", " ", before.partition("<main>")[2])
    technical = (
        r"epsilon|delta|digest|SHA|training function|guarantee|p-value|retrained model|originals?\b|gold|erasure|[0-9a-f]{16}"
    )
    assert re.findall(technical, text) == []


def test_the_day_is_written_out_and_what_is_no_day_is_kept():
    assert "finished on 2 January 2026." in answer_page(statement())
    assert "finished on &lt;then&gt;." in answer_page(statement(finished="<then>"))


def test_no_promise_about_the_law_is_made_anywhere():
    words = re.compile("GDPR" + r"[ -]compliant", re.IGNORECASE)
    files = [*(ROOT / "src").rglob("*.py"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*.py"), ROOT / "README.md"]
    assert [file.name for file in files if words.search(file.read_text(encoding="utf-8"))] == []


_BROWSER = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)


@pytest.mark.skipif(_BROWSER is None, reason="Chromium is not installed")
def test_chromium_prints_one_sheet_for_the_person_and_one_for_experts(tmp_path):
    assumptions = ("It learns from the samples that it is given.", "Requests do not depend on models released before.")
    page, printed = tmp_path / "answer.html", tmp_path / "answer.pdf"
    page.write_text(answer_page(statement(verdict="exact", guarantee=Guarantee(kind="exact", assumptions=assumptions))))
    command = [_BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-pdf-header-footer"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", f"--print-to-pdf={printed}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert printed.exists(), done.stderr[-500:]
    content = printed.read_bytes()
    assert content.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", content)) == 2  # one for the person, one for experts
    assert b"/Title (The model was rebuilt without your data)" in content
