"""The UCI source fetches a table once, keeps it, and reads Adult as published."""

import gzip
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import torch

from erasure.component import canonical
from erasure.data.sources.uci import UCI
from erasure.errors import DataError, InvalidParameters, MissingDependency

TEST_DATA = Path(os.environ.get("ERASURE_TEST_DATA", Path(__file__).parents[3] / "../shared/data"))

HEADER = (
    "age,workclass,fnlwgt,education,education-num,marital-status,occupation,relationship,race,sex,capital-gain,capital-loss,"
    "hours-per-week,native-country,income"
)

CSV = "number,size,colour,kind\n1,1.5,red,a\n2,2.5,blue,b.\n3,3.5,?,a.\n4,4.5,green,b\n"
ROLES = {"number": "ID", "size": "Feature", "colour": "Feature", "kind": "Target"}


def keep(root, number, text, **about):
    folder = root / "uci" / str(number)
    folder.mkdir(parents=True)
    (folder / "data.csv").write_text(text)
    if about:
        (folder / "about.json").write_text(json.dumps(about))
    return str(root)


@pytest.fixture
def things(tmp_path):
    return keep(tmp_path, 7, CSV, name="Things", features=["size", "colour"], targets=["kind"])


# Real files


def test_adult_is_read_as_published(tmp_path):
    packed = TEST_DATA / "tabular"
    if not packed.exists():
        pytest.skip(f"the real data of ERASURE_TEST_DATA is not there: {packed}")
    train = gzip.decompress((packed / "adult.data.gz").read_bytes()).decode().strip().splitlines()
    test = gzip.decompress((packed / "adult.test.gz").read_bytes()).decode().strip().splitlines()[1:]
    rows = [HEADER, *train, *test]
    root = keep(tmp_path, 2, "\n".join(rows) + "\n", name="Adult", features=HEADER.split(",")[:-1], targets=["income"])
    fields = {"id": 2, "root": root, "label_strip": ".", "keep_values": {"native-country": ["United-States"]}, "z": "sex"}
    dropped = UCI(**fields, missing="drop").load()
    assert (len(dropped), dropped.class_names, dropped.name) == (45_222, ("<=50K", ">50K"), "Adult")
    assert dropped.y.bincount().tolist() == [34_014, 11_208]
    kept = UCI(**fields, missing="impute").load()
    assert (len(kept), kept.y.bincount().tolist()) == (48_842, [37_155, 11_687])
    assert (kept.z_names, kept.z.bincount().tolist()) == (("Female", "Male"), [16_192, 32_650])
    assert {"native-country=Other", "native-country=United-States", "workclass=missing"} <= set(kept.feature_names)
    assert not any(name.startswith(("sex", "income")) for name in kept.feature_names)
    assert kept.x.values[:, kept.feature_names.index("workclass=missing")].sum() == 2799
    with pytest.raises(DataError, match=r'missing values in "workclass" \(2799, first in row 28'):
        UCI(**fields).load()


# What is fetched


