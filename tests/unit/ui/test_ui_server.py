"""The local server over a real socket: who is let in, and that nothing but what it serves can be had."""

import http.client
import json
import socket
import threading
from urllib.parse import urlsplit

import pytest
from ui_run import make_run

from erasure.errors import ConfigError
from erasure.store import Store
from erasure.ui import Library, Site, UiServer
from erasure.ui import server as module

pytestmark = pytest.mark.enable_socket


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("served")
    make_run(tmp_path / "runs" / "one", tmp_path / "store")
    (tmp_path / "runs" / "notes.txt").write_text("private notes")
    with UiServer(Site(Library(tmp_path / "runs"), Store(tmp_path / "store", read_only=True)), 0) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def ask(server, path=None, method="GET", headers=None, host=None):
    """Status, headers and body of a request."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.putrequest(method, f"/{server.token}/" if path is None else path, skip_host=host is not None)
    if host:
        connection.putheader("Host", host)
    for name, value in (headers or {}).items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, answer.headers, body


def raw(server, text):
    """Whatever comes back for these bytes."""
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as line:
        line.sendall(text)
        line.shutdown(socket.SHUT_WR)
        found = b""
        while part := line.recv(65536):
            found += part
        return found


def test_the_printed_address_works(server):
    parts = urlsplit(server.address)
    assert (parts.hostname, parts.port) == ("127.0.0.1", server.server_port)
    status, headers, body = ask(server, parts.path)
    assert status == 200
    assert b"made up" in body
    assert headers["Content-Type"] == "text/html; charset=utf-8"


def test_it_listens_on_this_machine_alone(server):
    assert server.socket.getsockname()[0] == "127.0.0.1"


def test_tokens_are_long_and_new_each_time(server, tmp_path):
    (tmp_path / "runs").mkdir()
    with UiServer(Site(Library(tmp_path / "runs"), Store(tmp_path / "store", read_only=True)), 0) as other:
        assert other.token != server.token
        assert len(other.token) >= 32


def wrong_tokens(token):
    yield from (
        "",
        "/",
        "//",
        "/x/",
        "/x",
        f"/{token[:-1]}/",
        f"/{token}x/",
        f"/{token.swapcase()}/",
        f"/x/{token}/",
        f"/?{token}",
    )
    yield from (
        f"/{'é' * 8}/".encode().decode("latin-1"),
        f"/%{ord(token[0]):02x}{token[1:]}/",
        "/favicon.ico",
        "/../",
        "/style.css",
    )


def test_without_the_token_nothing_is_served(server):
    for path in wrong_tokens(server.token):
        answer = raw(server, f"GET {path or '*'} HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\n\r\n".encode("latin-1"))
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.split()[1] == b"403", (path, answer)
        assert b"made up" not in body
        assert server.token.encode() not in answer


def test_the_token_is_compared_in_constant_time(server, monkeypatch):
    compared = []
    real = module.hmac.compare_digest

    def watched(a, b):
        compared.append((a, b))
        return real(a, b)

    monkeypatch.setattr(module.hmac, "compare_digest", watched)
    assert ask(server, "/guess/")[0] == 403
    assert compared == [(b"guess", server.token.encode())]


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "127.0.0.1",
        "127.0.0.1:1",
        "127.0.0.1.evil.example:{port}",
        "[::1]:{port}",
        "0.0.0.0:{port}",
        "",
    ],
)
def test_another_host_is_refused(server, host):
    status, _, body = ask(server, host=host.format(port=server.server_port) or " ")
    assert status == 403
    assert b"made up" not in body


def test_no_host_and_two_hosts_are_refused(server):
    port = server.server_port
    for lines in ("", f"Host: 127.0.0.1:{port}\r\nHost: evil.example\r\n"):
        answer = raw(server, f"GET /{server.token}/ HTTP/1.1\r\n{lines}\r\n".encode())
        assert answer.split()[1] == b"403"


def test_localhost_is_this_machine_too(server):
    assert ask(server, host=f"localhost:{server.server_port}")[0] == 200
    assert ask(server, host=f"LOCALHOST:{server.server_port}")[0] == 200


def test_an_address_of_another_server_is_refused(server):
    text = f"GET http://evil.example/{server.token}/ HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\n\r\n"
    assert raw(server, text.encode()).split()[1] == b"403"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get", "X"])
def test_only_get_and_head(server, method):
    status, headers, body = ask(server, method=method)
    assert status == 405
    assert headers["Allow"] == "GET, HEAD"
    assert b"made up" not in body


def test_head_has_the_headers_of_get_and_no_body(server):
    for path in (f"/{server.token}/", f"/{server.token}/data/runs.json", "/wrong/"):
        one, two = ask(server, path), ask(server, path, "HEAD")
        assert two[0] == one[0]
        assert two[1]["Content-Length"] == one[1]["Content-Length"] == str(len(one[2]))
        assert two[2] == b""


def test_every_answer_forbids_what_is_not_needed(server):
    for path in (
        f"/{server.token}/",
        f"/{server.token}/run?run=one",
        f"/{server.token}/data/runs.json",
        f"/{server.token}/x",
        "/wrong/",
    ):
        _, headers, _ = ask(server, path)
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe-inline'; script" not in policy.replace("style-src 'unsafe-inline'; script", "")
        assert "unsafe-eval" not in policy
        assert "http" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Access-Control-Allow-Origin" not in headers
        assert "Python" not in headers["Server"]


TRICKS = (
    "../../../../etc/passwd",
    "..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/etc/passwd",
    "..\\..\\etc\\passwd",
    "notes.txt",
    "one/report.json",
    "../notes.txt",
    "data/../notes.txt",
    "run?run=../../etc",
    "run?run=/etc",
    "run?run=one/..",
    "run?run=one/../one",
    "run?run=./one",
    "run?run=one%00",
    "run?run=..%2fruns%2fone",
    "run?run=%2e",
    "overlay?run=one&a=../gold&b=bad",
    "data/embedding.json?run=one&a=good&b=..%2f..%2fbad",
    "data/attack.json?run=one&a=good&b=bad&attack=../loss",
)


@pytest.mark.parametrize("trick", TRICKS)
def test_no_path_leads_out_of_what_is_served(server, trick):
    answer = raw(server, f"GET /{server.token}/{trick} HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\n\r\n".encode())
    assert answer.split()[1] == b"404", answer[:200]
    assert b"private notes" not in answer
    assert b"root:" not in answer


def test_what_is_no_request_is_refused_and_the_server_lives_on(server):
    for text in (
        b"\r\n",
        b"nonsense\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"",
    ):
        assert b"made up" not in raw(server, text)
    assert (
        raw(
            server,
            f"GET /{server.token}/?{'&'.join('a=1' for _ in range(50))} HTTP/1.1\r\nHost: localhost:{server.server_port}\r\n\r\n".encode(),
        ).split()[1]
        == b"400"
    )
    assert ask(server)[0] == 200


def test_the_address_without_its_last_stroke_leads_to_the_page(server):
    status, headers, _ = ask(server, f"/{server.token}")
    assert (status, headers["Location"]) == (301, f"/{server.token}/")


def test_data_is_json(server):
    status, headers, body = ask(server, f"/{server.token}/data/runs.json")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert [run["name"] for run in json.loads(body)["runs"]] == ["one"]
    status, _, body = ask(server, f"/{server.token}/data/attack.json?run=one&a=good&b=bad")
    assert (status, json.loads(body)["key"]) == (200, "loss")


def test_a_bug_is_said_and_does_not_end_the_server(server, monkeypatch):
    monkeypatch.delenv("ERASURE_TRACEBACK", raising=False)
    monkeypatch.setattr(server.site.library, "runs", lambda: 1 / 0)
    status, _, body = ask(server)
    assert (status, body) == (500, b"This is a bug in ERASURE: ZeroDivisionError: division by zero\n")


def test_nothing_is_logged(server, capfd):
    ask(server)
    ask(server, "/wrong/")
    assert capfd.readouterr() == ("", "")


def test_readers_at_once_are_all_answered(server):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(ask(server, f"/{server.token}/overlay?run=one")[0])) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [200] * 8


def test_a_port_in_use_is_said_and_the_next_one_taken(server, monkeypatch):
    with pytest.raises(ConfigError, match=rf"--port: port {server.server_port} of 127.0.0.1 cannot be used .*choose another"):
        UiServer(server.site, server.server_port)
    monkeypatch.setattr(module, "_FIRST_PORT", server.server_port)
    with UiServer(server.site) as second:
        assert server.server_port < second.server_port < server.server_port + module._PORTS
    monkeypatch.setattr(module, "_PORTS", 1)
    with pytest.raises(ConfigError, match=r"cannot be used .*choose one, or 0 for any"):
        UiServer(server.site)
