"""The guide to own components is complete and works."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from erasure.records.rows import read_rows

GUIDE = Path(__file__).parents[2] / "docs" / "write-your-own.md"
BLOCK = re.compile(r"```(python|jsonc)\n(?:#|//) (\S+)\n(.*?)```", re.DOTALL)


@pytest.fixture
def written(tmp_path):
    """The guide's files, as its reader would write them."""
    files: dict[str, str] = {}
    for _, name, text in BLOCK.findall(GUIDE.read_text(encoding="utf-8")):
        files[name] = files.get(name, "") + text
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def run(*command, cwd):
    environment = {**os.environ, "PYTHONPATH": str(cwd)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_each_example_is_under_thirty_lines():
    blocks = [text for kind, name, text in BLOCK.findall(GUIDE.read_text(encoding="utf-8")) if name == "my_components.py"]
    assert len(blocks) == 4
    assert max(len(text.strip().splitlines()) for text in blocks) < 35  # imports and blank lines included
    assert max(len([line for line in text.splitlines() if line.strip()]) for text in blocks) <= 30


def test_the_experiment_with_own_components_runs(written):
    done = run(
        sys.executable, "-m", "erasure", "run", "my_experiment.jsonc", "--trust", "my_components", "--output", "out", cwd=written
    )
    assert done.returncode == 0, done.stderr
    rows = read_rows(written / "out")
    own = {row.model: row for row in rows if row.measure == "MeanConfidence" and row.unlearner != "Identity"}
    assert set(own) == {"original", "gold", "unlearned"}
    assert all(0.5 <= row.value <= 1 for row in own.values())
    assert own["unlearned"].value != own["original"].value


def test_the_configuration_is_refused_without_trust(written):
    done = run(sys.executable, "-m", "erasure", "run", "my_experiment.jsonc", cwd=written)
    assert done.returncode == 2
    assert "--trust my_components" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_own_unlearner_passes_the_conformance_suite(written):
    done = run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_my_components.py", cwd=written)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
