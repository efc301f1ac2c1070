"""BibTeX of the papers behind methods and measures."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from erasure.reports.exports import latex

__all__ = ["bibtex"]

_YEAR = re.compile(r"\b(1[89]\d\d|20\d\d)\b")
_ARXIV = re.compile(r"arXiv:\s*(\d{4}\.\d{4,5})", re.IGNORECASE)
_DOI = re.compile(r"\b(?:doi:\s*)?(10\.\d{4,9}/[^\s,;]+)", re.IGNORECASE)


def bibtex(sources: Iterable[Mapping[str, Any]]) -> str:
    """An entry for each paper, with what uses it in a note; an entry that a component brings is taken as it is.

    Components cite a paper by authors, venue and identifier, so these entries have no title: complete them before you publish.

    Args:
        sources: ``name``, ``paper`` and ``bibtex`` of each component.
    """
    users: dict[str, list[str]] = {}
    given: dict[str, None] = {}
    for source in sources:
        if str(source.get("bibtex", "")).strip():
            given[str(source["bibtex"]).strip()] = None
            continue
        for paper in re.split(r";\s*", str(source.get("paper", ""))):
            if _YEAR.search(paper) or _ARXIV.search(paper):
                users.setdefault(paper.strip(), []).append(str(source.get("name", "")))
    entries: dict[str, str] = {}
    for paper, names in users.items():
        key = base = _key(paper)
        letter = ord("a")
        while key in entries:
            key, letter = f"{base}{chr(letter)}", letter + 1
        entries[key] = _entry(key, paper, names)
    return "\n\n".join([*given, *entries.values()]) + "\n" if given or entries else ""


def _key(paper: str) -> str:
    plain = unicodedata.normalize("NFKD", paper).encode("ascii", "ignore").decode()
    author = re.match(r"[A-Za-z-]+", plain)
    year = _YEAR.search(paper) or _ARXIV.search(paper)
    digits = year.group(1) if year else ""
    digits = f"20{digits[:2]}" if "." in digits else digits
    return f"{(author.group(0) if author else 'anonymous').lower()}{digits}"


def _entry(key: str, paper: str, names: Iterable[str]) -> str:
    year, arxiv, doi = _YEAR.search(paper), _ARXIV.search(paper), _DOI.search(paper)
    authors = _authors(paper)
    fields = {
        "author": latex(authors) if authors else "",
        "howpublished": latex(paper),
        "year": year.group(1) if year else f"20{arxiv.group(1)[:2]}" if arxiv else "",
        "eprint": arxiv.group(1) if arxiv else "",
        "archiveprefix": "arXiv" if arxiv else "",
        "doi": doi.group(1).translate({ord(c): None for c in "{}\\"}) if doi else "",
        "note": latex(f"Used by {', '.join(dict.fromkeys(names))}"),
    }
    body = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items() if value)
    return f"@misc{{{key},\n{body}\n}}"


def _authors(paper: str) -> str:
    """Names in front of the venue: up to the first part with a digit or with an acronym in it."""
    names = []
    for part in re.split(r",\s*|\s*&\s*|\s+and\s+", paper):
        et_al = part.strip().endswith("et al.")
        name = part.strip().removesuffix("et al.").strip()
        if not name or re.search(r"\d|\(|[A-Z]{2,}|:", name):
            break
        names.append(name)
        if et_al:
            names.append("others")
            break
    return " and ".join(names)
