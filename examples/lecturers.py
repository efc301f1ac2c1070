"""Ratings of lecturers by students (InstEval), from R's data in Debian's package r-cran-lme4 to a table for ``RatingsFile``.

``python examples/lecturers.py FOLDER RATINGS.csv`` reads what ``dpkg-deb -x`` has unpacked into a folder. It needs ``pip install rdata``.
"""

from __future__ import annotations

import sys
import warnings
import zlib
from pathlib import Path


def main() -> None:
    """Write a line for each rating: student, lecturer, 1 to 5."""
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    folder, target = map(Path, sys.argv[1:])
    import rdata

    found = next(folder.rglob("lme4/data/Rdata.rdx"), None)
    if found is None:
        sys.exit(f"{folder} has no lme4/data/Rdata.rdx: unpack r-cran-lme4 into it with dpkg-deb -x")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it has to guess what kind of file this is
        start, size = map(int, rdata.read_rds(found)["variables"]["InstEval"])
        # Four bytes in front say how long it is unpacked.
        packed = found.with_suffix(".rdb").read_bytes()[start + 4 : start + size]
        table = rdata.conversion.convert(rdata.parser.parse_data(zlib.decompress(packed)))
    target.parent.mkdir(parents=True, exist_ok=True)
    table[["s", "d", "y"]].to_csv(target, index=False)
    found_there = f"{len(table):,} ratings of {table['d'].nunique():,} lecturers by {table['s'].nunique():,} students"
    sys.stdout.write(f"{target}: {found_there}\n")


if __name__ == "__main__":
    main()
