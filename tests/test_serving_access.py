"""Who is let in to the service, when it is ready, and what it tells."""

import asyncio
import html.parser
import logging
import os
import re
import signal
import socket
import sqlite3
import stat
import sys
import types

import httpx2 as httpx
import numpy as np
import pytest
from conftest import linear_model
from conftest import smoothed
from starlette.testclient import TestClient
from test_serving import Held
from test_serving import connected
from test_serving import in_a_process
from test_serving import in_a_thread
from test_serving import payload

import keras_smoothing as ks
from keras_smoothing import cli
from keras_smoothing import serving
from keras_smoothing.cli import options
from keras_smoothing.cli import serve
from keras_smoothing.cli.terminal import printable
from keras_smoothing.serving import access
from keras_smoothing.serving import readiness
from keras_smoothing.serving import room

SMALL = dict(n0=20, n=200, alpha=0.01)
TOKEN = "0123456789abcdef-._~+/=="
X = np.array([[1.0, 0, 0, 0], [0, 0, 0, 1]], "float32")


@pytest.fixture(scope="module")
def model():
    return smoothed(linear_model([1, -1, 0, 0]))


@pytest.fixture(scope="module")
def service(model):
    return serving.Service(model, **SMALL, seed=3)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "promises.sqlite"


@pytest.fixture
def remembering(model, path):
    """A service with a memory in a file."""
    with ks.CertificationMemory(path) as memory:
        yield serving.Service(model, **SMALL, seed=3, memory=memory)


@pytest.fixture
def always_fresh(monkeypatch):
    monkeypatch.setattr(readiness, "_FRESH", 0)


def answering(service, answer):
    """Has an answer for certificates of its own."""
    service.answers = {**service.answers, "certify": answer}
    return service


def assert_not_ready(response, words):
    assert response.status_code == 503
    assert response.headers["retry-after"]
    sentence = response.json()["error"]
    assert "Expected" in sentence and words in sentence


def spoil(path, statement):
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()


def tables(path):
    connection = sqlite3.connect(path)
    rows = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table'"
    ).fetchall()
    connection.close()
    return [name for (name,) in rows]


# The memory, and whether the service is ready.


def test_a_damaged_memory_makes_the_service_unready(
    remembering, path, always_fresh, caplog
):
    with TestClient(serving.create_app(remembering)) as client:
        assert client.post("/certify", json=payload(X)).is_success
        assert client.get("/health").json() == {"status": "ready"}
        for table in tables(path):
            spoil(path, f"DROP TABLE {table}")
        for _ in range(2):
            response = client.post("/certify", json=payload(X + 1))
            assert_not_ready(response, "undamaged")
            assert_not_ready(client.get("/health"), "undamaged")
    assert str(path) not in response.text and "table" not in response.text
    assert "no such table" in caplog.text


def test_an_error_of_the_memory_is_told_from_a_bad_request(
    remembering, always_fresh
):
    good = remembering.answers["certify"]
    wrong = [ValueError("damaged")]

    def damaged(x):
        if wrong:
            raise wrong[0]
        return good(x)

    app = serving.create_app(answering(remembering, damaged))
    with TestClient(app) as client:
        # This one finds nothing when it is asked by itself.
        assert_not_ready(client.post("/certify", json=payload(X)), "ValueError")
        assert_not_ready(client.get("/health"), "ValueError")
        bad = client.post("/certify", json=payload(1e30 * X))
        assert bad.status_code == 422
        # What goes away by itself is asked for again.
        wrong[:] = [TimeoutError("locked")]
        client.post("/certify", json=payload(X))
        wrong.clear()
        assert client.post("/certify", json=payload(X)).is_success
        assert client.get("/health").is_success


def test_a_memory_that_is_gone_makes_the_service_unready(
    remembering, path, always_fresh
):
    with TestClient(serving.create_app(remembering)) as client:
        assert client.get("/health").is_success
        os.rename(path, f"{path}.elsewhere")
        assert_not_ready(client.get("/health"), "FileNotFoundError")
        response = client.post("/certify", json=payload(X))
        assert_not_ready(response, "FileNotFoundError")
        os.rename(f"{path}.elsewhere", path)
        assert client.get("/health").is_success


