"""What a run keeps for the list of runs, beside what judging it again says."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from report_rows import method, references
from ui_run import make_run

from erasure.analysis.overview import overview_of
from erasure.records.rows import write_rows
from erasure.records.run_folder import RunFolder
from erasure.reports import run_summary
from erasure.reports.run_summary import SUMMARY_FILE, write_summary
from erasure.ui import Library
from erasure.ui import library as library_module


@pytest.fixture
def summed_up(tmp_path, monkeypatch):
    """A run with its summary, and the folders that were judged since."""
    run = tmp_path / "runs" / "one"
    make_run(run, tmp_path / "store")
    before = Library(tmp_path / "runs").runs()
    write_summary(overview_of(RunFolder.load(run)), run)
    judged = []
    monkeypatch.setattr(library_module, "overview_of", lambda folder: judged.append(folder.directory.name) or overview_of(folder))
    return run, before, judged


def test_a_run_with_a_summary_is_listed_as_if_it_were_judged(summed_up):
    run, before, judged = summed_up
    assert Library(run.parent).runs() == before
    assert judged == []


def test_a_run_is_judged_again_once_its_files_have_changed(summed_up):
    run, _, judged = summed_up
    write_rows([*references(), *method("bad")], run)
    (listed,) = Library(run.parent).runs()
    assert judged == ["one"]
    assert listed.methods == ("bad",)


def test_a_run_is_judged_again_by_other_code(summed_up, monkeypatch):
    run, before, judged = summed_up
    monkeypatch.setattr(run_summary, "judging_code", lambda: "another")
    assert Library(run.parent).runs() == before
    assert judged == ["one"]


@pytest.mark.parametrize(
    "change",
    [
        lambda kept: kept["run"]["verdicts"][0].update(colour="red;x"),
        lambda kept: kept["run"].update(methods=3),
        lambda kept: kept["run"].pop("state"),
        lambda kept: kept.pop("files"),
        lambda kept: kept.update(files=["rows.parquet"]),
        lambda kept: kept["files"].pop("rows.parquet"),
    ],
)
def test_a_summary_of_another_shape_is_passed_over(summed_up, change):
    run, before, judged = summed_up
    kept = json.loads((run / SUMMARY_FILE).read_text())
    change(kept)
    (run / SUMMARY_FILE).write_text(json.dumps(kept))
    assert Library(run.parent).runs() == before
    assert judged == ["one"]


def test_a_copy_with_other_times_is_not_judged_again_and_one_of_other_bytes_is(summed_up):
    run, before, judged = summed_up
    file = run / "rows.parquet"
    os.utime(file, ns=(1, 1))
    assert Library(run.parent).runs() == before and judged == []
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    Library(run.parent).runs()
    assert judged == ["one"]


def test_a_summary_holds_wherever_the_same_code_is_installed(tmp_path, monkeypatch):
    package = Path(run_summary.__file__).parents[1]
    copy = tmp_path / "erasure"
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"), copy_function=shutil.copyfile)
    here = run_summary.judging_code()
    run_summary.judging_code.cache_clear()
    monkeypatch.setattr(run_summary, "__file__", str(copy / "reports" / "run_summary.py"))
    try:
        assert run_summary.judging_code() == here
        run_summary.judging_code.cache_clear()
        (copy / "analysis" / "verdicts.py").write_text("changed")
        assert run_summary.judging_code() != here
    finally:
        run_summary.judging_code.cache_clear()


def test_all_code_that_judges_counts(summed_up):
    run, _, _ = summed_up
    judge = f"""
import sys
from pathlib import Path
from erasure.analysis.overview import overview_of
from erasure.records.run_folder import RunFolder
from erasure.reports.run_summary import JUDGING, summary_of
summary_of(overview_of(RunFolder.load(Path({str(run)!r}))))
package = Path(sys.modules["erasure"].__file__).parent
loaded = {{Path(m.__file__) for name, m in sys.modules.items() if name.startswith("erasure.") and not hasattr(m, "__path__")}}
known = {{file for place in JUDGING for file in package.glob(place)}}
print(sorted(str(file.relative_to(package)) for file in loaded - known))
"""
    said = subprocess.run([sys.executable, "-c", judge], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
