"""Every benchmark with a limit of its own, one after the other; exits 1 if one misses it. ``make bench-limits`` runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
BENCHMARKS = sorted(path for path in HERE.glob("*.py") if path.name not in {"run.py", "baseline.py"})


def main() -> int:
    missed = []
    for path in BENCHMARKS:
        print(f"== {path.stem}", flush=True)
        if subprocess.run([sys.executable, str(path)], check=False).returncode:
            missed.append(path.stem)
        print(flush=True)
    print(f"limits missed by: {', '.join(missed)}" if missed else "every benchmark is within its limits")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
