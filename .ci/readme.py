"""Whether a run of the demo printed what the README shows, line by line: ``make demo | python .ci/readme.py``.

Words, rows, columns and verdicts must be the same. Numbers may differ as far as another processor makes them differ: rates by 0.06,
the average gap by 4 percentage points. Times, memory and the marks that follow from the numbers are of one machine; which method is
recommended follows from them.
"""

import re
import sys
from pathlib import Path

CELL = re.compile(r"-?\d+\.\d+|\*|±")
ADVICE = re.compile(r"^Use .+?: its|^.+? (?=came nearest)|\d+\.\d+ (?=standard deviations)")
RATE, GAP = 0.06, 4.0
N_RATES = 4  # the first columns; time, precompute and memory follow, the average gap is the last


def differences(expected: str, found: str) -> list[str]:
    """One sentence for each line that is not what was expected."""
    wanted, got = expected.strip().splitlines(), found.strip().splitlines()
    if len(wanted) != len(got):
        return [f"{len(wanted)} lines were expected and {len(got)} printed"]
    problems, rate = [], RATE
    for a, b in zip(wanted, got, strict=True):
        if a.startswith("model "):
            rate = RATE if "accuracy" in a else GAP  # what does not fit into the first table goes into further ones
        if why := difference(a, b, rate):
            problems.append(f"expected: {a}\nfound:    {b}\n{why}")
    return problems


def difference(expected: str, found: str, rate: float = RATE) -> str:
    """Why two lines are not the same, or nothing."""
    if ADVICE.search(expected):
        expected, found = (re.sub(r"\d+ %", "", ADVICE.sub("", line)) for line in (expected, found))
    (words, numbers), (other_words, other_numbers) = parts(expected), parts(found)
    if words != other_words:
        return "the words differ"
    if len(numbers) != len(other_numbers):
        return "the columns differ"
    bounds = [rate] * N_RATES + [float("inf")] * (len(numbers) - N_RATES)
    if len(numbers) > N_RATES + 3 or "floor" in words:
        bounds[-1] = GAP
    off = [f"{a} and {b}" for a, b, bound in zip(numbers, other_numbers, bounds, strict=False) if abs(a - b) > bound]
    return f"too far apart: {', '.join(off)}" if off else ""


def parts(line: str) -> tuple[str, list[float]]:
    """The words of a line, and its numbers."""
    return " ".join(CELL.sub(" ", line).split()), [float(n) for n in CELL.findall(line) if n not in "*±"]


def main() -> None:
    """Read what was printed, and compare."""
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    expected = readme.partition("<!-- demo -->")[2].partition("<!-- /demo -->")[0].partition("```text\n")[2].rpartition("```")[0]
    printed = sys.stdin.read()
    found = printed[printed.find("model  ") :]
    problems = differences(expected, found)
    if problems:
        sys.exit("The demo does not print what the README shows.\n" + "\n".join(problems))
    sys.stdout.write("The demo prints what the README shows.\n")


if __name__ == "__main__":
    main()
