"""CPU seconds until ``erasure --help`` and ``erasure list`` have answered, as whole processes.

Other programs may share the machine: of several tries the fastest counts, which they disturbed least. Exits with 1 above the limit.
"""

from __future__ import annotations

import os
import subprocess
import sys

LIMIT_S = 0.4
REPEATS = 9


def children_s() -> float:
    """CPU seconds of all processes that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def main() -> int:
    missed = False
    print(f"{'command':24}{'CPU s':>10}{'limit':>8}")
    for arguments in (["--help"], ["list"], ["list", "unlearners"]):
        seconds = []
        for _ in range(REPEATS):
            start = children_s()
            subprocess.run([sys.executable, "-m", "erasure", *arguments], capture_output=True, check=True)
            seconds.append(children_s() - start)
        missed |= min(seconds) > LIMIT_S
        print(f"erasure {' '.join(arguments):16}{min(seconds):10.3f}{LIMIT_S:8.1f}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
