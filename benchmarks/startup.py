"""Seconds until ``erasure --help`` and ``erasure list`` have answered, as whole processes."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

LIMIT_S = 0.4
REPEATS = 9


def main() -> int:
    missed = False
    print(f"{'command':24}{'median s':>10}{'limit':>8}")
    for arguments in (["--help"], ["list"], ["list", "unlearners"]):
        seconds = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-m", "erasure", *arguments], capture_output=True, check=True)
            seconds.append(time.perf_counter() - start)
        missed |= statistics.median(seconds) > LIMIT_S
        print(f"erasure {' '.join(arguments):16}{statistics.median(seconds):10.3f}{LIMIT_S:8.1f}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
