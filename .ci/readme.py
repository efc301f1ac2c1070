"""Whether a run of the demo printed what the README shows, line by line: ``make demo | python .ci/readme.py``.

Words, rows and columns must be the same. Numbers may differ as far as another processor makes them differ: rates by 0.06, the average gap
by 4 percentage points; a few verdicts that the test decides may tip. Intervals, losses and the marks that follow from the numbers are of
one machine; which method is nearest and how surely follows from them.
"""

import re
import sys
from pathlib import Path

CELL = re.compile(r"-?\d+\.\d+|\*|±")
COLUMNS = re.compile(r" {2,}")
RATE, GAP = 0.06, 4.0
TIPPED = 4  # verdicts of methods that the test may decide otherwise on another processor
DECIDED = ("not told apart", "indistinguishable", "under-forgotten", "over-forgotten", "differs from retraining", "damaged")
ADVICE = ("Use ", "No method here forgets", "By these values there was nothing to forget", "Retrain without the data")
VERDICT = re.compile("|".join(DECIDED))


def differences(expected: str, found: str) -> list[str]:
    """One sentence for each line that is not what was expected."""
    wanted, got = expected.strip().splitlines(), found.strip().splitlines()
    if len(wanted) != len(got):
        return [f"{len(wanted)} lines were expected and {len(got)} printed"]
    problems, titles, tipped = [], [], 0
    for a, b in zip(wanted, got, strict=True):
        if a.startswith("model "):
            titles = [title for title in COLUMNS.split(a.strip())[1:] if title != "verdict"]
        if why := difference(a, b, titles):
            problems.append(f"expected: {a}\nfound:    {b}\n{why}")
        tipped += VERDICT.findall(a) != VERDICT.findall(b) and not a.startswith(ADVICE)
    if tipped > TIPPED:
        problems.append(f"{tipped} verdicts differ; {TIPPED} may")
    return problems


def difference(expected: str, found: str, titles: list[str]) -> str:
    """Why two lines are not the same, or nothing."""
    if expected.startswith(ADVICE):
        return "" if found.startswith(ADVICE) else "the advice differs"
    (words, numbers), (other_words, other_numbers) = parts(expected), parts(found)
    if words != other_words:
        return "the words differ"
    if len(numbers) != len(other_numbers):
        return "the columns differ"
    if "floor" in words or len(numbers) != len(titles):
        return ""
    bounds = [GAP if "Gap" in title else RATE if title.startswith(("accuracy", "UMIA")) else float("inf") for title in titles]
    off = [f"{a} and {b}" for a, b, bound in zip(numbers, other_numbers, bounds, strict=True) if abs(a - b) > bound]
    return f"too far apart: {', '.join(off)}" if off else ""


def parts(line: str) -> tuple[str, list[float]]:
    """The words of a line without verdicts of the test, and its numbers without halves of intervals."""
    words = " ".join(VERDICT.sub(" ", CELL.sub(" ", line)).split())
    return words, [float(n) for n in CELL.findall(re.sub(r"± \d+\.\d+", "", line)) if n not in "*±"]


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
