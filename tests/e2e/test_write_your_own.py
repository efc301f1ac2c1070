"""The guide to own components is complete and works."""

import importlib
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from small import command, small_experiment

from erasure.catalogue import BUILTINS, plural
from erasure.engine.executors import serial
from erasure.experiment.configuration import load_experiment
from erasure.extend import Session, Streams
from erasure.records.rows import read_rows
from erasure.store import Store
from erasure.workflows.options import RunOptions
from erasure.workflows.run import make_plan

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "write-your-own.md"
BLOCK = re.compile(r"```(python|jsonc)\n(?:#|//) (\S+)\n(.*?)```", re.DOTALL)
TOML = re.compile(r"```toml\n(.*?)```", re.DOTALL)


@pytest.fixture
def written(tmp_path):
    """The guide's files, as its reader would write them."""
    files: dict[str, str] = {}
    for _, name, text in BLOCK.findall(GUIDE.read_text(encoding="utf-8")):
        files[name] = files.get(name, "") + text
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture
def installed(written):
    """The guide's package with its entry points, as an installer would leave it."""
    (toml,) = TOML.findall(GUIDE.read_text(encoding="utf-8"))
    lines = []
    for group, points in tomllib.loads(toml)["project"]["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {path}" for name, path in points.items())]
    folder = written / "my_components-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: my-components\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("\n".join(lines))
    return written


def test_each_example_is_under_thirty_lines():
    blocks = [text for kind, name, text in BLOCK.findall(GUIDE.read_text(encoding="utf-8")) if name == "my_components.py"]
    assert len(blocks) == 15
    assert max(len(text.strip().splitlines()) for text in blocks) < 35  # imports and blank lines included
    assert max(len([line for line in text.splitlines() if line.strip()]) for text in blocks) <= 30


def test_the_experiment_with_own_components_runs(installed):
    options = ("--trust", "my_components", "--output", "out", "--tracker", "text:values.txt")
    done = command("run", "my_experiment.jsonc", *options, cwd=installed)
    assert done.returncode == 0, done.stderr
    rows = read_rows(installed / "out")
    own = {row.model_role: row for row in rows if row.measure == "MeanConfidence" and row.unlearner != "Identity"}
    assert set(own) == {"original", "gold", "unlearned"}
    assert all(0.5 <= row.value <= 1 for row in own.values())
    assert own["unlearned"].value != own["original"].value
    attacked = [row for row in rows if row.measure == "ShadowThreshold"]
    assert {row.status for row in attacked if row.unlearner != "Identity"} <= {"ok", "collapsed"}
    assert all(0 <= row.value <= 1 for row in attacked)
    written_down = (installed / "values.txt").read_text(encoding="utf-8").splitlines()
    assert len(written_down) == len([row for row in rows if not row.number])  # the jury's rows are in the file alone
    assert "Values by measure" in (installed / "out" / "report.html").read_text(encoding="utf-8")


def test_the_configuration_is_refused_without_trust(written):
    done = command("run", "my_experiment.jsonc", cwd=written)
    assert done.returncode == 2
    assert "--trust my_components" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_own_unlearner_passes_the_conformance_suite(written):
    done = command("-q", "-p", "no:cacheprovider", "test_my_components.py", cwd=written, module="pytest")
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def test_the_guide_names_every_kind_of_entry_point_and_imports_from_one_place():
    text = GUIDE.read_text(encoding="utf-8")
    assert [kind for kind in [*BUILTINS, "figure", "tracker"] if f"`{plural(kind)}`" not in text] == []
    assert set(re.findall(r"from (erasure[.a-z_]*) import", text)) == {"erasure.extend", "erasure.testing"}


def test_every_other_component_of_the_guide_works(written, monkeypatch):
    monkeypatch.syspath_prepend(str(written))
    mine = importlib.import_module("my_components")
    data = mine.TwoMoons(n_samples=40).load()
    left, right = mine.LeftHalf(parts_names=("left", "right")).split(data, {"all": torch.arange(40)}, np.random.default_rng(0))
    assert sorted([*left.tolist(), *right.tolist()]) == list(range(40))
    assert data.x.gather(left)[:, 0].max() < 0.5 <= data.x.gather(right)[:, 0].min()
    assert mine.Scale(factor=2.0).sample(3.0, 1, None) == (6.0, 1, None)
    ids, names = mine.Characters(max_length=4).tokens(["ab", "abcdef"])
    assert ids.tolist() == [[[97, 98, 0, 0], [1, 1, 0, 0]], [[97, 98, 99, 100], [1, 1, 1, 1]]]
    assert names[97] == "a"
    wrong = mine.NextClass(n_samples=3).corrupt(data, Streams(0))
    assert int(wrong.corrupted.sum()) == int((wrong.y != data.y).sum()) == 3
    assert mine.Corner().stamp(data.x).gather(torch.arange(40))[:, 0].tolist() == [9.0] * 40
    pictures = torch.zeros(2, 1, 4, 4)
    brighter = mine.Brighter().apply(pictures, torch.Generator().manual_seed(0))
    assert brighter.shape == pictures.shape
    assert 0 < float(brighter.max()) <= 0.1


def test_the_vocabulary_of_the_guide_writes_and_reads(written, monkeypatch):
    monkeypatch.syspath_prepend(str(written))
    encoder = importlib.import_module("my_components").Bytes().encoder(["ab"])
    (tokens,) = encoder.encode(["ab"], begins=True)
    assert "".join(encoder.pieces[i] for i in tokens) == "ab"
    assert len(encoder.pieces) == encoder.size
    assert encoder.end not in tokens


def test_the_stage_of_the_guide_is_planned_run_and_kept(written, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(written))
    mine = importlib.import_module("my_components")
    plan = make_plan(load_experiment(small_experiment(unlearners=[])), RunOptions(store=tmp_path / "store"))
    plan.add(mine.CountLabels(name="count the labels", data=plan.data[0], partition="retain"))
    needed = {where: stage for where, stage in plan.stages.items() if stage.kind in {"data", "split", "label-counts"}}
    session = Session(Store(tmp_path / "store"), torch.device("cpu"), plan.numerics)
    assert serial.execute(needed, session) == {}
    (address,) = (where for where, stage in needed.items() if stage.kind == "label-counts")
    loaded = session.loaded(plan.data[0])
    assert sum(session.store.open(address).json("counts")) == len(loaded.partitions["retain"])
