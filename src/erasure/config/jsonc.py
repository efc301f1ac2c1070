"""JSON with comments and trailing commas, in which every value and every key keeps its position."""

from __future__ import annotations

import functools
import json
import math
import re
import unicodedata
from typing import TYPE_CHECKING, Any, NoReturn

from erasure.config.tree import MAX_DEPTH, Node
from erasure.deferred import deferred
from erasure.errors import ConfigError, Diagnostic, Position

if TYPE_CHECKING:
    from lark import Lark, Token, Tree
    from lark.parsers.lalr_interactive_parser import InteractiveParser

__all__ = ["parse"]

# The terminals match every text, faults included (an unclosed string, a quote of the wrong kind, any other character), so
# that each fault arrives as a token with a position and gets a message of its own. Priorities decide between them.
_GRAMMAR = r"""
start: _value
_value: object | list | STRING | WORD | SINGLE_QUOTED | UNCLOSED_COMMENT | STRAY
object: LBRACE (_pair (_COMMA _pair)* _COMMA?)? _RBRACE
_pair: STRING _COLON _value
list: LSQB (_value (_COMMA _value)* _COMMA?)? _RSQB

LBRACE: "{"
_RBRACE: "}"
LSQB: "["
_RSQB: "]"
_COMMA: ","
_COLON: ":"
COMMENT.3: /\/\/[^\n]*|\/\*[\s\S]*?\*\//
STRING.2: /"[^"\\\n]*(?:\\[^\n][^"\\\n]*)*"?/
SINGLE_QUOTED.2: /'[^'\n]*'?/
UNCLOSED_COMMENT.2: "/*"
WORD.1: /[^\s\[\]{}:,;="'\/#*\x00-\x1f\x7f]+/
WHITESPACE.1: /[ \t\n]+/
STRAY.-1: /[\s\S]/
%ignore COMMENT
%ignore WHITESPACE
"""

_WORDS = {"true": True, "false": False, "null": None}
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_CLOSED_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"')
_ESCAPE = re.compile(r'\\(?P<escape>["\\/bfnrt]|u[0-9a-fA-F]{4})|\\(?P<wrong>u[0-9a-fA-F]{0,3}|.)|(?P<control>[\x00-\x1f])')
_SURROGATE = re.compile("[\ud800-\udfff]")
_SHOWN = {"LBRACE": "'{'", "_RBRACE": "'}'", "LSQB": "'['", "_RSQB": "']'", "_COMMA": "','", "_COLON": "':'"}
_WORD_HINTS = {
    "true": "write true",
    "false": "write false",
    "yes": "write true",
    "no": "write false",
    "none": "write null",
    "undefined": "write null",
    "nan": "JSON has no NaN; leave the key out or write null",
    "inf": "JSON has no infinity; leave the key out, write null or a large number",
    "infinity": "JSON has no infinity; leave the key out, write null or a large number",
}
_STRAY_HINTS = {
    "=": "write ':' between a key and its value",
    ";": "write ',' between values",
    "#": "comments begin with //",
    "*": "no comment is open here; comments do not nest",
    "/": "comments are // to the end of the line, or /* … */",
}
_KEPT = 16
"""Texts whose trees, which nobody changes, are kept: a command reads its configuration up to three times."""
_CURLY_QUOTES = "“”„‟«»‘’"


@functools.lru_cache(maxsize=_KEPT)
def parse(text: str, file: str, max_depth: int = MAX_DEPTH) -> Node:
    """The tree of a JSONC text.

    Accepts JSON with ``//`` and ``/* */`` comments, trailing commas, a byte order mark, and any line ending.

    Args:
        text: The text.
        file: What the positions call it.
        max_depth: Deepest nesting of lists and objects.

    Returns:
        The value; lines and columns count characters from 1, whatever bytes they take.

    Raises:
        ConfigError: With one problem of kind ``syntax``, or one for each repeated key.
    """
    # A line break inside a string is an error in any form, so this changes no value; it lets every editor's lines be ours.
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    return _Reader(text, file, max_depth).read()


@functools.cache
def _lark() -> Lark:
    from lark import Lark

    # The basic lexer knows all terminals in every state; the contextual one would reject a fault before we can name it.
    return Lark(_GRAMMAR, parser="lalr", lexer="basic")


