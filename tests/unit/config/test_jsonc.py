import json
import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erasure.config import MAX_DEPTH, Node, parse
from erasure.errors import ConfigError, Position

finite = st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | st.integers() | finite | st.text()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)
blanks = st.lists(st.sampled_from([" ", "\n", "\t", "\r\n", "// a \" [ ' note\n", '/* ] , " \n * / */', "/**/"]), max_size=3).map(
    "".join
)


def the_problem(text, **options):
    with pytest.raises(ConfigError) as caught:
        parse(text, "f.jsonc", **options)
    (problem,) = caught.value.problems
    assert problem.kind == "syntax"
    assert problem.position.file == "f.jsonc"
    return problem


def decorated(value, draw):
    """JSONC of a value with comments, blanks and trailing commas drawn between all its tokens."""

    def blank():
        return draw(blanks)

    def closing(items):
        return f"{',' if items and draw(st.booleans()) else ''}{blank()}"

    if isinstance(value, dict):
        items = [f"{blank()}{json.dumps(key)}{blank()}:{decorated(child, draw)}" for key, child in value.items()]
        return f"{blank()}{{{','.join(items)}{closing(items)}}}{blank()}"
    if isinstance(value, list):
        items = [decorated(child, draw) for child in value]
        return f"{blank()}[{','.join(items)}{closing(items)}]{blank()}"
    return f"{blank()}{json.dumps(value)}{blank()}"


def walk(node):
    yield node
    for child in [*node.elements(), *(child for _, child in node.items())]:
        yield from walk(child)


@given(values, st.booleans(), st.sampled_from([None, 0, 2]))
def test_any_json_reads_as_the_value_it_was_written_from(value, ascii_only, indent):
    plain = parse(json.dumps(value, ensure_ascii=ascii_only, indent=indent), "f").plain()
    assert plain == value
    # 1 == 1.0 == True in Python; the text of the value tells them apart.
    assert json.dumps(plain) == json.dumps(value)


@settings(max_examples=60)
@given(values, st.data())
def test_comments_blanks_and_trailing_commas_never_change_a_value(value, data):
    assert parse(decorated(value, data.draw), "f").plain() == value


@settings(max_examples=60)
@given(values, st.data())
def test_every_value_and_key_is_at_its_position(value, data):
    text = decorated(value, data.draw)
    lines = text.replace("\r\n", "\n").split("\n")

    def at(position):
        return lines[position.line - 1][position.column - 1 :]

    for node in walk(parse(text, "f")):
        begin = "{" if node.is_object else "[" if node.is_list else json.dumps(node.value)
        assert at(node.position).startswith(begin)
        assert set(node.keys) == {name for name, _ in node.items()}
        for name, position in node.keys.items():
            assert at(position).startswith(json.dumps(name))


@settings(max_examples=300)
@given(st.text(alphabet="[]{},:\"'\\/*#=truefalsn019.-+eEu \t\n\r\x00é\ud800“\xa0", max_size=25))
def test_any_text_is_a_value_or_one_problem_that_points_into_it(text):
    try:
        parse(text, "f")
    except ConfigError as error:
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        for problem in error.problems:
            assert 1 <= problem.position.line <= len(lines)
            assert 1 <= problem.position.column <= len(lines[problem.position.line - 1]) + 1