def test_a_memory_that_is_locked_for_long_makes_the_service_unready(
    remembering, path, always_fresh, monkeypatch
):
    monkeypatch.setattr(readiness, "_PATIENCE", 0.1)
    app = serving.create_app(remembering)
    other = sqlite3.connect(path, isolation_level=None)
    with TestClient(app) as client:
        assert client.get("/health").is_success
        other.execute("BEGIN IMMEDIATE")
        assert_not_ready(client.get("/health"), "TimeoutError")
        other.execute("ROLLBACK")
        other.close()
        while client.get("/health").is_error:
            pass


def test_asking_for_health_is_cheap(remembering, monkeypatch):
    asked = []
    monkeypatch.setattr(remembering, "try_memory", lambda: asked.append(1))
    for fresh, times in ((1e9, 1), (0, 50)):
        monkeypatch.setattr(readiness, "_FRESH", fresh)
        asked.clear()
        with TestClient(serving.create_app(remembering)) as client:
            for _ in range(50):
                assert client.get("/health").is_success
        assert len(asked) == times
    assert not np.any(remembering._memory.num_queries)


def test_a_model_that_is_stuck_is_not_ready(service, always_fresh):
    answers = service.answers
    held = Held(answers["certify"])
    try:
        app = serving.create_app(answering(service, held), timeout=0.1)
        with TestClient(app) as client:
            assert client.get("/health").is_success
            late = client.post("/certify", json=payload(X))
            stuck = client.get("/health")
            held.go.set()
            assert late.status_code == 504
            assert_not_ready(stuck, "busy for more than 0.1 s")
            while client.get("/health").is_error:
                pass
    finally:
        service.answers = answers


def test_an_error_of_the_model_is_told_in_the_log_only(service, caplog):
    def broken(x):
        raise KeyError("secret/path")

    answers = service.answers
    try:
        app = serving.create_app(answering(service, broken))
        with in_a_thread(app, log_config=None) as (host, port):
            with httpx.Client(base_url=f"http://{host}:{port}") as client:
                response = client.post("/certify", json=payload(X))
                assert response.headers["connection"] == "close"
                assert client.get("/model").is_success
    finally:
        service.answers = answers
    assert response.status_code == 500
    assert response.json()["error"].startswith("Expected an answer")
    assert "secret" not in response.text and "KeyError" not in response.text
    assert "secret/path" in caplog.text


def test_an_error_without_a_memory_is_not_one_of_a_memory(service):
    def broken(x):
        raise ValueError("of a model that calls Python")

    answers = service.answers
    try:
        app = serving.create_app(answering(service, broken))
        with TestClient(app, raise_server_exceptions=False) as client:
            response = client.post("/certify", json=payload(X))
            assert client.get("/health").is_success
    finally:
        service.answers = answers
    assert response.status_code == 500
    assert "memory" not in response.json()["error"]


# The end.


def test_nobody_is_let_in_while_the_service_shuts_down(service):
    held = Held(service.answers["certify"])
    answers = service.answers

    async def ask(app):
        async with connected(app) as client:
            inside = asyncio.ensure_future(
                client.post("/certify", json=payload(X), timeout=60)
            )
            while not app.state.gate._places._weights:
                await asyncio.sleep(0)
            app.state.readiness.is_closing = True
            late = [
                await client.post("/certify", json=payload(X)),
                await client.get("/health"),
                await client.get("/nothing"),
            ]
            held.go.set()
            return await inside, late

    try:
        inside, late = asyncio.run(
            ask(serving.create_app(answering(service, held)))
        )
    finally:
        service.answers = answers
    assert inside.is_success
    for response in late:
        assert_not_ready(response, "shuts down")
        assert response.headers["connection"] == "close"


