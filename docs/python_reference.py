"""The page of the Python API, made from signatures and docstrings."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

SECTIONS = re.compile(r"^(Args|Returns|Yields|Raises|Example|Source|Cost|Attributes|Class data):\s*$", re.MULTILINE)
ENTRY = re.compile(r"^    (\*{0,2}[\w.]+): (.*?)(?=^    \*{0,2}[\w.]+: |\Z)", re.MULTILINE | re.DOTALL)
LISTED = frozenset({"Args", "Raises", "Attributes", "Class data"})


def python_reference(modules: dict[str, str], markdown: Callable[[str], str]) -> str:
    """Every public name of some modules.

    Args:
        modules: Dotted path of each module to the sentence that introduces it.
        markdown: Turns the text of a docstring into Markdown.

    Returns:
        The page.
    """
    lines = [
        "# Python API",
        "",
        "This page is made from signatures and docstrings by `python docs/generate.py`. What is not listed here is private and may change.",
        "",
    ]
    for path, sentence in modules.items():
        module = importlib.import_module(path)
        lines += [f"## {path}", "", sentence, ""]
        for name in sorted(module.__all__, key=str.casefold):
            lines += entry(name, getattr(module, name), markdown)
    return "\n".join(lines).rstrip() + "\n"


def entry(name: str, value: Any, markdown: Callable[[str], str]) -> Iterator[str]:
    """A class or a function; constants and types have no entry of their own."""
    if inspect.isclass(value):
        yield from (f"### {name}", "", *signature(name, value), *prose(value, markdown))
        for method, member in methods(value):
            yield from (f"#### {name}.{method}", "", *signature(method, member), *prose(member, markdown))
    elif inspect.isfunction(value):
        yield from (f"### {name}", "", *signature(name, value), *prose(value, markdown))


def methods(cls: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties that the class itself documents."""
    for name, member in vars(cls).items():
        inner = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if not name.startswith("_") and inspect.isfunction(inner) and inspect.getdoc(inner):
            yield name, member if isinstance(member, property) else inner


def signature(name: str, value: Any) -> list[str]:
    if isinstance(value, property):
        return []
    try:
        parameters = inspect.signature(value)
    except (TypeError, ValueError):
        return []
    shown = list(parameter_list(parameters))
    result = parameters.return_annotation
    arrow = "" if inspect.isclass(value) or result is inspect.Signature.empty else f" -> {annotation(result)}"
    short = f"{name}({', '.join(shown)}){arrow}"
    if len(short) > 110:
        short = "\n".join([f"{name}(", *(f"    {text}," for text in shown), f"){arrow}"])
    return ["```python", short, "```", ""]


def parameter_list(signature: inspect.Signature) -> Iterator[str]:
    starred = False
    for name, parameter in signature.parameters.items():
        if name in {"self", "cls"}:
            continue
        starred = starred or parameter.kind is parameter.VAR_POSITIONAL
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            starred = True
            yield "*"
        stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        typed = "" if parameter.annotation is parameter.empty else f": {annotation(parameter.annotation)}"
        yield f"{stars}{name}{typed}{default(parameter)}"


def annotation(value: Any) -> str:
    return value if isinstance(value, str) else inspect.formatannotation(value)


def default(parameter: inspect.Parameter) -> str:
    if parameter.default is parameter.empty:
        return ""
    value = parameter.default
    if inspect.isfunction(value) or inspect.isclass(value):
        return f" = {value.__name__}"
    return " = …" if repr(value).startswith("<") else f" = {value!r}"


def prose(value: Any, markdown: Callable[[str], str]) -> Iterator[str]:
    """A docstring with its sections as lists and code."""
    parts = SECTIONS.split(inspect.getdoc(value) or "")
    yield from (markdown(parts[0].strip()), "")
    for title, body in zip(parts[1::2], parts[2::2], strict=True):
        text = body.strip("\n")
        if title == "Example":
            yield from ("**Example**", "", "```python", inspect.cleandoc(text), "```", "")
        elif title in LISTED and (found := ENTRY.findall(text + "\n")):
            yield from (f"**{title}**", "", *(f"- `{name}`: {markdown(' '.join(words.split()))}" for name, words in found), "")
        else:
            yield from (f"**{title}**: {markdown(' '.join(text.split()))}", "")
