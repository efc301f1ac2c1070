#!/usr/bin/env bash
# torch_geometric 2.8.1: MoleculeNet loses the last molecule of a file that does not end in a line feed, without a word.
# One would expect every row of a valid csv, and that graph i is row i: rows that rdkit cannot read shift all later ones.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -r "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 torch_geometric==2.8.1 rdkit==2026.9.1
cat > "$folder/check.py" <<'PYTHON'
import sys
import warnings
from pathlib import Path

import rdkit
import torch
import torch_geometric
from torch_geometric.datasets import MoleculeNet

print("python", sys.version.split()[0], "torch", torch.__version__, "torch_geometric", torch_geometric.__version__, "rdkit", rdkit.__version__)


def read(name, *rows, end):
    folder = Path(sys.argv[1]) / name
    raw = folder / "bace" / "raw"
    raw.mkdir(parents=True)
    (raw / "bace.csv").write_text("mol,CID,Class,Model\n" + "\n".join(f"{smiles},-,{label},-" for smiles, label in rows) + end)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        graphs = MoleculeNet(str(folder), "bace")
    molecules = [graph.smiles for graph in graphs]
    return molecules, [str(each.message) for each in said if "molecule" in str(each.message).lower()]


three = ("CCO", 0), ("CCN", 1), ("CCC", 1)
whole, _ = read("whole", *three, end="\n")
cut, said = read("cut", *three, end="")
print(f"without a final line feed: expected {whole}, found {cut}; said: {said or 'nothing'}")
shifted, _ = read("shifted", ("CCO", 0), ("no molecule", 1), ("CCC", 1), end="\n")
print(f"an unreadable row 1: expected row 2 as graph 2 or a number of its row, found {shifted}")
sys.exit(0 if len(whole) == 3 and cut == whole[:2] and not said and shifted == ["CCO", "CCC"] else 1)
PYTHON
"$folder/venv/bin/python" "$folder/check.py" "$folder" && echo "As described." || { echo "The behaviour has changed."; exit 1; }
