import json
import re
from pathlib import Path

import pytest

from erasure.config import MAX_DEPTH, from_python, load, load_text
from erasure.config.files import MAX_BYTES
from erasure.errors import ConfigError, Position


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Writes files below an empty working directory."""
    monkeypatch.chdir(tmp_path)

    def write(**contents):
        for name, content in contents.items():
            path = tmp_path / name.replace("__", "/")
            path = path.with_name(f"{path.name}.jsonc")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content if isinstance(content, str) else json.dumps(content))

    return write


def problems_of(path, **options):
    with pytest.raises(ConfigError) as caught:
        load(path, **options)
    return caught.value.problems


def the_problem(path, **options):
    (problem,) = problems_of(path, **options)
    return problem


def test_keys_of_a_composed_object_join_in_its_place(files):
    files(main={"a": 1, "compose_data": "data.jsonc", "z": 2}, data={"data": {"x": 1}, "more": 3})
    root = load("main.jsonc").root
    assert list(root.plain().items()) == [("a", 1), ("data", {"x": 1}), ("more", 3), ("z", 2)]


def test_nodes_keep_the_position_of_their_own_file(files):
    files(main='{"compose_data": "data.jsonc", "a": 1}', data='{\n  "data": {"x": [1,\n 22]}}')
    root = load("main.jsonc").root
    data = root.get("data")
    assert root.key_position("data") == Position("data.jsonc", 2, 3)
    assert data.position == Position("data.jsonc", 2, 11)
    assert list(data.get("x").elements())[1].position == Position("data.jsonc", 3, 2)
    assert root.key_position("a").file == root.position.file == "main.jsonc"


def test_an_element_that_composes_becomes_the_node(files):
    files(main={"unlearners": [{"compose_x": "node.jsonc"}, "B"]}, node={"class": "A"})
    assert load("main.jsonc").root.plain() == {"unlearners": [{"class": "A"}, "B"]}


def test_elements_of_a_composed_list_are_spliced(files):
    files(
        main={"unlearners": ["A", {"compose_x": "list.jsonc"}, "E"]},
        list=["B", {"compose_x": "more.jsonc"}, ["nested"]],
        more={"compose": "more2.jsonc"},
        more2=["C", "D"],
    )
    assert load("main.jsonc").root.plain() == {"unlearners": ["A", "B", "C", "D", ["nested"], "E"]}


@pytest.mark.parametrize("content", [["A", "B"], {"class": "A"}, "A", 3])
def test_an_object_of_one_composing_key_is_the_content(files, content):
    files(main={"unlearners": {"compose_x": "snippet.jsonc"}}, snippet=json.dumps(content))
    assert load("main.jsonc").root.plain() == {"unlearners": content}


@pytest.mark.parametrize("content", [["A", "B"], {"class": "A", "parameters": {}}, "A"])
def test_a_file_may_hold_a_bare_node_or_list(files, content):
    files(main=json.dumps(content))
    assert load("main.jsonc").root.plain() == content


def test_snippets_compose_further_and_nested_objects_compose(files):
    files(
        main={"predictor": {"class": "P", "parameters": {"epochs": 1, "optimizer": {"compose_o": "o.jsonc"}}}},
        o={"class": "Adam", "compose_rest": "rest.jsonc"},
        rest={"parameters": {"lr": 1}},
    )
    optimizer = load("main.jsonc").root.plain()["predictor"]["parameters"]["optimizer"]
    assert optimizer == {"class": "Adam", "parameters": {"lr": 1}}


def test_a_path_is_relative_to_the_working_directory_first_and_then_to_the_file(files):
    files(
        configs__main={"compose_a": "a.jsonc", "compose_b": "b.jsonc", "compose_c": "snippets/c.jsonc"},
        a={"a": "working directory"},
        configs__a={"a": "file"},
        configs__b={"b": "file"},
        configs__snippets__c={"compose_d": "d.jsonc"},
        configs__snippets__d={"d": "file of the snippet"},
    )
    root = load("configs/main.jsonc").root
    assert root.plain() == {"a": "working directory", "b": "file", "d": "file of the snippet"}
    assert root.get("b").position.file == str(Path("configs/b.jsonc"))


def test_an_explicit_key_wins_over_a_composed_one_wherever_it_stands(files):
    files(main='{"seed": 1,\n"compose_x": "x.jsonc", "epochs": 2}', x={"seed": 7, "epochs": 8, "lr": 9})
    loaded = load("main.jsonc")
    assert loaded.root.plain() == {"seed": 1, "lr": 9, "epochs": 2}
    assert len(loaded.notices) == 2
    for notice, name in zip(loaded.notices, ["seed", "epochs"], strict=True):
        assert f'"{name}" of x.jsonc is not used' in notice.message
        assert notice.position.file == "x.jsonc"


def test_of_two_composed_values_the_later_wins_with_a_notice(files):
    files(main={"compose_x": "x.jsonc", "compose_y": "y.jsonc"}, x={"a": 1}, y={"a": 2})
    loaded = load("main.jsonc")
    assert loaded.root.plain() == {"a": 2}
    (notice,) = loaded.notices
    assert '"a" of x.jsonc is not used' in notice.message


def test_a_list_cannot_join_an_object(files):
    files(main='{"a": 1,\n "compose_x": "list.jsonc"}', list=[1])
    problem = the_problem("main.jsonc")
    assert "list.jsonc holds a list" in problem.message
    assert problem.position == Position("main.jsonc", 2, 15)


@pytest.mark.parametrize("value", [3, None, "", ["a.jsonc"], {"path": "a.jsonc"}])
def test_a_composing_key_needs_a_path(files, value):
    files(main={"a": {"compose_x": value}})
    problem = the_problem("main.jsonc")
    assert "expects the path of a JSON file" in problem.message
    assert problem.path == "a"


def test_a_missing_snippet_is_named_with_both_places_and_the_nearest_name(files):
    files(configs__main='{"unlearners": [1,\n {"compose_x": "snippets/u_fien.jsonc"}]}', configs__snippets__u_fine={})
    problem = the_problem("configs/main.jsonc")
    assert problem.position == Position(str(Path("configs/main.jsonc")), 2, 16)
    assert problem.path == "unlearners[1]"
    assert str(Path("configs/snippets/u_fien.jsonc")) in problem.message
    assert f"tried {Path('snippets/u_fien.jsonc')} or" in problem.message
    assert 'did you mean "u_fine.jsonc"?' in problem.hint


def test_a_file_is_also_looked_for_from_every_folder_above(files, monkeypatch, tmp_path):
    files(configs__deep__main={"a": [{"compose_x": "configs/snippets/one.jsonc"}]}, configs__snippets__one={"b": 1})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    loaded = load(tmp_path / "configs" / "deep" / "main.jsonc")
    assert loaded.root.plain() == {"a": [{"b": 1}]}
    assert loaded.notices == []


def test_a_path_in_other_letters_is_taken_where_it_is_the_only_one_and_said(files, tmp_path):
    files(main={"a": {"compose_x": "configs/summer/one.jsonc"}}, configs__SUMMER__one={"b": 1})
    loaded = load("main.jsonc")
    assert loaded.root.plain() == {"a": {"b": 1}}
    (notice,) = loaded.notices
    assert "differs in upper and lower case" in notice.message and "SUMMER" in notice.message
    (tmp_path / "configs" / "Summer").mkdir()
    if len(list((tmp_path / "configs").iterdir())) == 2:  # not on systems that do not tell letters apart
        assert 'no file "configs/summer/one.jsonc"' in the_problem("main.jsonc").message


def test_an_object_of_the_lists_own_name_stands_for_its_elements(files):
    files(main={"parts": [1, {"compose_x": "more.jsonc"}, 4]}, more={"parts": [2, 3]}, other={"parts": 5})
    assert load("main.jsonc").root.plain() == {"parts": [1, 2, 3, 4]}
    files(main={"things": [1, {"compose_x": "more.jsonc"}]})
    assert load("main.jsonc").root.plain() == {"things": [1, {"parts": [2, 3]}]}


def test_the_nearest_name_may_be_that_of_a_directory(files):
    files(main={"compose_x": "confgs/a.jsonc"}, configs__a={})
    assert 'did you mean "configs"?' in the_problem("main.jsonc").hint


@pytest.mark.parametrize("reference", ["nothing\0here", "x" * 5000, "configs", "a.jsonc/b.jsonc", "../" * 60 + "zzz"])
def test_a_path_that_cannot_be_a_file_is_a_missing_file(files, reference):
    files(main={"compose_x": reference}, a={}, configs__a={})
    assert "no file" in the_problem("main.jsonc").message


def test_a_cycle_lists_the_chain_of_files(files):
    files(
        main={"compose_a": "a.jsonc"},
        a={"x": [{"compose_b": "b.jsonc"}]},
        b='{"y":\n {"compose_a": "./sub/../a.jsonc"}}',
        sub__s={},
    )
    problem = the_problem("main.jsonc")
    assert re.search(r"main\.jsonc → a\.jsonc → b\.jsonc → .*a\.jsonc", problem.message)
    assert problem.position == Position("b.jsonc", 2, 16)
    assert problem.path == "x[0].y"


def test_a_file_that_composes_itself_is_a_cycle(files):
    files(main={"compose_a": "main.jsonc"})
    assert "main.jsonc → main.jsonc" in the_problem("main.jsonc").message


def test_a_file_may_be_composed_twice_side_by_side(files):
    files(main={"a": {"compose": "x.jsonc"}, "b": {"compose": "x.jsonc"}}, x={"c": 1})
    assert load("main.jsonc").root.plain() == {"a": {"c": 1}, "b": {"c": 1}}


def test_all_problems_of_all_files_are_reported(files):
    files(
        main={"a": {"compose": "none1.jsonc"}, "b": [{"compose": "broken.jsonc"}], "c": {"compose": 3}, "compose_d": "d.jsonc"},
        broken='{"x": 1,\n "y" 2}',
        d={"e": [{"compose": "none2.jsonc"}, {"compose": "broken.jsonc"}]},
    )
    problems = problems_of("main.jsonc")
    assert [problem.path for problem in problems] == ["a", "b[0]", "c", "e[0]"]
    assert problems[1].position == Position("broken.jsonc", 2, 6)
    assert [problem.kind for problem in problems] == ["structure", "syntax", "structure", "structure"]


def test_notes_are_ignored_with_a_notice_at_every_depth(files):
    files(
        main='{"COMMENT": "by me", "a": {"attack_model_commented": {"compose_x": "gone.jsonc"}, "b": 1},\n'
        ' "l": [{"Comment": "only a note"}, {"compose_x": "x.jsonc", "comment": ""}]}',
        x={"c": 1, "old_comment": 2},
    )
    loaded = load("main.jsonc")
    assert loaded.root.plain() == {"a": {"b": 1}, "l": [{"c": 1}]}
    assert [(n.path, n.position.file) for n in loaded.notices] == [
        ("", "main.jsonc"),
        ("a", "main.jsonc"),
        ("l[0]", "main.jsonc"),
        ("l[0]", "main.jsonc"),
        ("l[0]", "x.jsonc"),
    ]
    assert '"attack_model_commented"' in loaded.notices[1].message


def test_a_composing_key_that_is_a_note_composes_nothing(files):
    files(main={"compose_x_COMMENTED": "gone.jsonc"})
    assert load("main.jsonc").root.plain() == {}


def test_an_empty_object_is_no_note(files):
    files(main={"l": [{}]})
    assert load("main.jsonc").root.plain() == {"l": [{}]}


def test_overrides_win_over_propagation_and_may_compose(files):
    files(
        main={
            "experiment": {"parameters": {"propagate": [{"in_sections": ["unlearners/parameters"], "params": {"epochs": 3}}]}},
            "unlearners": {"compose_u": "u.jsonc"},
        },
        u=["A", "B"],
        o={"class": "Adam"},
    )
    loaded = load("main.jsonc", ["unlearners[1].parameters.epochs=9", 'predictor={"compose_p": "o.jsonc"}'])
    root = loaded.root.plain()
    assert [u["parameters"]["epochs"] for u in root["unlearners"]] == [3, 9]
    assert root["predictor"] == {"class": "Adam"}
    assert "keeps its" in loaded.notices[-1].message


def test_texts_and_mappings_compose_like_files(files):
    files(sub__x={"compose_y": "y.jsonc"}, sub__y={"a": 1})
    assert load_text('{"compose": "x.jsonc", "b": 2}', "sub/none.jsonc").root.plain() == {"a": 1, "b": 2}
    assert from_python({"compose": "sub/x.jsonc", "b": 2, "comment": 3}).root.plain() == {"a": 1, "b": 2}
    with pytest.raises(ConfigError, match=r'a: no file "none\.jsonc"'):
        from_python({"a": {"compose": "none.jsonc"}})


def test_nesting_is_limited_across_files_too(files):
    deep = 1
    for _ in range(MAX_DEPTH - 50):
        deep = [deep]
    files(main={"a": deep}, x={"b": {"compose": "main.jsonc"}})
    assert load("x.jsonc").root.get("b").is_object
    nested = {"compose": "main.jsonc"}
    for _ in range(60):
        nested = {"b": nested}
    files(x=nested)
    assert "nested deeper than 200" in the_problem("x.jsonc").message


def test_lists_at_the_limit_of_nesting_compose_without_a_recursion_error(files):
    deepest = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    files(main=deepest)
    assert json.dumps(load("main.jsonc").root.plain()).replace(" ", "") == deepest


def test_chains_and_explosions_of_files_are_refused(files):
    files(**{f"f{i}": {"compose": f"f{i + 1}.jsonc"} for i in range(70)}, f70={})
    assert "more than 50 files" in the_problem("f0.jsonc").message
    files(**{f"g{i}": [{"compose": f"g{i + 1}.jsonc"}, {"compose": f"g{i + 1}.jsonc"}] for i in range(30)}, g30=[1])
    assert "more than 2000 compositions" in the_problem("g0.jsonc").message


@pytest.mark.parametrize(
    ("content", "words", "line", "column"),
    [
        (b"", "the file is empty", 1, 1),
        (b'{"a": 1,\n "\xc3\xa9\xe9": 2}', "byte 0xE9", 2, 4),
        ('{"a": 1}'.encode("utf-16"), "UTF-16", 0, 0),
        (b"PK\x03\x04\0\0\0", "binary file", 0, 0),
        (b"\xef\xbb\xbf{'a': 1}", "single quotes", 1, 2),
    ],
)
def test_a_file_that_is_no_json_text_is_one_problem(files, tmp_path, content, words, line, column):
    (tmp_path / "bad.json").write_bytes(content)
    problem = the_problem("bad.json")
    assert words in f"{problem.message}; {problem.hint}"
    assert problem.position == Position("bad.json", line, column)
    files(main={"a": {"compose": "bad.json"}})
    assert the_problem("main.jsonc").message == problem.message


def test_a_byte_order_mark_in_a_file_is_accepted(tmp_path):
    (tmp_path / "bom.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert load(tmp_path / "bom.json").root.plain() == {"a": 1}


def test_a_file_larger_than_any_configuration_is_refused(tmp_path):
    with (tmp_path / "big.json").open("wb") as stream:
        stream.truncate(MAX_BYTES + 1)
    assert "larger than 32 MiB" in the_problem(tmp_path / "big.json").message


def test_a_main_file_that_is_not_there_is_named_with_the_nearest_name(files):
    files(configs__fashion={})
    problem = the_problem("configs/fashoin.jsonc")
    assert "fashoin.jsonc" in problem.message
    assert 'did you mean "fashion.jsonc"?' in problem.hint


def test_a_directory_is_no_configuration(tmp_path):
    assert f"{tmp_path} cannot be read" in the_problem(tmp_path).message


def test_a_file_that_shares_only_its_ending_is_not_advised(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.jsonc").write_text("{}")
    hints = {}
    for name in ("nothere.jsonc", "C2.jsonc"):
        with pytest.raises(ConfigError) as caught:
            load(name)
        hints[name] = caught.value.problems[0].hint
    assert hints == {"nothere.jsonc": "", "C2.jsonc": 'did you mean "c.jsonc"?'}
