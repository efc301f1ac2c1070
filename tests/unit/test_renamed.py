"""What was written for the version before works for one version more, and says the name of today."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

import erasure
import erasure.extend
from erasure.measures.contract import Measure, Value
from erasure.records.rows import Row, read_rows
from erasure.renamed import today
from erasure.reports.query import load_results
from erasure.stages.value_records import meaning
from erasure.training.predictor import ModelInput

OLD = Path(__file__).parents[1] / "compat" / "run_0_1_0"


def older():
    """A measure as authors wrote it for the version before."""

    @dataclass(frozen=True, kw_only=True)
    class Older(Measure):
        tells: ClassVar = "attack"
        chance: ClassVar = 0.25
        judges: ClassVar = frozenset({"unlearned"})

        def refuse(self, data):
            return super().refuse(data) or "never on Mondays"

    return Older()


def test_a_measure_with_the_old_names_means_what_it_meant():
    with pytest.warns(FutureWarning, match="is now") as notices:
        measure = older()
    assert '"Older.tells" is now "indicates"' in str(notices[0].message)
    assert (measure.indicates, measure.chance_level, measure.targets()) == ("attack", 0.25, frozenset({"unlearned"}))
    data = ModelInput(x_shape=(3,), n_classes=2, task="generation")
    with pytest.warns(FutureWarning, match='"unsupported_reason"'):
        assert "not defined for generation" in measure.unsupported_reason(data)
    with pytest.warns(FutureWarning):
        assert measure.unsupported_reason(ModelInput(x_shape=(3,), n_classes=2, task="classification")) == "never on Mondays"


def test_a_method_of_a_built_in_measure_is_reached_by_its_old_name():
    from erasure.measures.aus import AUS

    data = ModelInput(x_shape=(3,), n_classes=2, task="multilabel")
    with pytest.warns(FutureWarning):
        assert AUS().refuse(data) == AUS().unsupported_reason(data)


def test_values_take_the_old_keywords():
    with pytest.warns(FutureWarning, match=r"Value\(tells=…\)"):
        value = Value(value=0.5, tells="trace")
    assert value.indicates == "trace"


def test_an_old_row_is_read_by_its_new_columns_and_its_old_attributes():
    row = read_rows(OLD)[0]
    assert row.model_role == "original"
    with pytest.warns(FutureWarning, match='"Row.model" is now "model_role"'):
        assert row.model == "original"
    record = {("model" if name == "model_role" else name): value for name, value in row.record().items()}
    assert Row.of(record) == row


def test_values_stored_by_the_version_before_are_not_measured_again():
    stored = {"higher_is_better": False, "ideal": "gold", "unit": "", "tells": "attack", "chance": 0.3}
    with pytest.warns(FutureWarning):
        assert meaning(stored, older()) == meaning({**stored, "indicates": "attack", "chance_level": 0.3}, older())


def test_queries_with_old_columns_are_answered_with_a_notice(tmp_path):
    shutil.copytree(OLD, tmp_path / "runs" / "a")
    runs = load_results(tmp_path / "runs")
    with pytest.warns(FutureWarning, match='the column "model" is now "model_role"'):
        old = runs.query("select model, max(floor) as most from rows group by model order by model")
    new = runs.query("select model_role as model, max(noise_floor) as most from rows group by model_role order by model_role")
    assert json.dumps(old.to_pylist()) == json.dumps(new.to_pylist())
    assert runs.query("from rows").column_names == ["run", *load_results(OLD).table.column_names[1:]]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("UnlearningTask", "UnlearningContext"),
        ("TaskKind", "Task"),
        ("Role", "PartitionRole"),
        ("Request", "ModelRequest"),
        ("Problem", "Diagnostic"),
        ("Tells", "Indication"),
    ],
)
def test_authors_find_old_names_where_they_were(old, new):
    with pytest.warns(FutureWarning, match=f"is now .*{new}"):
        assert getattr(erasure.extend, old) is getattr(erasure.extend, new)


def test_results_are_loaded_by_the_old_name_too():
    with pytest.warns(FutureWarning, match="load_results"):
        assert erasure.results is erasure.load_results


def test_the_new_name_wins_where_a_record_has_both():
    assert today({"a": 1, "b": 2}, {"a": "b"}) == {"b": 2}
