"""Imports point one way (``.importlinter``), and the contracts that say so can break."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINT = Path(sys.executable).with_name("lint-imports")

VIOLATIONS = {
    "erasure/functional/masks.py": ("import erasure.training.loop", "Imports point one way"),
    "erasure/measures/aus.py": ("import erasure.store.index", "never see the store"),
    "erasure/registry/facts.py": ("import numpy", "without torch"),
    "erasure/records/rows.py": ("import erasure.functional.masks", "Records need files"),
    "erasure/analysis/gaps.py": ("import torch", "Analysis computes on records"),
    "erasure/reports/table.py": ("import erasure.component", "Reports and the local page"),
    "erasure/stages/ranks.py": ("import erasure.reports.table", "draws or judges"),
    "erasure/planning/seeds.py": ("import erasure.unlearners.scrub", "never a concrete method"),
    "erasure/certificates/digests.py": ("import numpy", "Certificates are checked"),
    "erasure/cli/progress.py": ("import erasure.training.loop", "goes through the engine"),
}


def lint(directory):
    done = subprocess.run(
        [LINT, "--no-cache", "--config", ROOT / ".importlinter"],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(directory)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, " ".join(done.stdout.split()) + done.stderr


@pytest.mark.skipif(not LINT.exists(), reason="import-linter is not installed")
def test_the_import_contracts_hold():
    returncode, report = lint(ROOT / "src")
    assert returncode == 0, report


@pytest.mark.skipif(not LINT.exists(), reason="import-linter is not installed")
def test_each_contract_breaks_when_a_module_violates_it(tmp_path):
    shutil.copytree(ROOT / "src" / "erasure", tmp_path / "erasure", ignore=shutil.ignore_patterns("__pycache__"))
    for path, (statement, _) in VIOLATIONS.items():
        module = tmp_path / path
        module.write_text(f"{module.read_text(encoding='utf-8')}\n{statement}\n", encoding="utf-8")
    returncode, report = lint(tmp_path)
    assert returncode == 1, report
    summary = report.partition("Contracts:")[0]
    for _, contract in VIOLATIONS.values():
        assert f"{contract}" in summary
        assert "BROKEN" in summary.partition(contract)[2][:80], contract
    assert f"Contracts: 0 kept, {len(VIOLATIONS)} broken" in report
