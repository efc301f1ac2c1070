#!/usr/bin/env bash
# DuckDB 2.0.0: several Parquet files read as one table have the column types of the first file.
# One would expect the wider type (as of union_by_name): where the first file has whole numbers, fractions in later files are rounded in silence.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -r "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check duckdb==2.0.0 pyarrow==26.0.1
cat > "$folder/check.py" <<'PYTHON'
import sys

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

print("python", sys.version.split()[0], "duckdb", duckdb.__version__, "pyarrow", pa.__version__)
pq.write_table(pa.table({"value": pa.array([1, 2], pa.int64())}), "1.parquet")
pq.write_table(pa.table({"value": pa.array([0.25, 0.75], pa.float64())}), "2.parquet")


def values(options):
    query = f"SELECT value FROM read_parquet(['1.parquet', '2.parquet']{options}) ORDER BY value"
    return [float(row[0]) for row in duckdb.sql(query).fetchall()]


plain, by_name = values(""), values(", union_by_name=true")
print(f"read_parquet: expected [0.25, 0.75, 1.0, 2.0], found {plain}")
print(f"read_parquet with union_by_name: expected [0.25, 0.75, 1.0, 2.0], found {by_name}")
sys.exit(0 if plain == [0.0, 1.0, 1.0, 2.0] and by_name == [0.25, 0.75, 1.0, 2.0] else 1)
PYTHON
cd "$folder" && "$folder/venv/bin/python" check.py && echo "As described." || { echo "The behaviour has changed."; exit 1; }
