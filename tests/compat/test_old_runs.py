"""A run's folder that the version before the records had types wrote is read, with every number, and compared with new ones.

Provenance: ``run_0_1_0`` holds rows and report.json of iris with an MLP, SSD and gold, written by the source as of 2026-11 (format 1,
before rows had the column ``number`` and components had registered names as addresses).
"""

import json
import shutil
from pathlib import Path

import pytest

from erasure.analysis.overview import overview_of
from erasure.errors import StoreError
from erasure.records.evidence import RunRecord, read_run_record, write_run_record
from erasure.records.run_folder import RunFolder
from erasure.reports.page import page

OLD = Path(__file__).parent / "run_0_1_0"


def known(value):
    """JSON without what says that there is nothing."""
    if isinstance(value, dict):
        return {key: each for key, inner in value.items() if (each := known(inner)) not in (None, "", [], {}, False)}
    return [known(each) for each in value] if isinstance(value, list) else value


def test_no_field_of_an_old_report_is_lost_and_it_is_written_as_it_was(tmp_path):
    written = json.loads((OLD / "report.json").read_bytes())
    write_run_record(RunRecord.of(written), tmp_path)
    assert known(json.loads((tmp_path / "report.json").read_bytes())) == known(written)


def test_rows_without_the_number_of_a_gold_are_read():
    folder = RunFolder.load(OLD)
    assert {row.number for row in folder.rows} == {None}
    assert folder.jury == ()
    assert {(row.label, row.partition): row.value for row in folder.rows} == {
        ("original", "forget"): 4 / 12,
        ("original", "test"): 18 / 45,
        ("gold", "forget"): 4 / 12,
        ("gold", "test"): 16 / 45,
        ("SSD", "forget"): 4 / 12,
        ("SSD", "test"): 18 / 45,
        ("GoldModel", "forget"): 4 / 12,
        ("GoldModel", "test"): 16 / 45,
    }


def test_an_old_run_is_judged_and_has_its_page():
    overview = overview_of(RunFolder.load(OLD))
    assert {verdict.label for verdict in overview.verdicts} == {"SSD", "GoldModel"}
    text = page(overview)
    assert "Losses" in text
    assert "it is of an older version" not in text


def test_components_of_an_old_run_have_the_names_of_today():
    canonical = read_run_record(OLD).canonical
    assert canonical["data"]["parameters"]["data_source"]["class"] == "source:Sklearn"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "is not of format 1"),
        (
            {"models": [{"label": "a", "role": "gilded"}]},
            r"models\[0\].role is 'gilded'; expected one of original, gold, unlearned",
        ),
        ({"groups": [{"losses": {"edges": [0, "x"]}}]}, r"groups\[0\].losses.edges\[1\] is 'x'; expected a number"),
        ({"failures": [{"stage": "train"}]}, r"failures\[0\].reason is missing"),
        ({"seeds": 3}, "seeds is 3; expected a list"),
    ],
)
def test_a_report_of_another_form_is_refused_by_the_field_that_differs(tmp_path, change, message):
    shutil.copytree(OLD, tmp_path / "run")
    report = tmp_path / "run" / "report.json"
    report.write_text(json.dumps(json.loads(report.read_bytes()) | change))
    with pytest.raises(StoreError, match=message):
        RunFolder.load(tmp_path / "run")


def test_fields_that_a_later_version_adds_are_passed_over(tmp_path):
    shutil.copytree(OLD, tmp_path / "run")
    report = tmp_path / "run" / "report.json"
    report.write_text(json.dumps(json.loads(report.read_bytes()) | {"weather": "fair"}))
    assert RunFolder.load(tmp_path / "run").record == read_run_record(OLD)