class _Reader:
    """One run of the parser over one text."""

    def __init__(self, text: str, file: str, max_depth: int) -> None:
        self._text, self._file, self._max_depth = text, file, max_depth
        self._open: list[Token] = []
        self._decoded: dict[int, str | int | float | bool | None] = {}
        self._before: Token | None = None
        self._last: Token | None = None
        self._repeated: list[Diagnostic] = []

    def read(self) -> Node:
        with deferred(["regex"]):  # for terminals with categories of Unicode, of which the grammar has none
            from lark import UnexpectedToken

        if (surrogate := _SURROGATE.search(self._text)) is not None:
            self._fail("half of a surrogate pair, which is no character", self._position_of(surrogate.start()))
        parser = _lark().parse_interactive(self._text)
        try:
            for token in parser.iter_parse():
                self._before, self._last = self._last, token
                self._check(token)
            tree = parser.feed_eof()  # type: ignore[no-untyped-call]
        except UnexpectedToken as error:
            self._fail_at_token(error.token, parser)
        node = self._node(tree.children[0])
        if self._repeated:
            raise ConfigError(self._repeated)
        return node

    def _fail(self, message: str, position: Position, hint: str = "") -> NoReturn:
        raise ConfigError([Diagnostic(message, position=position, hint=hint, kind="syntax")])

    def _position(self, token: Token, offset: int = 0) -> Position:
        return Position(self._file, token.line or 1, (token.column or 1) + offset)

    def _position_of(self, index: int) -> Position:
        line_start = self._text.rfind("\n", 0, index) + 1
        return Position(self._file, self._text.count("\n", 0, index) + 1, index - line_start + 1)

    # Tokens

    def _check(self, token: Token) -> None:
        """Report what is wrong with a token whatever stands around it; decode it; follow the nesting."""
        match token.type:
            case "STRING":
                self._decoded[token.start_pos or 0] = self._string(token)
            case "WORD":
                self._decoded[token.start_pos or 0] = self._word(token)
            case "SINGLE_QUOTED":
                self._fail("single quotes are not JSON; use double quotes", self._position(token))
            case "UNCLOSED_COMMENT":
                self._fail("unterminated comment", self._position(token), "close it with */")
            case "STRAY":
                self._fail(f"unexpected character {_character(token)}", self._position(token), _stray_hint(token))
            case "LBRACE" | "LSQB":
                self._open.append(token)
                if len(self._open) > self._max_depth:
                    self._fail(f"nested deeper than {self._max_depth} levels", self._position(token))
            case "_RBRACE" | "_RSQB":
                # A bracket too many, or of the wrong kind, fails in the parser; then the opening one is still needed there.
                if self._open and (self._open[-1].type == "LBRACE") == (token.type == "_RBRACE"):
                    self._open.pop()

    def _string(self, token: Token) -> str:
        if _CLOSED_STRING.fullmatch(token) is None:
            self._fail("unterminated string", self._position(token), 'close it with " on the same line')
        for match in _ESCAPE.finditer(token):
            where = self._position(token, match.start())
            if (wrong := match["wrong"]) is not None:
                hint = "write \\u and four hexadecimal digits" if wrong.startswith("u") else "write \\\\ for a backslash"
                self._fail(f"invalid escape \\{wrong}", where, hint)
            if (control := match["control"]) is not None:
                escaped = json.dumps(control)[1:-1]
                self._fail(f"unescaped control character {_character(control)} in a string", where, f"write {escaped}")
        decoded: str = json.loads(token)
        if _SURROGATE.search(decoded) is not None:
            self._fail("a string with half of a surrogate pair, which is no character", self._position(token))
        return decoded

    def _word(self, token: Token) -> int | float | bool | None:
        if token in _WORDS:
            return _WORDS[token]
        where = self._position(token)
        if _NUMBER.fullmatch(token) is None:
            self._fail_word(token, where)
        number = float(token)
        if math.isinf(number):
            self._fail(f"the number {_short(token)} is too large", where, "numbers go up to about 1.8e308")
        mantissa = re.split("[eE]", token)[0]
        if number == 0 and mantissa.strip("-0.") != "":
            self._fail(f"the number {_short(token)} is too small and would become 0", where, "numbers go down to about 5e-324")
        return int(token) if token.lstrip("-").isdigit() else number

    def _fail_word(self, token: Token, where: Position) -> NoReturn:
        if token[0] in _CURLY_QUOTES:
            self._fail(f"typographic quotes are not JSON, found {_short(token)}", where, 'use straight double quotes "')
        if re.match(r"[+-]?\.?[0-9]", token):
            self._fail(f"{_short(token)} is not a JSON number", where, "numbers look like 1, -0.5 or 1e-3")
        hint = _WORD_HINTS.get(token.lower().lstrip("+-"), "text and keys stand in double quotes")
        self._fail(f"unexpected {_short(token)}", where, hint)

    # Structure

    def _fail_at_token(self, token: Token, parser: InteractiveParser) -> NoReturn:
        """Say what the parser expected instead of ``token``."""
        at_end = token.type == "$END"
        # Where lark sees the end is the last token; a reader looks for it after the last character.
        where = self._position_of(len(self._text)) if at_end else self._position(token)
        if self._last is None:
            empty = "the file is empty" if not self._text.strip() else "the file holds nothing but comments"
            self._fail(f"{empty}; expected a JSON value", where)
        accepts = parser.accepts()  # type: ignore[no-untyped-call]
        found = "the end of the file" if at_end else _SHOWN.get(token.type) or _short(token)
        if "_COMMA" in accepts and token.type in {"STRING", "WORD", "LBRACE", "LSQB"}:
            before = self._before
            hint = f"the value before it ends in line {before.line}" if before is not None and before.line != token.line else ""
            self._fail(f"missing comma before {found}", where, hint)
        self._fail(f"expected {_expected(accepts)}, found {found}", where, self._structure_hint(token, accepts))

    def _structure_hint(self, token: Token, accepts: set[str]) -> str:
        if "$END" in accepts:
            return "a file holds one value"
        if token.type == "_COLON" and "_RSQB" in accepts:
            return "a list has no keys; write {…} for an object"
        if token.type in {"$END", "_RBRACE", "_RSQB"} and self._open:
            opening = self._open[-1]
            return f"the {_SHOWN[opening.type]} of line {opening.line}, column {opening.column} is not closed"
        return ""

    # Tree

    def _node(self, part: Token | Tree[Token]) -> Node:
        from lark import Token

        if isinstance(part, Token):
            return Node(self._decoded[part.start_pos or 0], self._position(part))
        opening, *rest = part.children
        position = self._position(opening)  # type: ignore[arg-type] # the first child of both rules is a bracket
        if part.data == "list":
            return Node([self._node(child) for child in rest], position)
        children: dict[str, Node] = {}
        keys: dict[str, Position] = {}
        for key, value in zip(rest[::2], rest[1::2], strict=True):
            self._add(children, keys, key, self._node(value))
        return Node(children, position, keys)

    def _add(self, children: dict[str, Node], keys: dict[str, Position], key: Any, value: Node) -> None:
        name, where = str(self._decoded[key.start_pos]), self._position(key)
        if name in children:
            first = keys[name]
            message = f'the key "{name}" is repeated: first in line {first.line}, again in line {where.line}'
            self._repeated.append(Diagnostic(message, position=where, hint="remove or rename one of them", kind="syntax"))
        children[name], keys[name] = value, where


def _expected(accepts: set[str]) -> str:
    close = " or '}'" if "_RBRACE" in accepts else " or ']'" if "_RSQB" in accepts else ""
    if "$END" in accepts:
        return "the end of the file"
    if "_COLON" in accepts:
        return "':' after the key"
    if "LBRACE" in accepts:
        return f"a value{close}"
    if "STRING" in accepts:
        return f"a key in double quotes{close}"
    return f"','{close}"


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."


def _character(character: str) -> str:
    """The character itself if it can be seen, else its code point and name."""
    if character.isprintable() and not character.isspace():
        return f"'{character}'"
    return f"U+{ord(character):04X} ({unicodedata.name(character, 'a control character').lower()})"


def _stray_hint(character: str) -> str:
    return _STRAY_HINTS.get(character) or ("replace it by an ordinary space" if character.isspace() else "")
