"""What one client cannot take from the others."""

import asyncio
import contextlib
import importlib
import json
import socket
import sys

import httpx2 as httpx
import keras
import numpy as np
import pytest
from conftest import smoothed
from starlette.exceptions import HTTPException
from test_serving import JSON
from test_serving import SMALL
from test_serving import Held
from test_serving import asked
from test_serving import bad_payloads
from test_serving import connected
from test_serving import figure
from test_serving import in_a_thread
from test_serving import payload
from test_serving import until
from uvicorn.protocols.http.h11_impl import H11Protocol

from keras_smoothing import serving
from keras_smoothing.serving import gate
from keras_smoothing.serving import payload as payloads
from keras_smoothing.serving.connection import connection
from keras_smoothing.serving.room import Room
from keras_smoothing.serving.room import address


@pytest.fixture(scope="module")
def service():
    base = keras.Sequential([keras.Input((3, 4)), keras.layers.Flatten()])
    return serving.Service(smoothed(base), **SMALL, seed=3)


@pytest.fixture
def held(service, monkeypatch):
    held = Held(service.answers["certify"])
    monkeypatch.setitem(service.answers, "certify", held)
    yield held
    held.go.set()


def examples(number=1):
    return np.random.default_rng(0).normal(size=(number, 3, 4))


def head(*lines):
    first = (b"POST /certify HTTP/1.1", b"Host: localhost")
    json = b"Content-Type: application/json"
    return b"\r\n".join((*first, json, *lines, b"", b""))


@contextlib.contextmanager
def opened(server, number, text=b""):
    """Connections to a server on which something was said."""
    with contextlib.ExitStack() as stack:
        sockets = []
        for _ in range(number):
            sockets.append(
                stack.enter_context(socket.create_connection(server, 60))
            )
            sockets[-1].sendall(text)
        yield sockets


def all_of(connection):
    """What a server says until it closes."""
    return b"".join(iter(lambda: connection.recv(4096), b""))


def url(server):
    host, port = server
    return f"http://{host}:{port}"


def test_who_does_not_finish_takes_no_place(service):
    app = serving.create_app(service, max_requests=4)
    http = connection(60)
    unfinished = head(b"Content-Length: 100") + b'{"instances"'
    with (
        in_a_thread(app, http=http) as server,
        opened(server, 130, unfinished),
    ):
        for _ in range(3):
            response = httpx.post(
                f"{url(server)}/certify", json=payload(examples())
            )
            assert response.status_code == 200, response.text


def test_a_slow_body_is_cut_off(service):
    app = serving.create_app(service, max_requests=1, timeout=0.3)
    unfinished = head(b"Content-Length: 100") + b'{"instances"'
    with in_a_thread(app) as server, opened(server, 1, unfinished) as slow:
        answer = all_of(slow[0])
        page = httpx.get(f"{url(server)}/metrics").text
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"Expected a body at 16384 bytes a second" in answer
    assert b"Received: 12 bytes" in answer
    assert figure(page, "refused_total", status="408") == 1


class Arriving:
    """A request whose body comes in parts; at a pace, as time is counted."""

    def __init__(self, parts, headers=()):
        self.headers = dict(headers)
        self._parts = parts

    async def receive(self):
        if not self._parts:
            await asyncio.Event().wait()
        part = self._parts.pop(0)
        return {
            "type": "http.request",
            "body": part,
            "more_body": bool(self._parts) or part == b"",
        }


def test_a_body_has_time_for_what_has_arrived(monkeypatch):
    deadlines = []

    async def read(parts, timeout=60.0):
        began = asyncio.get_running_loop().time()

        def on_progress(size, until):
            deadlines.append(until - began)

        return await payloads.read(Arriving(parts), 10**6, timeout, on_progress)

    parts = [b"a" * 2**14] * 3
    assert asyncio.run(read(list(parts))) == b"".join(parts)
    np.testing.assert_allclose(deadlines, [10, 11, 12, 13], atol=0.5)
    deadlines.clear()
    assert asyncio.run(read(list(parts), 10.5)) == b"".join(parts)
    np.testing.assert_allclose(deadlines, [10, 10.5, 10.5, 10.5], atol=0.4)
    monkeypatch.setattr(payloads, "_GRACE", 0.05)
    with pytest.raises(HTTPException, match="408"):
        asyncio.run(read([b"a" * 100, b""]))


def test_what_says_that_it_is_too_large_is_not_awaited(service):
    app = serving.create_app(service)
    large = head(b"Content-Length: 1000000000")
    chunks = head(b"Transfer-Encoding: chunked")
    chunks += b"2000\r\n" + b" " * 0x2000 + b"\r\n"
    with in_a_thread(app, http=connection(60)) as server:
        for text in (large, chunks + chunks[-0x2008:] * 3):
            with opened(server, 1, text) as (client,):
                answer = all_of(client)
            assert answer.startswith(b"HTTP/1.1 413 ")
            assert b"connection: close" in answer.lower()


