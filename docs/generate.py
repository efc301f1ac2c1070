"""Writes the pages that are made from the registry; ``python docs/generate.py --check`` says whether they are up to date."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

from erasure.component import Call, Component
from erasure.registry.builtins import BUILTINS
from erasure.registry.lookup import Registry
from erasure.unlearners.contract import Unlearner

PAGE = Path(__file__).parent / "unlearners.md"
SHARED = frozenset({"forget", "retain", "train", "validation", "batch_size", "schedule", "batch_norm", "max_grad_norm"})


def shown(value: Any) -> str:
    """A default as people would write it."""
    if isinstance(value, Call):
        return f"{value.name}({', '.join(f'{name}={shown(v)}' for name, v in value.parameters.items())})"
    if isinstance(value, Component):
        return type(value).__name__
    return repr(value).replace("'", '"') if isinstance(value, str | tuple) else str(value)


def defaults(cls: type[Component]) -> str:
    """The parameters of a method's own, with their defaults."""
    parts = []
    for field in dataclasses.fields(cls):
        if field.name in SHARED:
            continue
        if field.default is not dataclasses.MISSING:
            parts.append(f"`{field.name}={shown(field.default)}`")
        elif field.default_factory is not dataclasses.MISSING:
            parts.append(f"`{field.name}={shown(field.default_factory())}`")
        else:
            parts.append(f"`{field.name}` (required)")
    return ", ".join(parts) or "none"


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def page() -> str:
    """The catalogue of unlearners."""
    lines = [
        "# Unlearners",
        "",
        "This page is made from the registry by `python docs/generate.py`. `erasure describe NAME` says more about each.",
        "",
        "Every method also takes `forget`, `retain` and `train` (names of partitions) and `batch_size`; methods that take gradient steps",
        "also `schedule`, `batch_norm` and `max_grad_norm`.",
        "",
        "| name | paper | reads | cost | parameters and defaults |",
        "|---|---|---|---|---|",
    ]
    deviations = ["", "## Deviations", "", "Where a method departs from its paper or from the reference code.", ""]
    for name in BUILTINS["unlearner"]:
        cls = Registry().resolve(name, Unlearner).cls
        assert issubclass(cls, Unlearner)
        source = cls.source
        assert source is not None, f"{name} has no source"
        reads = ", ".join(sorted(cls.reads)) or "nothing"
        lines.append(f"| **{name}** | {cell(source.paper)} | {reads} | {cell(cls.cost)} | {cell(defaults(cls))} |")
        if source.deviations:
            code = f" (compared with {source.code})" if source.code else ""
            deviations += [f"- **{name}**{code}:", *(f"    - {cell(sentence)}" for sentence in source.deviations)]
    return "\n".join([*lines, *deviations]) + "\n"


def main() -> int:
    text = page()
    if "--check" in sys.argv[1:]:
        current = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
        if current != text:
            print(f"{PAGE.name} is not up to date; run python docs/generate.py")
            return 1
        return 0
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