@pytest.fixture
def repository(monkeypatch):
    """A repository of one data set, on this machine; says what was asked for."""
    fetch = pytest.importorskip("ucimlrepo.fetch")
    asked = []
    content = {"csv": CSV, "roles": ROLES}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            address = f"http://127.0.0.1:{self.server.server_port}"
            variables = [{"name": name, "role": role, "type": "Continuous"} for name, role in content["roles"].items()]
            data = {"uci_id": 7, "name": "Things", "data_url": f"{address}/data.csv", "variables": variables}
            facts = {"status": 200, "data": data | {"additional_info": None, "intro_paper": None}}
            if self.path not in {"/api?id=7", "/data.csv"}:
                facts = {"status": 404, "message": "no such data set"}
            body = (content["csv"] if self.path == "/data.csv" else json.dumps(facts)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setattr(fetch, "API_BASE_URL", f"http://127.0.0.1:{server.server_port}/api")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield asked, content
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.enable_socket
@pytest.mark.allow_hosts(["127.0.0.1"])
def test_a_table_is_fetched_once_and_kept(repository, tmp_path):
    asked, _ = repository
    source = UCI(id=7, root=str(tmp_path), download=True, label_strip=".", missing="impute")
    assert source.fingerprint() == {"data.csv": None, "about.json": None}
    assert asked == []  # the fingerprint never downloads
    data = source.load()
    assert asked == ["/api?id=7", "/data.csv"]
    assert (data.name, data.y.tolist(), data.class_names) == ("Things", [0, 1, 0, 1], ("a", "b"))
    assert data.feature_names == ("size", "colour=blue", "colour=green", "colour=red", "colour=missing")
    again = UCI(id=7, root=str(tmp_path), label_strip=".", missing="impute").load()
    assert len(asked) == 2
    assert torch.equal(again.x.values, data.x.values)
    assert all(source.fingerprint().values())
    assert sorted(file.name for file in (tmp_path / "uci" / "7").iterdir()) == ["about.json", "data.csv"]


@pytest.mark.enable_socket
@pytest.mark.allow_hosts(["127.0.0.1"])
def test_a_data_set_that_the_repository_does_not_have_is_one_error(repository, tmp_path):
    with pytest.raises(DataError, match=r"UCI data set 8 cannot be fetched \(no such data set\); get .* by other means"):
        UCI(id=8, root=str(tmp_path), download=True).load()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.enable_socket
@pytest.mark.allow_hosts(["127.0.0.1"])
def test_several_targets_need_a_choice(repository, tmp_path):
    _, content = repository
    content["roles"] = {**ROLES, "colour": "Target"}
    with pytest.raises(DataError, match="has several targets: colour, kind; give label"):
        UCI(id=7, root=str(tmp_path), download=True).load()
    data = UCI(id=7, root=str(tmp_path), label="kind").load()
    assert (data.feature_names, data.n_classes) == (("size",), 4)


def test_nothing_is_fetched_unless_allowed(tmp_path):
    source = UCI(id=53, root=str(tmp_path))
    for action in (source.load, source.fingerprint):
        with pytest.raises(
            DataError, match=r'no file ".*uci.53.data\.csv"; get https://.*/53/data\.csv .*or set download to true'
        ):
            action()


def test_without_a_network_downloading_fails_with_one_error(tmp_path):
    pytest.importorskip("ucimlrepo")
    with pytest.raises(DataError, match="UCI data set 53 cannot be fetched"):
        UCI(id=53, root=str(tmp_path), download=True).load()


# What is read


def test_a_table_put_there_by_hand_needs_a_label(tmp_path):
    root = keep(tmp_path, 9, CSV)
    with pytest.raises(DataError, match="no known target; its columns are number, size, colour, kind; give label"):
        UCI(id=9, root=root).load()
    data = UCI(id=9, root=root, label="kind", features=["size"], label_strip=".").load()
    assert (data.name, data.x.values.tolist(), data.y.tolist()) == ("uci-9", [[1.5], [2.5], [3.5], [4.5]], [0, 1, 0, 1])


def test_rows_with_missing_values_are_refused_dropped_or_kept(things):
    with pytest.raises(DataError, match=r'missing values in "colour" \(1, first in row 3 of uci-7\.parquet\)'):
        UCI(id=7, root=things, label_strip=".").load()
    assert UCI(id=7, root=things, label_strip=".", missing="drop").load().y.tolist() == [0, 1, 1]


def test_columns_can_be_encoded_and_merged(things):
    data = UCI(id=7, root=things, label_strip=".", missing="drop", encode="colour", keep_values={"colour": "red"}).load()
    assert data.value_names == {"colour": ("Other", "red")}
    assert data.feature_names == ("size", "colour")
    assert data.x.values[:, 1].tolist() == [1, 0, 0]  # red, then two that became Other
    assert UCI(id=7, root=things, label_strip=".", missing="drop", keep_values={"colour": "red"}).load().feature_names == (
        "size",
        "colour=Other",
        "colour=red",
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"label": "sort"}, 'no column "sort"'),
        ({"keep_values": {"color": "red"}}, 'no column "color".*did you mean "colour"'),
        ({"features": ["colour"], "categorical": []}, "text in the feature columns colour"),
    ],
)
def test_what_the_table_does_not_have_is_refused(things, fields, message):
    with pytest.raises(DataError, match=message):
        UCI(id=7, root=things, missing="drop", **fields).load()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"label": "a", "features": ["a"]}, "is the label"),
        ({"categorical": "a", "encode": "a"}, "is categorical too"),
        ({"features": "a", "encode": "b"}, "no feature"),
    ],
)
def test_fields_that_do_not_fit_each_other_are_refused(fields, message):
    with pytest.raises(InvalidParameters, match=message):
        UCI(id=7, **fields)


def test_the_content_is_the_fingerprint_wherever_it_is(things, tmp_path):
    other = keep(tmp_path / "other", 7, CSV, name="Things", features=["size", "colour"], targets=["kind"])
    here, there = UCI(id=7, root=things), UCI(id=7, root=other)
    assert here.fingerprint() == there.fingerprint()
    assert canonical(here) == canonical(there)
    (tmp_path / "other" / "uci" / "7" / "data.csv").write_text(CSV.replace("1.5", "1.6"))
    assert here.fingerprint() != there.fingerprint()


def test_a_client_that_is_not_installed_is_named_with_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ucimlrepo", None)
    with pytest.raises(MissingDependency, match=r'the package "ucimlrepo": pip install "erasure-unlearning\[uci\]"'):
        UCI(id=7, root=str(tmp_path), download=True).load()


def test_missing_values_become_other_where_that_is_asked_for(things):
    fields = {"id": 7, "root": things, "label_strip": ".", "missing": "impute", "keep_values": {"colour": ["red"]}}
    assert UCI(**fields).load().feature_names == ("size", "colour=Other", "colour=red", "colour=missing")
    assert UCI(**fields, missing_is_other=True).load().feature_names == ("size", "colour=Other", "colour=red")


def test_adult_has_the_68_inputs_of_the_published_network(tmp_path):
    packed = TEST_DATA / "tabular" / "adult.data.gz"
    if not packed.exists():
        pytest.skip(f"the real data of ERASURE_TEST_DATA is not there: {packed}")
    rows = gzip.decompress(packed.read_bytes()).decode().strip().splitlines()
    root = keep(tmp_path, 2, "\n".join([HEADER, *rows]) + "\n")
    data = UCI(
        id=2,
        root=root,
        label="income",
        missing="impute",
        missing_is_other=True,
        keep_values={"native-country": ["United-States"]},
    ).load()
    assert data.x_shape == (68,)