@pytest.mark.slow
def test_a_process_that_ends_answers_nothing_new(digits_file):
    x, _ = ks.datasets.load("digits", "test[:16]")
    arguments = [digits_file, "--port", "0", "--n", "100000"]
    health = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with in_a_process(*arguments) as (process, address, port):
        # One connection that has been used, and one that has not.
        kept = [socket.create_connection(("127.0.0.1", port)) for _ in "ab"]
        kept[0].sendall(health)
        answer = b""
        while not answer.endswith(b'{"status":"ready"}'):
            answer += kept[0].recv(4096)

        async def ask():
            async with httpx.AsyncClient(
                base_url=address, timeout=60
            ) as client:
                inside = asyncio.ensure_future(
                    client.post("/certify", json=payload(x))
                )
                page = ""
                while "batch_examples_count 1.0" not in page:
                    page = (await client.get("/metrics")).text
                process.send_signal(signal.SIGTERM)
                late = []
                while not inside.done():
                    for ask in (ask_again, ask_anew):
                        late.append(await asyncio.to_thread(ask))
                return await inside, late

        def ask_again():
            connection = kept.pop() if kept else None
            if connection is None:
                return b""
            with connection:
                try:
                    connection.sendall(health)
                    return connection.recv(4096)
                except ConnectionError:
                    return b""

        def ask_anew():
            try:
                with socket.create_connection(("127.0.0.1", port)) as fresh:
                    fresh.sendall(health)
                    return fresh.recv(4096)
            except ConnectionError:
                return b""

        inside, late = asyncio.run(ask())
        assert inside.is_success and len(late) > 2
        for answer in late:
            assert not answer or answer.startswith(b"HTTP/1.1 503"), answer
        assert process.wait(60) == 0
        assert "Traceback" not in process.stderr.read()


# Which name.