def test_chunks_are_not_too_small(service):
    app = serving.create_app(service, max_bytes=10**6)
    text = json.dumps(payload(examples(64))).encode()
    parts = [text[i : i + 200] for i in range(0, len(text), 200)]
    small = head(b"Transfer-Encoding: chunked") + b"1\r\n \r\n" * 1_000
    with in_a_thread(app, http=connection(60)) as server:
        with httpx.Client(base_url=url(server), headers=JSON) as client:
            for _ in range(2):  # Of one connection, each request for itself.
                response = client.post("/certify", content=iter(parts))
                assert response.status_code == 200, response.text
        with opened(server, 1, small) as (client,):
            assert all_of(client).startswith(b"HTTP/1.1 400 ")


def test_any_examples_of_the_shape_fit_and_no_more(service):
    longest = np.full((64, 3, 4), -2.2250738585072014e-308)
    text = json.dumps(payload(longest)).encode()
    limit = payloads.longest_payload((3, 4), 64)
    assert len(text) <= limit < len(text) + 2_048

    async def ask():
        async with connected(serving.create_app(service)) as client:
            fits = await client.post("/certify", content=text, headers=JSON)
            text_and_spaces = text + b" " * 2_048
            large = await client.post(
                "/certify", content=text_and_spaces, headers=JSON
            )
            return fits, large

    fits, large = asyncio.run(ask())
    assert fits.status_code == 200, fits.text
    assert large.status_code == 413
    assert f"at most {limit} bytes" in large.json()["error"]


def test_brackets_are_counted_and_not_parsed(service, monkeypatch):
    app = serving.create_app(service)
    lists = b'{"instances": [' + b"[]," * 4_000 + b"[]]}"
    values = b'{"instances": [[[' + b"1," * 4_000 + b"1]]]}"

    def parsed(*arguments):
        raise AssertionError("parsed")

    async def ask():
        async with connected(app) as client:
            good = await client.post("/certify", json=payload(examples()))
            monkeypatch.setattr(payloads.Parser, "_parsed", parsed)
            monkeypatch.setattr(json, "loads", parsed)
            monkeypatch.setattr(json.JSONDecoder, "decode", parsed)
            return good, [
                await client.post("/certify", content=text, headers=JSON)
                for text in (lists, values)
            ]

    good, refused = asyncio.run(ask())
    monkeypatch.undo()
    assert good.status_code == 200
    for response in refused:
        assert response.status_code == 422
    assert "Received: 4002 lists, 4001 values" in refused[0].json()["error"]
    assert "Received: 3 lists, 4001 values" in refused[1].json()["error"]


async def sent(client, number, waiting):
    """Requests for certificates that wait in the queue."""
    requests = [
        asyncio.ensure_future(
            client.post("/certify", json=payload(examples()), timeout=60)
        )
        for _ in range(number)
    ]
    await until(client, "queue_requests", waiting)
    return requests


def test_who_has_most_makes_room_for_another_address(service, held):
    app = serving.create_app(service, max_requests=3)

    async def ask(server):
        async with contextlib.AsyncExitStack() as stack:
            one, other = [
                await stack.enter_async_context(
                    httpx.AsyncClient(
                        base_url=url(server),
                        transport=httpx.AsyncHTTPTransport(
                            local_address=f"127.0.0.{i}"
                        ),
                    )
                )
                for i in (2, 1)
            ]
            greedy = await asked(one, [examples()] * 3)
            await until(one, "queue_requests", 2)
            full = await one.post("/certify", json=payload(examples()))
            (modest,) = await sent(other, 1, 2)
            last = await greedy[-1]
            held.go.set()
            answers = [await request for request in (*greedy[:2], modest)]
            return full, last, answers

    with in_a_thread(app, http=connection(60)) as server:
        full, last, answers = asyncio.run(ask(server))
    for refused in (full, last):
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        assert "at most 3 requests" in refused.json()["error"]
    assert all(answer.status_code == 200 for answer in answers)


def test_bytes_are_taken_from_who_has_most(service, monkeypatch):
    monkeypatch.setattr(gate, "_LEAST_BYTES", 1)
    app = serving.create_app(service, max_bytes=4_000)
    unfinished = head(b"Content-Length: 4000") + b" " * 3_900
    with in_a_thread(app, http=connection(60)) as server:
        with opened(server, 8, unfinished) as slow:
            response = httpx.post(
                f"{url(server)}/certify", json=payload(examples())
            )
            # Four of these are more than four of the largest payloads.
            refused = [all_of(client) for client in slow[:4]]
            page = httpx.get(f"{url(server)}/metrics").text
    assert response.status_code == 200
    for answer in refused:
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"connection: close" in answer.lower()
    assert figure(page, "refused_total", status="503") == 4


