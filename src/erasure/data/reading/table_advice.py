"""What to do about text among the inputs of a table, by what the texts look like."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Sequence

from erasure.data.reading.table_columns import RawTable

__all__ = ["advice", "is_molecule", "looks_like", "written_otherwise"]

_LOOKED_AT = 5000
_SHOWN = 8
_CUT = 40
_ODD_SHARE = 0.05
"""Texts among numbers are marks for missing values where they are so few of all."""

_NUMBER = r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?"
_OTHER_DIGITS = r"[+-]?\d+(\.\d*)?"
_BETWEEN_THOUSANDS = r"[,_\u202f\u2009\u00a0\u2019\x27 ]"
_GROUPED = rf"[+-]?\d{{1,3}}({_BETWEEN_THOUSANDS}\d{{3}})+(\.\d+)?"
_MONEY = r"[$€£¥]|USD|EUR|GBP|CHF"
_DATE = re.compile(
    r"(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4})([T ]\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?\s*(Z|[+-]\d{2}:?\d{2})?)?"
)
_TIME = re.compile(r"\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?( ?[APap][Mm])?")
_HEXADECIMAL = re.compile(r"0[xX][0-9a-fA-F]+")
_UNIT = re.compile(rf"{_NUMBER}(\s*[^\W\d_][\w/²³]*)")
_SMILES = re.compile(r"[A-Za-z0-9@+\-\[\]()=#$/\\%.:*]+")
_ATOMS = re.compile(r"(Cl|Br|[BCNOPSFI]|[bcnops]|\[[^\]]+\])")


def advice(table: RawTable, columns: Sequence[str]) -> str:
    """One message on input columns that hold text: what is in them, and what reads it.

    Args:
        table: The table.
        columns: The columns, one or more.
    """
    shown = ", ".join(columns[:_SHOWN]) + (", …" if len(columns) > _SHOWN else "")
    remedies: dict[str, list[str]] = {}
    for name in columns:
        remedies.setdefault(looks_like([text for text, _ in _texts(table, name)], name), []).append(name)
    text, where = next((each for each in _texts(table, columns[0]) if not _fits(_NUMBER)(each[0])), ("", "row 1"))
    first = text if len(text) <= _CUT else f"{text[: _CUT - 1]}…"
    each = "; ".join(f"{reason}" if len(remedies) == 1 else f"{', '.join(names)}: {reason}" for reason, names in remedies.items())
    return f'text in the feature columns {shown} ("{columns[0]}" has {first!r} in {where}); {each}'


def looks_like(texts: Sequence[str], name: str) -> str:
    """What the texts of a column are, and what to do about it, in one sentence.

    Args:
        texts: Some values, in their order, missing ones left out.
        name: The column.

    Example:
        >>> looks_like(["Rome", "Bonn", "Rome", "Bonn"], "city")
        'list them as categorical'
    """
    values = list(dict.fromkeys(texts))
    written = _as_written(values)
    if written is not None:
        what, characters, comma = written
        steps = ", ".join(_step(character, name) for character in characters)
        remedy = (
            f'the step{"s" if len(characters) > 1 else ""} {steps} in "preprocess" read{"s" if len(characters) == 1 else ""} them'
        )
        return (
            f"these are {what}: {remedy}"
            if not comma
            else f'these are {what}: the source TableFile reads them with decimal = ","'
        )
    if (
        values
        and any("\u2212" in each for each in values)
        and all(_fits(_NUMBER)(each.replace("\u2212", "-")) for each in values)
    ):
        return "these are numbers with the minus sign of printed texts (U+2212): write a hyphen instead of it in the file"
    if values and all(map(_fits(rf"{_NUMBER}|\({_NUMBER}\)"), values)) and any(each.startswith("(") for each in values):
        return "these are numbers, negative ones in brackets as accountants write them: write a hyphen before them in the file"
    if values and not all(map(str.isascii, values)) and all(map(_fits(_OTHER_DIGITS), values)):
        return "these are numbers in other digits, such as Arabic or full-width ones: write them with 0 to 9 in the file"
    odd = [each for each in values if not _fits(_NUMBER)(each)]
    if (
        values
        and len(odd) < len(values)
        and sum(each in set(odd) for each in texts) <= max(2, _ODD_SHARE * len(texts))
        and len(odd) <= 2
    ):
        marks = " and ".join(repr(each) for each in odd)
        return f"all other values are numbers: if {marks} stands for a missing value, add it to na_values"
    if all(map(_DATE.fullmatch, values)):
        return (
            "these are dates: give parts of them (year, month, days since a day) as numbers in the file, or leave the column out"
        )
    if all(map(_TIME.fullmatch, values)):
        return (
            "these are times of the day: give hours, or minutes since midnight, as numbers in the file, or leave the column out"
        )
    if all(map(_HEXADECIMAL.fullmatch, values)):
        return "these are hexadecimal numbers: give them in the file as decimal ones, or leave the column out"
    if all(each.startswith("{") and each.endswith("}") for each in values):
        return "these are JSON objects: give what is in them as columns of their own in the file, or leave the column out"
    unit = _unit(values)
    if unit:
        return f'these are numbers with the unit "{unit.strip()}": the step {_step(unit, name)} in "preprocess" reads them'
    if all(each.startswith("[") and each.endswith("]") for each in values):
        longest = max(each.count(",") + 1 for each in values)
        step = f'{{"class": "ParseLists", "parameters": {{"x": true, "columns": ["{name}"], "max_length": {longest}}}}}'
        return f'these are lists: the step {step} in "preprocess" reads them'
    if all(map(is_molecule, values)):
        return "these are molecules (SMILES): the source MoleculeNet makes graphs of them"
    if len(values) <= max(2, len(texts) // 2):
        return "list them as categorical"
    if sum(" " in each for each in values) > len(values) // 2:
        return "this is free text: leave the column out, or read it as text by the source HuggingFace"
    return "nearly every row has another value, as identifiers have: leave the column out of the features"


def written_otherwise(texts: Sequence[str]) -> bool:
    """Whether texts are numbers, written otherwise than a source reads them: with thousands, signs, or a mark among them."""
    said = looks_like(texts, "")
    return said.startswith(("these are numbers", "all other values are numbers"))


def _as_written(values: Sequence[str]) -> tuple[str, list[str], bool] | None:
    """What numbers are written with, the characters to remove, and whether a comma stands for the point."""
    marks = {mark for each in values for mark in re.findall(_MONEY, each)}
    percent = all(each.rstrip().endswith("%") for each in values)
    bare = [re.sub(rf"({_MONEY}|%)", "", each).strip() for each in values]
    grouped = {each[1] for each in (re.search(rf"\d({_BETWEEN_THOUSANDS})\d{{3}}", value) for value in bare) if each}
    decimal_comma = all(map(_fits(r"[+-]?\d{1,3}(\.\d{3})*,\d+|[+-]?\d+"), bare)) and any("," in each for each in bare)
    as_thousands = all(map(_fits(rf"{_NUMBER}|{_GROUPED}"), bare))
    if not bare or not (as_thousands or decimal_comma) or not all(bare):
        return None
    what, characters = [], [*sorted(marks)]
    if marks:
        what.append(f"a currency sign ({', '.join(sorted(marks))})")
    if percent:
        what.append("a percent sign")
        characters.append("%")
    elif any("%" in each for each in values):
        return None
    if as_thousands and grouped:
        what.append("a thousands separator")
        characters += sorted(grouped)
    elif decimal_comma:
        what.append("a decimal comma")
    return ("numbers with " + " and ".join(what), characters, decimal_comma and not as_thousands) if what else None


def _unit(values: Sequence[str]) -> str:
    """The letters behind all numbers, with the space between; empty where these are not the same everywhere."""
    found = [_UNIT.fullmatch(each) for each in values]
    units = {each[each.lastindex or 0] for each in found if each is not None}
    return units.pop() if len(values) > 1 and None not in found and len(units) == 1 else ""


def _step(character: str, name: str) -> str:
    # What looks like a space, or like nothing, is written in a way that survives being shown and copied.
    shown = json.dumps(character, ensure_ascii=not character.isprintable())
    called = json.dumps(name, ensure_ascii=False)
    return f'{{"class": "RemoveCharacter", "parameters": {{"character": {shown}, "x": true, "columns": [{called}]}}}}'


def _fits(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern)
    return lambda text: compiled.fullmatch(text) is not None


def is_molecule(text: str) -> bool:
    """Whether a text reads like a molecule: atoms, and brackets, bonds or rings between them."""
    rest = re.sub(r"[0-9@+\-()=#$/\\%.:*H]", "", _ATOMS.sub("", text))
    return bool(_SMILES.fullmatch(text)) and not rest and bool(re.search(r"[()=#\[\]]|[a-z]\d|[CNO]{2}", text))


def _texts(table: RawTable, name: str) -> list[tuple[str, str]]:
    """The first values that are there, each with its row."""
    found = (
        (str(value), table.row(start + index))
        for start, (values,) in table.parts(name)
        for index, value in enumerate(values.to_pylist())
        if value is not None
    )
    return list(itertools.islice(found, _LOOKED_AT))
