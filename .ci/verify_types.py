"""Fails if a public name of the package lacks a type of its own, or if more names are unknown than PyTorch and click leave unknown."""

import json
import os
import subprocess
import sys
from pathlib import Path

LEAST = 0.98
"""Share of names with a known type; bases and aliases of PyTorch's and click's classes are unknown to the checker."""


def main() -> int:
    checker = Path(sys.executable).with_name("basedpyright")
    command = [checker, "--verifytypes", "erasure", "--ignoreexternal", "--outputjson"]
    # With --verifytypes the checker looks for the package beside the first "python", whatever --pythonpath says.
    path = os.pathsep.join((str(checker.parent), os.environ.get("PATH", "")))
    done = subprocess.run(command, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False)  # noqa: S603
    found = json.loads(done.stdout)["typeCompleteness"]
    untyped = [
        f"{each['file']}:{each['range']['start']['line'] + 1}: {symbol['name']}"
        for symbol in found["symbols"]
        if symbol["isExported"]
        for each in symbol["diagnostics"]
        if "missing type annotation" in each["message"] and "range" in each
    ]
    print("\n".join(untyped))
    print(f"{found['completenessScore']:.1%} of the public names have a known type; expected {LEAST:.0%}")
    return int(bool(untyped) or found["completenessScore"] < LEAST)


if __name__ == "__main__":
    sys.exit(main())