def test_idle_connections_give_way(service):
    app = serving.create_app(service)
    http = connection(60, max_connections=20)
    with in_a_thread(app, http=http) as server:
        with httpx.Client(base_url=url(server)) as client:
            client.get("/health").raise_for_status()
            (pool,) = client._transport._pool.connections
            with opened(server, 100, b"GET /hea") as silent:
                response = client.post("/certify", json=payload(examples()))
                assert response.status_code == 200
                # Who has asked before is asked to leave last.
                assert client._transport._pool.connections == [pool]
                for late in silent[:81]:
                    with contextlib.suppress(ConnectionResetError):
                        assert all_of(late) == b""


def test_heads_are_read_by_h11_whatever_is_installed(monkeypatch):
    from uvicorn.protocols.http import auto

    class ByHttptools:
        pass

    monkeypatch.setattr(auto, "AutoHTTPProtocol", ByHttptools)
    name = "keras_smoothing.serving.connection"
    monkeypatch.setattr(serving, "connection", sys.modules[name])
    monkeypatch.delitem(sys.modules, name)
    fresh = importlib.import_module(name)
    assert issubclass(fresh.connection(1.0), H11Protocol)


def test_a_head_without_end_is_refused(service):
    app = serving.create_app(service)
    with in_a_thread(app, http=connection(60)) as server:
        with opened(server, 1, b"GET / HTTP/1.1\r\nA: ") as (client,):
            with contextlib.suppress(ConnectionError):
                for _ in range(64):
                    client.sendall(b"a" * 2**12)
                assert all_of(client).startswith(b"HTTP/1.1 400 ")


@pytest.fixture(scope="module")
def cut(service):
    """What a parser says to a text, in pieces or not."""
    one = payloads.Parser(service, 64)

    def parse(text, piece):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(payloads, "_PIECE", piece)
            try:
                return asyncio.run(one.parse(text))
            except HTTPException as error:
                return error

    return parse


@pytest.mark.parametrize("indent", [None, 0, 3])
def test_pieces_are_the_whole(cut, indent):
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**64, (64, 3, 4), "uint64").view("float64")
    x = np.where(np.abs(bits) < 1e3, bits, rng.normal(size=bits.shape))
    text = json.dumps(payload(x), indent=indent).encode()
    for piece in (10**6, 100, 1):
        np.testing.assert_array_equal(cut(text, piece), x)


def test_pieces_are_refused_where_the_whole_is(cut):
    text = json.dumps(payload(np.arange(24).reshape(2, 3, 4))).encode()
    texts = [text[:i] + text[i + 1 :] for i in range(len(text))]
    for what in (b"1", b"]", b"[", b",", b"x", b" "):
        texts += [text[:i] + what + text[i:] for i in range(len(text) + 1)]
    for text in texts:
        whole, pieces = cut(text, 10**6), cut(text, 1)
        if isinstance(whole, HTTPException):
            assert isinstance(pieces, HTTPException), text
            assert "Expected" in pieces.detail
        else:
            np.testing.assert_array_equal(whole, pieces)


def test_other_texts_are_refused_in_pieces_too(cut):
    for text in bad_payloads():
        whole, pieces = cut(text, 10**6), cut(text, 1)
        for error in (whole, pieces):
            assert isinstance(error, HTTPException)
            assert "Expected" in error.detail and "Received" in error.detail


def test_instances_are_given_once(cut):
    one = b'"instances": ' + json.dumps(examples().tolist()).encode()
    for text in (b"{%s,%s}" % (one, one), b'{"instances": 1, %s}' % one):
        assert cut(text, 10**6).status_code == 422
        assert cut(text, 1).status_code in (400, 422)


class Guest:
    def __init__(self, address, order):
        self.address, self.order, self.is_in = address, order, True

    def give_way(self):
        self.is_in = False


def test_an_address_has_what_others_leave():
    room = Room(4)
    first = [Guest("a", i) for i in range(4)]
    assert all(room.put(guest) for guest in first)
    other = Guest("b", -9)
    assert room.put(other)
    assert [guest.is_in for guest in first] == [False, True, True, True]
    late = Guest("a", -1)
    assert not room.put(late) and not late.is_in
    assert room.put(other, 2) and not first[1].is_in
    # Of two addresses with as much, the guest of the least order.
    assert not room.put(other, 3)
    for guest in first[2:]:
        guest.order = None
    assert room.put(Guest("c", 0), 2)
    assert not room.put(Guest("d", 0), 3)
    room.remove(first[2])
    assert room.put(Guest("d", 0))


def test_an_address_is_what_one_client_has():
    assert address(None) == ""
    assert address(("testclient", 5)) == "testclient"
    assert address(("127.0.0.2", 5)) == "127.0.0.2"
    assert address(("::ffff:127.0.0.2", 5)) == "127.0.0.2"
    ours = address(("2001:db8:0:1::1", 5))
    assert ours == address(("2001:db8:0:1:ffff::9", 7))
    assert ours != address(("2001:db8:0:2::1", 5))
