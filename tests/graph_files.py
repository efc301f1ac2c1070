"""The real graph files of ``ERASURE_TEST_DATA``, laid out as PyTorch Geometric looks for them."""

import csv
import gzip
import os
from pathlib import Path

import pytest

TEST_DATA = Path(os.environ.get("ERASURE_TEST_DATA", Path(__file__).parents[1] / "../shared/data")).resolve()
GRAPHS = TEST_DATA / "graphs"

FILES = {"bace": "bace.csv", "bbbp": "BBBP.csv", "clintox": "clintox.csv", "tox21": "tox21.csv"}
"""MoleculeNet's own names of its files."""

PLACES = {"bace": (0, slice(2, 3)), "bbbp": (-1, slice(-2, -1)), "clintox": (0, slice(1, 3)), "tox21": (-1, slice(0, 12))}
"""Where MoleculeNet's own files have the SMILES and the labels."""


def real(folder):
    if not folder.exists():
        pytest.skip(f"the real data of ERASURE_TEST_DATA is not there: {folder}")
    return folder


def tu_root():
    """The TU collections, gzipped as they are."""
    return str(real(GRAPHS / "tu"))


def molecules_root(tmp_path, name, n_rows=None):
    """One set of MoleculeNet with its columns where MoleculeNet's own file has them."""
    with gzip.open(real(GRAPHS / "moleculenet" / f"{name}.csv.gz"), "rt") as stream:
        rows = list(csv.reader(stream))
    smiles, labels = PLACES[name]
    width = {"bace": 4, "bbbp": 4, "clintox": 3, "tox21": 14}[name]
    folder = tmp_path / name / "raw"
    folder.mkdir(parents=True)
    with (folder / FILES[name]).open("w") as stream:
        for row in rows[: None if n_rows is None else n_rows + 1]:
            columns = ["-"] * width
            columns[smiles], columns[labels] = row[0], row[1:]
            stream.write(",".join(columns) + "\n")
    return str(tmp_path)


def cora_root(tmp_path):
    """Cora under the name that Planetoid looks for."""
    folder = tmp_path / "Cora" / "raw"
    folder.parent.mkdir(parents=True)
    folder.symlink_to(real(GRAPHS / "planetoid" / "cora"))
    return str(tmp_path)
