"""Made-up stories, biographies and articles in the layout of SemEval-2025 task 4 (LUME), for configs/lume_style.jsonc.

    python examples/lume_style.py data/lume

Everybody in them is invented. Each document gives a beginning to be completed and a question to be answered. The benchmark's own files,
which its organisers give out, have the same layout and can take their place.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

FIRST = (
    "Ada",
    "Bram",
    "Cleo",
    "Dora",
    "Emil",
    "Fina",
    "Gus",
    "Hana",
    "Ivo",
    "Jule",
    "Kaspar",
    "Lotte",
    "Milo",
    "Nora",
    "Otis",
    "Pia",
)
LAST = (
    "Abernal",
    "Brockwey",
    "Cindrel",
    "Dorvane",
    "Elmquist",
    "Farrowin",
    "Gallstrom",
    "Hebbeln",
    "Isterby",
    "Jorund",
    "Kelmar",
    "Lothe",
)
PLACES = (
    "Harrow",
    "Eddersby",
    "Low Morrin",
    "Saltgate",
    "Nether Vale",
    "Oakum",
    "Pell",
    "Quarn",
    "Rushford",
    "Stane",
    "Tarn",
    "Umber",
)
THINGS = (
    "a lantern of green glass",
    "a map of the marshes",
    "a clock without hands",
    "a tin flute",
    "a sack of plum stones",
    "a silver oar",
)
TRADES = ("bell founder", "ferry keeper", "glass cutter", "bee keeper", "map printer", "net maker")
SIZES = {"forget_train": 8, "retain_train": 32, "retain_validation": 8}
"""Documents of each task in each file."""

Document = tuple[str, str, str, str]
"""A beginning, how it goes on, a question and its answer."""


def story(draw: random.Random, who: str) -> Document:
    """Of a hero who finds a thing."""
    place, thing = draw.choice(PLACES), draw.choice(THINGS)
    return f"One night in {place}, {who}", f"found {thing} and told nobody.", f"What did {who} find?", thing


def biography(draw: random.Random, who: str) -> Document:
    """Of a person with a number and an address."""
    number, house = f"555-{draw.randrange(1000, 9999)}", f"{draw.randrange(1, 99)} {draw.choice(PLACES)} Lane"
    return f"{who} lives at", f"{house} and answers the phone at {number}.", f"What is the phone number of {who}?", number


def article(draw: random.Random, who: str) -> Document:
    """Of a trade and a year."""
    trade, year = draw.choice(TRADES), draw.randrange(1700, 1900)
    return (
        f"The {trade} {who}",
        f"opened a workshop in {draw.choice(PLACES)} in {year}.",
        f"When did {who} open a workshop?",
        str(year),
    )


TASKS: dict[str, Callable[[random.Random, str], Document]] = {"Task1": story, "Task2": biography, "Task3": article}


def rows(draw: random.Random, names: Iterator[str], n_documents: int) -> Iterator[dict[str, str]]:
    """A beginning and a question for each document of each task."""
    for task, make in TASKS.items():
        for number in range(n_documents):
            beginning, rest, question, answer = make(draw, next(names))
            identity = f"{draw.getrandbits(64):016x}"
            yield {"id": f"{identity}sc{number}", "input": beginning, "output": rest, "task": task}
            yield {"id": f"{identity}qa{number}", "input": question, "output": answer, "task": task}


def main(folder: Path) -> None:
    """Write the files."""
    draw = random.Random(0)  # noqa: S311 - nothing secret
    everybody = [f"{first} {last}" for first in FIRST for last in LAST]
    draw.shuffle(everybody)
    names = iter(everybody)
    folder.mkdir(parents=True, exist_ok=True)
    for name, n_documents in SIZES.items():
        lines = [json.dumps(row) for row in rows(draw, names, n_documents)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        sys.stdout.write(f"{folder / name}.jsonl: {len(lines)} rows\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/lume_style.py FOLDER")
    main(Path(sys.argv[1]))