@pytest.mark.parametrize(
    "host, status",
    [
        ("localhost", 200),
        ("LOCALHOST:8000", 200),
        ("localhost.", 200),
        ("127.0.0.1:8000", 200),
        ("[::1]:8000", 200),
        ("[0:0:0:0:0:0:0:1]", 200),
        ("here.example:80", 200),
        ("10.0.0.7", 200),
        ("[fe80::7]", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("evil-localhost", 421),
        ("127.0.0.2", 421),
        ("[::2]", 421),
        ("", 400),
        (":8000", 400),
        (".", 400),
        ("::1", 400),
        ("[::1", 400),
        ("localhost:x", 400),
        ("evil.example@localhost", 400),
        ("localhost/../evil.example", 400),
        ("localhost evil.example", 400),
        ("localhost, evil.example", 400),
    ],
)
def test_only_requests_that_name_this_service_are_let_in(service, host, status):
    names = ["Here.Example.", "10.0.0.7", "[fe80::7]"]
    app = serving.create_app(service, allowed_hosts=names)
    with TestClient(app) as client:
        for path in ("/health", "/metrics", "/docs", "/openapi.json"):
            response = client.get(path, headers={"Host": host})
            assert response.status_code == status, host
        if status != 200:
            for method in ("GET", "HEAD", "OPTIONS", "POST"):
                response = client.request(
                    method, "/nothing", headers={"Host": host}
                )
                assert response.status_code == status
            assert "Host" in client.get("/", headers={"Host": host}).json()[
                "error"
            ] and ("--allowed-host" in response.text) == (status == 421)
    with TestClient(serving.create_app(service, allowed_hosts=["*"])) as client:
        response = client.get("/health", headers={"Host": host})
        assert response.status_code == (400 if status == 400 else 200)


def raw(address, head):
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(head + b"Connection: close\r\n\r\n")
        answer = b""
        while part := connection.recv(4096):
            answer += part
    return int(answer.split()[1]), answer


def test_the_address_of_the_connection_is_a_name_of_the_service(service):
    with in_a_thread(serving.create_app(service)) as address:
        for head, status in (
            (b"GET /health HTTP/1.1\r\nHost: 127.0.0.1:1\r\n", 200),
            (b"GET /health HTTP/1.1\r\nHost: evil.example\r\n", 421),
            (b"GET /health HTTP/1.1\r\nHost: \xff\xfe\r\n", 400),
            (b"GET /health HTTP/1.1\r\n", 400),
            (b"GET /health HTTP/1.0\r\n", 400),
            (b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: b\r\n", 400),
            (b"GET http://b/health HTTP/1.1\r\nHost: localhost\r\n", 400),
            (b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n", 400),
        ):
            found, answer = raw(address, head)
            assert found == status, (head, answer)
    # As where one listens at all addresses of a machine.
    transport = httpx.ASGITransport(serving.create_app(service))

    async def ask(host):
        async with httpx.AsyncClient(
            transport=transport, base_url="http://10.1.2.3"
        ) as client:
            return await client.get("/model", headers={"Host": host})

    assert asyncio.run(ask("10.1.2.3:8000")).status_code == 200
    assert asyncio.run(ask("10.1.2.4:8000")).status_code == 421


def test_names_of_the_service_are_checked(service):
    for wrong in ("a:80", "a b", "*.a", "http://a", "", 7, "a/b"):
        with pytest.raises(ValueError, match="without a port"):
            serving.create_app(service, allowed_hosts=[wrong])
    with pytest.raises(ValueError, match="Expected a list"):
        serving.create_app(service, allowed_hosts="example.org")


def test_pages_of_others_may_not_ask(service):
    text = '{"instances": [[0, 0, 0, 0]]}'
    origin = {"Origin": "https://evil.example"}
    asked = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    with TestClient(serving.create_app(service)) as client:
        for kind in (
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=a",
            "text/plain; application/json",
        ):
            headers = {**origin, "Content-Type": kind}
            response = client.post("/certify", content=text, headers=headers)
            assert response.status_code == 422, kind
        before = client.options("/certify", headers={**origin, **asked})
        assert before.is_error
        for response in (
            before,
            client.get("/model", headers=origin),
            client.post("/certify", json=payload(X), headers=origin),
        ):
            assert not [
                name for name in response.headers if "access-control" in name
            ]


# The token.


def test_a_token_is_needed_for_all_but_health(service, caplog):
    app = serving.create_app(service, token=TOKEN)
    good = {"Authorization": f"Bearer {TOKEN}"}
    wrong = [
        *({}, {"Authorization": TOKEN}, {"Authorization": "Bearer"}),
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": b"Bearer \xff\xfe\x00"},
        {"Authorization": b"\xff"},
        {"Authorization": "Bearer " + "a" * 10_000},
    ]
    answers = []
    with TestClient(app) as client:
        for headers in wrong:
            for path in (
                *("/certify", "/model", "/metrics", "/docs", "/openapi.json"),
                *("/nothing", "/", "/health/", "/model/"),
            ):
                for method in ("GET", "HEAD", "OPTIONS", "POST", "PUT"):
                    answers.append(
                        client.request(
                            method,
                            path,
                            headers=headers,
                            follow_redirects=False,
                        )
                    )
            assert client.get("/health", headers=headers).is_success
        # Two of them are not one.
        doubled = [("Authorization", f"Bearer {TOKEN}")] * 2
        answers.append(client.get("/model", headers=doubled))
        for response in answers:
            assert response.status_code == 401
            assert response.headers["www-authenticate"] == "Bearer"
        pages = [
            client.get(path, headers=good)
            for path in ("/model", "/metrics", "/docs", "/openapi.json")
        ]
        answer = client.post("/certify", json=payload(X), headers=good)
        assert answer.is_success
        lower = {"Authorization": f"bearer  {TOKEN}"}
        assert client.get("/model", headers=lower).is_success
    for response in (*answers, *pages):
        assert TOKEN not in response.text
    assert all(response.is_success for response in pages)
    assert "Authorization: Bearer $TOKEN" in pages[2].text
    assert TOKEN not in caplog.text
    assert TOKEN not in repr(vars(app)) + repr(vars(app.state))


def test_a_token_is_long_and_in_a_file_of_its_own(tmp_path, service, capsys):
    path = tmp_path / "token"
    path.write_text(f"\n  {TOKEN}\r\n")
    for mode in (0o640, 0o604, 0o660, 0o620):
        path.chmod(mode)
        with pytest.raises(ValueError, match="only its owner may read") as info:
            access.read_token(path)
        assert TOKEN not in str(info.value)
    path.chmod(0o600)
    assert access.read_token(path) == TOKEN
    bad = ("", " \n", "a-b-c", "0123456789abcde", "a" * 20 + " b", "ü" * 20)
    for text in (*bad, "a" * 20 + "\nb"):
        path.write_text(text, "utf-8")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with pytest.raises(ValueError, match="Expected a token") as info:
            access.read_token(path)
        assert not text.strip() or text.strip() not in str(info.value)
        command = ["serve", "no.keras", "--port", "0", "--token-file"]
        assert cli.main([*command, str(path)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "at least 16 characters" in line
    for token in (*bad, b"0123456789abcdef", 10**20):
        with pytest.raises(ValueError, match="Expected a token"):
            serving.create_app(service, token=token)
    assert cli.main([*command, str(tmp_path / "none")]) == 2


# How much of it.


def test_an_address_may_add_so_much_to_a_memory_in_a_minute(
    remembering, monkeypatch
):
    clock = [1000.0]
    frozen = types.SimpleNamespace(monotonic=lambda: clock[0])
    monkeypatch.setattr(room, "time", frozen)
    app = serving.create_app(remembering, max_examples_per_minute=6)

    def client(address):
        return TestClient(app, client=(address, 1))

    x = np.tile(X, (2, 1))
    with client("10.0.0.1") as one:
        assert one.post("/certify", json=payload(x)).is_success
        # What is refused for another reason is not counted.
        assert one.post("/certify", json={}).status_code == 422
        assert one.post("/classify", json=payload(X)).is_success
        late = one.post("/classify", json=payload(X))
        assert late.status_code == 429
        assert late.headers["retry-after"] == "20"
        assert "at most 6 examples" in late.json()["error"]
        queries = remembering._memory.num_queries
        assert one.get("/health").is_success
        clock[0] += 19
        assert one.post("/certify", json=payload(X)).status_code == 429
        clock[0] += 1.001
        assert one.post("/certify", json=payload(X)).is_success
        assert remembering._memory.num_queries - queries <= 2
        # More than there ever is, after an idle minute, and paid off.
        large = payload(np.tile(X, (4, 1)))
        assert one.post("/certify", json=large).status_code == 429
        clock[0] += 61
        assert one.post("/certify", json=large).is_success
        assert one.post("/certify", json=payload(X)).headers["retry-after"] == (
            "40"
        )
    # The same machine by another name, and other machines.
    for address, status in (
        *(("::ffff:10.0.0.1", 429), ("10.0.0.2", 200)),
        *(("2001:db8::1", 200), ("2001:db8::2", 200)),
        *(("2001:db8::ffff:3", 200), ("2001:db8::4", 429)),
        *(("2001:db8:0:1::1", 200), ("a socket", 200)),
    ):
        with client(address) as other:
            answer = other.post("/certify", json=payload(X))
        assert answer.status_code == status, address


def test_a_service_without_a_memory_counts_nothing(service):
    app = serving.create_app(service, max_examples_per_minute=1)
    with TestClient(app) as client:
        for _ in range(3):
            assert client.post("/certify", json=payload(X)).is_success
    with pytest.raises(ValueError, match="max_examples_per_minute"):
        serving.create_app(service, max_examples_per_minute=0)


def test_the_table_of_addresses_does_not_grow(monkeypatch):
    monkeypatch.setattr(room, "_MOST_ADDRESSES", 10)
    limit = room.Allowance(60)
    for i in range(100):
        limit.take((f"10.0.0.{i}", 1), 60)
    assert len(limit._left) == 10
    with pytest.raises(Exception, match="at most 60"):
        limit.take(("10.0.0.99", 2), 1)


# The pages.


class Tags(html.parser.HTMLParser):
    """The tags of a page and their attributes."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs


def test_the_page_about_the_service_loads_nothing(service):
    with TestClient(serving.create_app(service, max_examples=7)) as client:
        response = client.get("/docs")
        document = client.get("/openapi.json").json()
        assert client.get("/redoc").status_code == 404
        policy = response.headers["content-security-policy"]
        shape = service.describe().shape
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'")
    page = Tags(response.text)
    assert not {"script", "link", "img", "iframe", "form"} & {*page.tags}
    for name, value in page.attributes:
        assert not name.startswith("on")
        if name in ("href", "src"):
            assert value == "openapi.json"
    assert "url(" not in response.text and "@import" not in response.text
    for path, methods in document["paths"].items():
        for method in methods:
            heading = f"<code>{method.upper()} {path}</code>"
            assert heading in response.text
    assert "At most 7 examples" in response.text
    assert f"list of 1 to 7: list of {shape[0]}: number" in response.text
    assert "lower bound on the probability" in response.text
    for status in ("401", "421", "422", "429", "500", "503", "504"):
        assert f"<td>{status}</td>" in response.text
    # It is an example that is answered.
    (text,) = re.findall("-d &#x27;(.*?)&#x27; [^ ]*/certify<", response.text)
    with TestClient(serving.create_app(service)) as client:
        answer = client.post(
            "/certify",
            content=html.unescape(text),
            headers={"Content-Type": "application/json"},
        )
    assert answer.is_success


def test_the_page_about_the_service_shows_what_comes_from_outside(
    service, monkeypatch
):
    described = service.describe().model_copy(
        update={"noise": "<script>alert('&')</script>"}
    )
    monkeypatch.setattr(service, "describe", lambda: described)
    with TestClient(serving.create_app(service)) as client:
        page = client.get("/docs").text
    assert "<script" not in page
    assert "&lt;script&gt;alert(&#x27;&amp;&#x27;)" in page


# What is printed.

SECRET = "s3cr3t"
CONTROLS = "\x1b]0;owned\a\r\x9b2J\u202e\ud800\x7f"


def clean(text):
    assert SECRET not in text
    for character in text:
        assert character.isprintable() or character == "\n", repr(text)
    return text


def test_text_is_made_fit_to_be_printed():
    assert printable("größer: C:\\new 日本") == "größer: C:\\new 日本"
    assert printable("a\n\tb") == r"a\n\tb"
    assert printable("a\n\tb", lines=True) == "a\n\tb"
    assert printable(CONTROLS) == (r"\x1b]0;owned\x07\r\x9b2J\u202e\ud800\x7f")
    hint = "as postgresql://user@host/database"
    assert printable(hint) == hint
    assert printable(printable(CONTROLS)) == printable(CONTROLS)
    for address, kept in (
        (f"at postgresql://user:{SECRET}@host/db!", "@host/db!"),
        (f"postgres://user:{SECRET}@x:y@host/db", "@host/db"),
        (f"postgresql://user:p {SECRET}/#?@host", "@host"),
        (f"postgresql:///db?user=u&password={SECRET}&a=b", "&a=b"),
        (f"host=h password='{SECRET} \\' {SECRET}' dbname=d", " dbname=d"),
        (f"passwd = {SECRET} host=h", " host=h"),
    ):
        text = printable(address)
        assert SECRET not in text and text.endswith(kept), text


def test_arguments_are_printed_without_what_they_may_do(
    tmp_path, capsys, monkeypatch
):
    name = f"{CONTROLS}\nkeras-smoothing: all is well"
    address = f"postgresql://user:{SECRET}@host/db"
    missing = str(tmp_path / name)
    for command in (
        *(["report", missing], ["compare", missing, missing]),
        *(["serve", missing, "--port", "0"], ["certify", missing]),
        ["certify", missing, "--dataset", name],
        ["serve", "a.keras", "--port", name],
        ["serve", "a.keras", "--host", name, "--port", "0"],
        ["serve", "a.keras", "--token-file", missing],
        ["serve", "a.keras", "--memory", address, "--port", address],
        ["serve", "a.keras", f"--memry={address}"],
        ["serve", "a.keras", address],
        [address],
        [name],
        ["plan", "--model", address],
    ):
        try:
            status = cli.main(command)
        except SystemExit as end:
            status = end.code
        assert status == 2, command
        captured = capsys.readouterr()
        lines = clean(captured.err).splitlines()
        assert len(lines) == 1 and lines[0].startswith("keras-smoothing")
        assert not captured.out


@pytest.mark.skipif(sys.platform == "win32", reason="Names of files.")
def test_names_of_logs_are_printed_without_what_they_may_do(
    tmp_path, model, capsys
):
    logs = [
        tmp_path / f"\x1b]0;owned\a\r{i}\nnext: all is well.tsv" for i in (1, 2)
    ]
    for log in logs:
        model.certify(X, [0, 1], **SMALL, seed=3, log=log, verbose=0)
    for command in (["report", *logs], ["compare", *logs]):
        assert cli.main([*map(str, command)]) == 0
        text = clean(capsys.readouterr().out)
        assert r"\x1b]0;owned\x07\r1\nnext: all is well" in text
        assert not re.search("^next", text, re.MULTILINE)


def test_a_password_that_is_no_password_is_not_printed():
    arguments = types.SimpleNamespace(
        memory=f"postgresql://user:%zz{SECRET}@host/db"
    )
    with pytest.raises(ValueError, match="percent-encoded") as info:
        options.memory(arguments)
    assert SECRET not in str(info.value)


def test_warnings_are_printed_without_what_they_may_do(capsys, monkeypatch):
    def run(arguments):
        import warnings

        warnings.warn(f"{CONTROLS}\na://b:{SECRET}@c", stacklevel=1)

    monkeypatch.setattr(cli.command.plan, "run", run)
    assert cli.main(["plan"]) == 0
    assert len(clean(capsys.readouterr().err).splitlines()) == 1


def test_the_log_of_a_service_has_a_line_for_each_message(capsys):
    loggers = [
        logging.getLogger(name) for name in ("uvicorn", "keras_smoothing")
    ]
    before = [(each.handlers, each.propagate, each.level) for each in loggers]
    try:
        serve._log_to_terminal()
        for name in ("uvicorn.error", "keras_smoothing.serving.readiness"):
            try:
                raise ValueError(CONTROLS)
            except ValueError:
                logging.getLogger(name).exception(
                    "%s", f"{CONTROLS}\na://b:{SECRET}@c"
                )
            logging.getLogger(name).info("not this")
    finally:
        for each, state in zip(loggers, before, strict=True):
            each.handlers, each.propagate = state[:2]
            each.setLevel(state[2])
    text = clean(capsys.readouterr().err)
    assert text.count("keras-smoothing: ERROR: ") == 2
    assert text.count("Traceback") == 2 and "not this" not in text


@pytest.mark.slow
def test_options_of_the_command_are_those_of_the_service(
    digits_file, tmp_path, path
):
    token = tmp_path / "token"
    token.touch(0o600)
    token.write_text(TOKEN)
    arguments = ["--allowed-host", "a.example", "--allowed-host", "b.example"]
    arguments += ["--token-file", token, "--memory", path]
    arguments += ["--max-examples-per-minute", "3"]
    x = np.zeros((2, 8, 8, 1))
    with in_a_process(digits_file, "--port", "0", *arguments) as (
        process,
        address,
        _,
    ):
        headers = {"Authorization": f"Bearer {TOKEN}"}
        with httpx.Client(base_url=address, headers=headers) as client:
            for host, status in (
                *(("a.example", 200), ("b.example:80", 200)),
                ("c.example", 421),
            ):
                answer = client.get("/model", headers={"Host": host})
                assert answer.status_code == status
            assert httpx.get(f"{address}/model").status_code == 401
            assert httpx.get(f"{address}/health").status_code == 200
            answers = [
                # By a header, nobody becomes somebody else.
                client.post(
                    "/certify",
                    json=payload(x),
                    headers={"X-Forwarded-For": f"10.0.0.{i}"},
                ).status_code
                for i in range(2)
            ]
            assert answers == [200, 429]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert TOKEN not in process.stderr.read()


def test_names_by_which_a_host_is_known():
    def names(*command):
        parser = cli.command._parser()
        arguments = parser.parse_args(["serve", "a.keras", *command])
        return serve._names(arguments)

    assert names() == ["127.0.0.1"]
    assert names("--host", "0.0.0.0") == names("--host", "::") == []
    assert names("--host", "a", "--allowed-host", "b") == ["b", "a"]
