"""BibTeX of the papers behind methods and measures."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from erasure.records.evidence import SourceRecord
from erasure.reports.exports import latex
from erasure.reports.titles import OLDER_TITLES, TITLES

__all__ = ["bibtex"]

_MAX_WORDS = 3
"""Of a name; what has more is a journal."""
_YEAR = re.compile(r"\b(1[89]\d\d|20\d\d)\b")
_ARXIV = re.compile(r"arXiv:\s*(\d{4}\.\d{4,5})", re.IGNORECASE)
_DOI = re.compile(r"\b(?:doi:\s*)?(10\.\d{4,9}/[^\s,;]+)", re.IGNORECASE)


def bibtex(sources: Iterable[SourceRecord]) -> str:
    """An entry for each paper, with what uses it in a note; an entry that a component brings is taken as it is.

    Components cite a paper by authors, venue and identifier. Titles that are not known are left out; complete those
    entries before you publish.

    Args:
        sources: The components and their papers.
    """
    users: dict[str, list[str]] = {}
    papers: dict[str, str] = {}
    given: dict[str, None] = {}
    for source in sources:
        if source.bibtex.strip():
            given[source.bibtex.strip()] = None
            continue
        for paper in re.split(r";\s*", source.paper):
            if _YEAR.search(paper) or _ARXIV.search(paper):
                arxiv = _ARXIV.search(paper)
                same = arxiv.group(1) if arxiv else str(_split(paper))
                users.setdefault(same, []).append(source.name)
                # One paper, cited in several ways: the one with the most authors, and nothing beside it, says most.
                papers[same] = max(papers.get(same, paper.strip()), paper.strip(), key=_authors_known)
    entries: dict[str, str] = {}
    for same, names in users.items():
        paper = papers[same]
        key = base = _key(paper)
        letter = ord("a")
        while key in entries:
            key, letter = f"{base}{chr(letter)}", letter + 1
        entries[key] = _entry(key, paper, names)
    return "\n\n".join([*given, *entries.values()]) + "\n" if given or entries else ""


def _authors_known(paper: str) -> tuple[int, int]:
    authors, _ = _split(paper)
    return len(authors) - 2 * ("others" in authors), -len(paper)


def _key(paper: str) -> str:
    authors, _ = _split(paper)
    plain = unicodedata.normalize("NFKD", authors[0].rpartition(" ")[2] if authors else paper).encode("ascii", "ignore").decode()
    author = re.match(r"[A-Za-z-]+", plain)
    year = _YEAR.search(paper) or _ARXIV.search(paper)
    digits = year.group(1) if year else ""
    digits = f"20{digits[:2]}" if "." in digits else digits
    return f"{(author.group(0) if author else 'anonymous').lower()}{digits}"


def _entry(key: str, paper: str, names: Iterable[str]) -> str:
    year, arxiv, doi = _YEAR.search(paper), _ARXIV.search(paper), _DOI.search(paper)
    authors, rest = _split(paper)
    title = TITLES.get(arxiv.group(1), "") if arxiv else OLDER_TITLES.get(_key(paper), "")
    fields = {
        "author": latex(" and ".join(authors)),
        "title": f"{{{latex(title)}}}" if title else "",
        "howpublished": latex(rest or paper),
        "year": year.group(1) if year else f"20{arxiv.group(1)[:2]}" if arxiv else "",
        "eprint": arxiv.group(1) if arxiv else "",
        "archiveprefix": "arXiv" if arxiv else "",
        "doi": doi.group(1).translate({ord(c): None for c in "{}\\"}) if doi else "",
        "note": latex(f"Used by {', '.join(dict.fromkeys(names))}"),
    }
    body = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items() if value)
    return f"@misc{{{key},\n{body}\n}}"


def _split(paper: str) -> tuple[list[str], str]:
    """Authors, and what comes behind them: they end at the first part with a digit, an acronym or many words in it."""
    text = re.sub(r"\s*\([^)]*\)", "", paper)
    text = re.sub(r"^[^,:]*(?<!doi):\s+", "", text)  # what the paper is cited for
    text = re.sub(r"^(?:[a-z]+\s+)+(?=[A-Z])", "", text)
    names: list[str] = []
    at = 0
    for part in re.finditer(r"(.+?)(?:,\s*|\s*&\s*|$)", text):
        name = part[1].strip()
        et_al = name.endswith("et al.")
        name = name.removesuffix("et al.").strip()
        if name and (re.search(r"\d|[A-Z]{2,}|:", name) or len(name.split()) > _MAX_WORDS):
            break
        pair = name.split(" and ")
        names += pair if len(pair) == 2 and all(len(each.split()) == 1 for each in pair) else [name] if name else []
        at = part.end()
        if et_al:
            names.append("others")
            break
    rest = re.sub(r"^(?:etc|et al)\.,?\s*", "", text[at:])
    return (names, rest.strip(" ,")) if names and rest.strip(" ,") else ([], text)