@given(st.text(alphabet='[]{},:"atruenl0123.-eE \n', max_size=12))
def test_a_text_without_extensions_is_accepted_only_if_json_accepts_it(text):
    try:
        ours = parse(text, "f").plain()
    except ConfigError:
        return
    without_trailing_commas = re.sub(r",(\s*[\]}])", r"\1", text)
    assert json.loads(without_trailing_commas) == ours


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("", 1, 1, ["the file is empty"]),
        (" // only\n", 2, 1, ["nothing but comments"]),
        ("[1, 2", 1, 6, ["',' or ']'", "end of the file", "'[' of line 1, column 1"]),
        ('{"a": [1,\n 2}', 2, 3, ["expected ',' or ']'", "found '}'", "line 1, column 7"]),
        ("[1}", 1, 3, ["found '}'"]),
        ("[1,,2]", 1, 4, ["expected a value or ']'", "found ','"]),
        ('{"a": }', 1, 7, ["expected a value, found '}'"]),
        ('{"a" 1}', 1, 6, ["expected ':' after the key"]),
        ('{"a": 1,\n  "b" }', 2, 7, ["expected ':' after the key"]),
        ('{"a": 1 "b": 2}', 1, 9, ['missing comma before "b"']),
        ('{"a": 1\n "b": 2}', 2, 2, ["missing comma", "line 1"]),
        ("[1 2]", 1, 4, ["missing comma before 2"]),
        ("[{} {}]", 1, 5, ["missing comma before '{'"]),
        ("{,}", 1, 2, ["a key in double quotes"]),
        ("{1: 2}", 1, 2, ["a key in double quotes", "found 1"]),
        ('["a": 1]', 1, 5, ["found ':'", "a list has no keys"]),
        ("{} {}", 1, 4, ["expected the end of the file", "one value"]),
        ("]", 1, 1, ["expected a value, found ']'"]),
        ("{'a': 1}", 1, 2, ["single quotes are not JSON; use double quotes"]),
        ("[1, 'a]", 1, 5, ["single quotes"]),
        ("{a: 1}", 1, 2, ["unexpected a", "double quotes"]),
        ("[True]", 1, 2, ["True", "write true"]),
        ("[None]", 1, 2, ["write null"]),
        ("[NaN]", 1, 2, ["no NaN"]),
        ("[-Infinity]", 1, 2, ["no infinity"]),
        ("[01]", 1, 2, ["01 is not a JSON number"]),
        ("[+1]", 1, 2, ["not a JSON number"]),
        ("[.5]", 1, 2, ["not a JSON number"]),
        ("[5.]", 1, 2, ["not a JSON number"]),
        ("[0x1F]", 1, 2, ["not a JSON number"]),
        ("[1_000]", 1, 2, ["not a JSON number"]),
        ("[٣]", 1, 2, ["unexpected"]),
        ("[0, 1e999]", 1, 5, ["1e999 is too large"]),
        ("[-1e999]", 1, 2, ["too large"]),
        ("1" * 5000, 1, 1, ["too large", "..."]),
        ("[1e-999]", 1, 2, ["too small", "would become 0"]),
        ('["abc', 1, 2, ["unterminated string"]),
        ('["abc\\"]', 1, 2, ["unterminated string"]),
        ('["abc\n"]', 1, 2, ["unterminated string"]),
        ('["abc\\\n"]', 1, 2, ["unterminated string"]),
        ('{"a: 1,\n "b": 2}', 1, 2, ["unterminated string"]),
        ('["ab\\x"]', 1, 5, ["invalid escape \\x"]),
        ('["\\u12G4"]', 1, 3, ["invalid escape \\u12"]),
        ('["C:\\data"]', 1, 5, ["invalid escape \\d", "\\\\"]),
        ('["a\tb"]', 1, 4, ["control character U+0009", "\\t"]),
        ('["\\ud800"]', 1, 2, ["surrogate"]),
        ('["\\udc00\\ud800"]', 1, 2, ["surrogate"]),
        ('[1,\n"\ud800"]', 2, 2, ["surrogate"]),
        ("[1] /* a", 1, 5, ["unterminated comment", "*/"]),
        ("[1, /* a\n]", 1, 5, ["unterminated comment"]),
        ("/* a /* b */ */ 1", 1, 14, ["unexpected character '*'"]),
        ("[1] # a", 1, 5, ["'#'", "comments begin with //"]),
        ("[1 / 2]", 1, 4, ["'/'"]),
        ('{"a" = 1}', 1, 6, ["'='", "':'"]),
        ("[1; 2]", 1, 3, ["';'", "','"]),
        ("[\xa01]", 1, 2, ["U+00A0 (no-break space)", "ordinary space"]),
        ("[“a”]", 1, 2, ["typographic quotes"]),
        ("[\x00]", 1, 2, ["U+0000"]),
        ('// é\r\n/* \r\n */ ["é", ]\r\n x', 4, 2, ["unexpected x"]),
    ],
)
def test_a_fault_is_named_where_it_is(text, line, column, words):
    problem = the_problem(text)
    said = f"{problem.message}; {problem.hint}"
    for word in words:
        assert word in said
    assert (problem.position.line, problem.position.column) == (line, column)


def test_repeated_keys_are_all_reported_with_both_lines():
    with pytest.raises(ConfigError) as caught:
        parse('{"a": 1,\n "b": {"c": 1, "c": 2},\n "a": 3, "a": 4}', "f")
    assert [(p.position.line, p.position.column) for p in caught.value.problems] == [(2, 16), (3, 2), (3, 10)]
    assert "first in line 1, again in line 3" in caught.value.problems[1].message


def test_keys_written_with_an_escape_are_recognised_as_repeated():
    assert 'key "a" is repeated' in the_problem('{"a": 1, "\\u0061": 2}').message


def test_the_same_key_in_two_objects_is_no_repetition():
    assert parse('{"a": {"a": [{"a": 1}, {"a": 2}]}}', "f").plain() == {"a": {"a": [{"a": 1}, {"a": 2}]}}


def test_nesting_is_read_to_the_limit_and_refused_beyond():
    deepest = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert json.dumps(parse(deepest, "f").plain()).replace(" ", "") == deepest
    problem = the_problem('{"a":' * 100_000)
    assert "deeper than 200" in problem.message
    assert problem.position == Position("f.jsonc", 1, 5 * MAX_DEPTH + 1)
    assert the_problem("[[[", max_depth=2).position.column == 3


def test_a_byte_order_mark_is_ignored_and_moves_no_column():
    node = parse('\ufeff{"a": 1}', "f")
    assert node.plain() == {"a": 1}
    assert node.keys["a"] == Position("f", 1, 2)


def test_all_line_endings_count_the_same_lines():
    for ending in ("\n", "\r\n", "\r"):
        node = parse(ending.join(["{ // one", ' "a": // two', "  7 }"]), "f")
        assert node.get("a").position == Position("f", 3, 3)


def test_numbers_keep_the_kind_they_are_written_in():
    plain = parse("[1, 1.0, 1e2, -0, -0.0, 0e5, 123456789012345678901234567890]", "f").plain()
    assert [type(number) for number in plain] == [int, float, float, int, float, float, int]
    assert plain == [1, 1.0, 100.0, 0, 0.0, 0.0, 123456789012345678901234567890]


def test_surrogate_pairs_are_one_character():
    assert parse('"\\ud83d\\ude00"', "f").value == "😀"


def test_importing_the_package_imports_neither_lark_nor_anything_heavy():
    heavy = ["lark", "torch", "numpy", "pydantic", "annotated_types"]
    script = f"import sys, erasure.config; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_the_root_may_be_any_value():
    for text in ("3", '"NegGrad"', "null", "[]", "{}"):
        assert isinstance(parse(text, "f"), Node)
