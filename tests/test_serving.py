"""Certificates over HTTP: what is answered, refused, batched and measured."""

import argparse
import asyncio
import contextlib
import gc
import json
import os
import pathlib
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import tracemalloc

import httpx2 as httpx
import keras
import numpy as np
import pytest
import uvicorn
from conftest import smoothed
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

import keras_smoothing as ks
from keras_smoothing import cli
from keras_smoothing import serving
from keras_smoothing.cli import options
from keras_smoothing.cli import serve
from keras_smoothing.serving.connection import connection

SMALL = dict(n0=20, n=200, alpha=0.01)
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def model(digits_file):
    return keras.saving.load_model(digits_file)


@pytest.fixture(scope="module")
def images():
    x, _ = ks.datasets.load("digits", "test[:17]")
    return x


def payload(x):
    return {"instances": x.tolist()}


def radii(response):
    assert response.status_code == 200, response.text
    return [answer["radius"] for answer in response.json()["predictions"]]


def figure(page, name, **labels):
    """A figure of a page of metrics; 0 where there is none yet."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == f"keras_smoothing_{name}"
        and labels.items() <= sample.labels.items()
    )


class Held:
    """An answer that waits until it is let go."""

    def __init__(self, answer):
        self.answer = answer
        self.go = threading.Event()

    def __call__(self, x):
        assert self.go.wait(60)
        return self.answer(x)


@contextlib.asynccontextmanager
async def connected(app):
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://test"
        ) as client:
            yield client


async def until(client, name, value, **labels):
    """Asks for metrics until one of them has a value."""
    async with asyncio.timeout(60):
        while True:
            page = (await client.get("/metrics")).text
            if figure(page, name, **labels) == value:
                return
            await asyncio.sleep(0)  # The others' turn.


async def asked(client, examples):
    """Requests for certificates, the first of which has begun."""
    requests = []
    for x in examples:
        request = client.post("/certify", json=payload(x), timeout=60)
        requests.append(asyncio.ensure_future(request))
        await until(client, "batch_examples_count", 1)
    return requests


def test_answers_are_those_of_the_model(model, images):
    service = serving.Service(model, **SMALL, seed=3)
    with TestClient(serving.create_app(service)) as client:
        answers = {
            name: client.post(f"/{name}", json=payload(images)).json()
            for name in ("certify", "classify", "predict")
        }
    result = model.certify(images, **SMALL, seed=3, verbose=0)
    for i, answer in enumerate(answers["certify"]["predictions"]):
        abstained = bool(result.prediction[i] == ks.ABSTAIN)
        assert answer == {
            "class": None if abstained else result.prediction[i],
            "abstained": abstained,
            "alpha": 0.01,
            "deployable": True,
            "memory_alpha": None,
            "radius": result.radius[i],
            "norm": "l2",
            "p_lower": result.p_lower[i],
            "num_samples": 200,
        }
    labels = model.classify(images, n=200, alpha=0.01, seed=3)
    for label, answer in zip(
        labels, answers["classify"]["predictions"], strict=True
    ):
        assert answer["abstained"] == (label == ks.ABSTAIN)
        assert answer["class"] == (None if label == ks.ABSTAIN else label)
    shares = np.array(answers["predict"]["predictions"])
    assert shares.shape == (17, 10)
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)
    assert np.mean(shares.argmax(axis=1) == labels) > 0.7


def test_numbers_of_a_payload_are_not_rounded(model, images):
    service = serving.Service(model, **SMALL, seed=3)
    x = images[:4].astype("float64") + 1e-9
    with TestClient(serving.create_app(service)) as client:
        answers = client.post("/certify", json=payload(x)).json()
    result = model.certify(x, **SMALL, seed=3, verbose=0)
    assert (result.rounding > 0).all()
    stated = [answer["radius"] for answer in answers["predictions"]]
    np.testing.assert_array_equal(stated, result.radius)


def test_requests_that_arrive_together_are_one_batch(model, images):
    service = serving.Service(model, **SMALL, seed=3)
    held = Held(service.answers["certify"])
    service.answers["certify"] = held

    async def ask():
        async with connected(serving.create_app(service)) as client:
            requests = await asked(client, np.split(images, 17))
            await until(client, "queue_requests", 16)
            # The event loop is free while the model is not.
            assert (await client.get("/health")).json() == {"status": "ready"}
            held.go.set()
            found = [radii(await request) for request in requests]
            return np.concatenate(found), (await client.get("/metrics")).text

    found, page = asyncio.run(ask())
    together = model.certify(images, **SMALL, seed=3, verbose=0)
    assert found.tolist() == together.radius.tolist()
    assert figure(page, "batch_examples_count") == 2
    assert figure(page, "batch_examples_sum") == 17
    assert figure(page, "batch_examples_bucket", le="1.0") == 1
    assert figure(page, "queue_requests") == 0


def test_different_questions_are_different_batches(model, images):
    service = serving.Service(model, **SMALL, seed=3)
    held = Held(service.answers["certify"])
    service.answers["certify"] = held

    async def ask():
        async with connected(serving.create_app(service)) as client:
            requests = []
            for name in ("certify", "classify", "certify", "classify"):
                request = client.post(f"/{name}", json=payload(images[:9]))
                requests.append(asyncio.ensure_future(request))
                if len(requests) == 1:
                    await until(client, "batch_examples_count", 1)
            await until(client, "queue_requests", 3)
            held.go.set()
            answers = [(await request).json() for request in requests]
            return answers, (await client.get("/metrics")).text

    answers, page = asyncio.run(ask())
    assert answers[0] == answers[2] and answers[1] == answers[3]
    # Two questions of nine examples fill more than a batch of 16.
    assert figure(page, "batch_examples_count") == 4


def test_nobody_knows_the_draws_before_the_batch_is_closed(
    model, images, monkeypatch
):
    service = serving.Service(model, n0=20, n=1_000, alpha=0.01)
    held = Held(service.answers["certify"])
    service.answers["certify"] = held
    drawn = []

    def randbits(bits):
        drawn.append(randbits_of_the_system(bits))
        return drawn[-1]

    randbits_of_the_system = secrets.randbits
    monkeypatch.setattr(secrets, "randbits", randbits)

    async def ask():
        async with connected(serving.create_app(service)) as client:
            (first,) = await asked(client, [images])
            assert not drawn
            held.go.set()
            second = client.post("/certify", json=payload(images))
            one, other = radii(await first), radii(await second)
            for name in ("classify", "predict", "predict"):
                await client.post(f"/{name}", json=payload(images))
            return one, other

    one, other = asyncio.run(ask())
    assert one != other
    assert len(set(drawn)) == len(drawn) == 5


def test_vote_shares_do_not_repeat_with_the_seed_of_a_file(digits_file, images):
    shares = []
    for _ in range(2):
        model = smoothed(
            keras.saving.load_model(digits_file).base_model, seed=5
        )
        service = serving.Service(model, **SMALL)
        shares.append(service.answers["predict"](images))
    assert shares[0] != shares[1]


def test_vote_shares_leave_the_seed_of_the_model_alone(model):
    model = smoothed(model.base_model, seed=5)
    service = serving.Service(model, **SMALL, seed=1)
    x = np.random.default_rng(0).random((3, *service.shape), "float32")
    before = np.array(model.seed_generator.state)
    shares = service.answers["predict"](x)
    np.testing.assert_array_equal(model.seed_generator.state, before)
    assert shares == service.answers["predict"](x)
    np.testing.assert_allclose(np.sum(shares, axis=1), 1, atol=1e-6)


def test_a_function_is_called_by_one_thread():
    threads = set()

    def positive(x):
        threads.add(threading.get_ident())
        return (x[:, 0] > 0).astype("int64")

    base = ks.from_function(positive, 2, "positive", (3,))
    service = serving.Service(smoothed(base, num_draws=3), **SMALL)
    for _ in range(2):  # Of one process, several applications.
        with TestClient(serving.create_app(service)) as client:
            for name in ("certify", "classify", "predict"):
                answer = client.post(f"/{name}", json=payload(np.eye(3)))
                assert answer.status_code == 200, answer.text
    (thread,) = threads
    assert thread != threading.get_ident()


def test_a_binary_model_is_served_with_two_classes():
    base = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    service = serving.Service(smoothed(base), **SMALL)
    shares = service.answers["predict"](np.ones((5, 4), "float32"))
    np.testing.assert_allclose(np.sum(shares, axis=1), 1, atol=1e-6)
    assert np.shape(shares) == (5, service.describe().num_classes) == (5, 2)


@pytest.mark.slow
def test_other_sizes_of_batches_are_not_compiled_anew(
    model, images, monkeypatch
):
    model = smoothed(model.base_model)
    traces = []
    sample = ks.noise.Gaussian.sample

    def traced(self, *arguments, **settings):
        traces.append(1)
        return sample(self, *arguments, **settings)

    monkeypatch.setattr(ks.noise.Gaussian, "sample", traced)
    search = ks.DataDependentSigma(0.1, 0.5, steps=2)
    for settings in ({}, dict(sigma=search, memory=ks.CertificationMemory())):
        before = len(traces)
        service = serving.Service(model, **SMALL, **settings)
        after = len(traces)
        assert after > before
        for answer in service.answers.values():
            for size in range(1, 18):
                assert len(answer(images[:size])) == size
        assert len(traces) == after


def test_a_memory_keeps_what_was_answered(model, images, tmp_path):
    search = ks.DataDependentSigma(0.1, 0.5, steps=2)
    path = tmp_path / "promises.sqlite"
    noise = np.random.default_rng(0).normal(size=images.shape)
    noise /= np.linalg.norm(noise.reshape(17, -1), axis=1).reshape(-1, 1, 1, 1)
    with ks.CertificationMemory(path) as memory:
        service = serving.Service(model, **SMALL, sigma=search, memory=memory)
        assert len(memory) == 0  # Warming up promises nothing.
        with TestClient(serving.create_app(service)) as client:
            first = client.post("/certify", json=payload(images)).json()
            radius = np.array([a["radius"] for a in first["predictions"]])
            inside = images + 0.99 * radius.reshape(-1, 1, 1, 1) * noise
            again = client.post("/certify", json=payload(inside)).json()
            labels = client.post("/classify", json=payload(inside)).json()
            assert client.post("/predict", json=payload(images)).is_error
            assert client.get("/model").json()["deployable"]
            spent = [a["memory_alpha"] for a in labels["predictions"]]
            assert len(spent) == 17 and max(spent) == memory.alpha_spent
            assert memory.num_queries >= np.sum(radius > 0)
    assert np.sum(radius > 0) > 10
    for one, other, label in zip(
        *(a["predictions"] for a in (first, again, labels)), strict=True
    ):
        assert one["deployable"]
        if not one["abstained"]:
            assert one["class"] == other["class"] == label["class"]
            assert other["num_samples"] == other["p_lower"] == 0
            assert 0 < other["radius"] < one["radius"]
    with ks.CertificationMemory(path) as memory:
        assert len(memory) >= np.sum(radius > 0)
        other_model = smoothed(keras.models.clone_model(model.base_model))
        with pytest.raises(ValueError, match="is of another classifier"):
            serving.Service(other_model, **SMALL, memory=memory)


@pytest.mark.filterwarnings("ignore:Without a memory")
def test_evidence_is_not_deployable(model, images):
    search = ks.DataDependentSigma(0.1, 0.5, steps=2)
    service = serving.Service(model, **SMALL, sigma=search)
    with TestClient(serving.create_app(service)) as client:
        for name in ("certify", "classify"):
            response = client.post(f"/{name}", json=payload(images[:2]))
            for answer in response.json()["predictions"]:
                assert answer["deployable"] is False
        description = client.get("/model").json()
        assert description["deployable"] is False
        assert description["sigma"].startswith("DataDependentSigma(")


@pytest.fixture(scope="module")
def service(model):
    return serving.Service(model, **SMALL, seed=3)


def test_what_is_served_is_described(service, model, images):
    with TestClient(serving.create_app(service)) as client:
        description = client.get("/model").json()
        page = client.get("/openapi.json").json()
        body = page["paths"]["/certify"]["post"]["requestBody"]
        instances = body["content"]["application/json"]["schema"]
        (example,) = instances["examples"]
        for name in service.answers:
            assert client.post(f"/{name}", json=example).status_code == 200
        schemas = page["components"]["schemas"]
    assert description["noise"] == "Gaussian(sigma=0.25)"
    assert description["shape"] == [8, 8, 1]
    assert description["num_classes"] == 10
    assert len(description["fingerprint"]) == 64
    assert (description["n"], description["memory"]) == (200, False)
    assert description["total_alpha"] is None
    number = instances["properties"]["instances"]
    while "items" in number:
        number = number["items"]
    assert number["maximum"] == -number["minimum"] == service.limit
    answer = schemas["Certificate"]["properties"]
    assert {"class", "radius", "p_lower", "deployable"} <= set(answer)


def bad_payloads():
    """Text that is no request, or one that cannot be answered."""
    rng = np.random.default_rng(0)
    good = np.zeros((2, 8, 8, 1)).tolist()
    things = [
        *("1", "", None, True, {}, {"a": 1}, [], [1, 1], [[]], 10**400, 1e300),
        *(
            1e39,
            -1e39,
            float("nan"),
            float("inf"),
            float("-inf"),
            1e6,
            "x" * 99,
        ),
    ]
    yield from (b"", b"{", b"\xff", b"null", b"[" * 20_000, b"{}", b"[]", b"1")
    yield b'{"instances": ' + b"1" * 5_000 + b"}"
    yield b'{"instances": ' + b"[" * 5_000 + b"]" * 5_000 + b"}"
    yield json.dumps({"instances": good, "signature_name": "x"}).encode()
    yield json.dumps({"inputs": good}).encode()
    yield json.dumps({"instances": good * 40}).encode()
    for thing in things:
        yield json.dumps(thing).encode()
        yield json.dumps({"instances": thing}).encode()
        yield json.dumps({"instances": [thing]}).encode()
        for _ in range(8):
            # At any depth, in the place of a number or of a list of them.
            broken = json.loads(json.dumps(good))
            place = broken
            for _ in range(rng.integers(0, 4)):
                place = place[rng.integers(len(place))]
            place[rng.integers(len(place))] = thing
            yield json.dumps({"instances": broken}).encode()
    for _ in range(100):
        # Cut off, or with one byte of another kind.
        text = bytearray(json.dumps({"instances": good}).encode())
        where = rng.integers(len(text))
        if rng.random() < 0.5:
            yield bytes(text[:where])
        else:
            text[where] = rng.choice(list(b"xN\x00\x80"))
            yield bytes(text)


def test_bad_payloads_are_refused_in_a_sentence(service):
    app = serving.create_app(service)
    with TestClient(app) as client:
        for text in bad_payloads():
            response = client.post("/certify", content=text, headers=JSON)
            assert 400 <= response.status_code < 500, text
            sentence = response.json()["error"]
            assert "Expected" in sentence and "Received" in sentence
        # Also of what is no JSON by its own word.
        good = json.dumps({"instances": np.zeros((1, 8, 8, 1)).tolist()})
        for headers in ({"a": "b"}, {"Content-Type": "text/plain"}):
            response = client.post("/certify", content=good, headers=headers)
            assert response.status_code == 422
            assert "Content-Type: application/json" in response.json()["error"]
        assert client.post("/certify", content=good, headers=JSON).is_success
        for path in ("/", "/nothing"):
            assert client.get(path).status_code == 404
        assert client.get("/certify").status_code == 405


def test_a_bad_example_is_alone_in_being_refused(service, images):
    held = Held(service.answers["certify"])
    bad = images[:1].copy()
    bad[0, 0] = 1e6

    async def ask(app):
        async with connected(app) as client:
            one, two, three = np.split(images[:3], 3)
            requests = await asked(client, [one, two, bad, three])
            await until(client, "queue_requests", 2)
            held.go.set()
            return [await request for request in requests]

    answers = service.answers
    service.answers = {**answers, "certify": held}
    try:
        first, second, refused, last = asyncio.run(
            ask(serving.create_app(service))
        )
    finally:
        service.answers = answers
    assert refused.status_code == 422
    assert "float32 resolves the noise" in refused.json()["error"]
    alone = [a.radius for a in answers["certify"](images[:3])]
    assert [*radii(first), *radii(second), *radii(last)] == alone


def test_limits(service, images):
    app = serving.create_app(service, max_examples=3, max_bytes=3_000)
    with TestClient(app) as client:
        assert client.post("/certify", json=payload(images[:3])).is_success
        response = client.post("/certify", json=payload(images[:4]))
        assert response.status_code == 422
        assert "1 to 3 examples" in response.json()["error"]
        # Also one that does not say how many bytes it has.
        chunks = iter([b" " * 1_000] * 4)
        for large in ({"json": payload(images)}, {"content": chunks}):
            response = client.post("/certify", **large, headers=JSON)
            assert response.status_code == 413
            sentence = response.json()["error"]
            assert sentence.startswith("Expected a payload of at most 3000 ")
    for limit in ("max_examples", "max_bytes", "max_requests", "timeout"):
        with pytest.raises(ValueError, match=limit):
            serving.create_app(service, **{limit: 0})


def test_a_full_house_refuses_and_says_when_to_come_again(service, images):
    held = Held(service.answers["certify"])
    answers = service.answers
    service.answers = {**answers, "certify": held}

    async def ask(app):
        async with connected(app) as client:
            inside = await asked(client, [images[:1]] * 3)
            await until(client, "queue_requests", 2)
            refused = await client.post("/certify", json=payload(images[:1]))
            held.go.set()
            for request in inside:
                assert (await request).is_success
            again = await client.post("/certify", json=payload(images[:1]))
            return refused, again, (await client.get("/metrics")).text

    try:
        refused, again, page = asyncio.run(
            ask(serving.create_app(service, max_requests=3))
        )
    finally:
        service.answers = answers
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert "at most 3 requests" in refused.json()["error"]
    assert again.is_success
    assert figure(page, "refused_total", status="503") == 1


def test_what_has_waited_too_long_is_dropped(service, images, monkeypatch):
    held = Held(service.answers["certify"])
    answers = service.answers
    service.answers = {**answers, "certify": held}

    async def ask(app):
        async with connected(app) as client:
            late = await asked(client, [images[:k] for k in (1, 2, 4)])
            late = [await request for request in late]
            await until(client, "queue_requests", 0)
            monkeypatch.setattr(app.state.gate, "_timeout", 60)
            request = asyncio.ensure_future(
                client.post("/certify", json=payload(images[:8]))
            )
            await until(client, "queue_requests", 1)
            held.go.set()
            answer = await request
            return late, answer, (await client.get("/metrics")).text

    try:
        late, answer, page = asyncio.run(
            ask(serving.create_app(service, timeout=0.2))
        )
    finally:
        service.answers = answers
    assert [response.status_code for response in late] == [504] * 3
    assert "within 0.2 s" in late[0].json()["error"]
    assert len(radii(answer)) == 8
    # The first had begun; the others never did.
    assert figure(page, "batch_examples_sum") == 9


def test_who_waits_takes_little_memory(service):
    held = Held(service.answers["certify"])
    answers = service.answers
    service.answers = {**answers, "certify": held}
    x = np.zeros((64, *service.shape), int)
    text = json.dumps(payload(x)).encode()

    async def ask(app):
        async with connected(app) as client:

            def post():
                request = client.post("/certify", content=text, headers=JSON)
                return asyncio.ensure_future(request)

            requests = [*await asked(client, [x]), post()]
            await until(client, "queue_requests", 1)
            tracemalloc.start()
            requests += [post() for _ in range(4)]
            await until(client, "queue_requests", 5)
            gc.collect()
            taken, _ = tracemalloc.get_traced_memory()
            held.go.set()
            for request in requests:
                assert (await request).is_success
            return taken

    try:
        taken = asyncio.run(ask(serving.create_app(service)))
    finally:
        tracemalloc.stop()
        service.answers = answers
    # The text and an array of float64, but no lists.
    assert taken < 4 * 2 * (len(text) + 8 * x.size)


def test_a_memory_that_is_locked_is_not_the_fault_of_a_client(model, images):
    def locked(x):
        raise TimeoutError("/secret/path is locked")

    memory = ks.CertificationMemory()
    service = serving.Service(model, **SMALL, memory=memory)
    service.answers["certify"] = locked
    with TestClient(serving.create_app(service)) as client:
        response = client.post("/certify", json=payload(images))
    assert response.status_code == 503 and response.headers["retry-after"]
    assert "Expected a memory" in response.json()["error"]
    assert "secret" not in response.text


def test_metrics_say_what_happened(model, images):
    service = serving.Service(model, n0=20, n=30, alpha=0.01, seed=3)
    with TestClient(serving.create_app(service)) as client:
        answers = client.post("/certify", json=payload(images)).json()
        client.post("/certify", json=payload(images[:2]))
        client.post("/predict", json=payload(images[:3]))
        client.post("/classify", json={})
        page = client.get("/metrics").text
    abstained = [a["abstained"] for a in answers["predictions"]]
    assert any(abstained) and not all(abstained)
    number = sum(abstained) + sum(abstained[:2])
    certify = dict(path="/certify")
    assert figure(page, "requests_total", **certify, status="200") == 2
    assert figure(page, "requests_total", path="/classify", status="422") == 1
    assert figure(page, "refused_total") == 1
    assert figure(page, "examples_total", **certify) == 19
    assert figure(page, "examples_total") == 22
    assert figure(page, "abstentions_total", **certify) == number
    assert figure(page, "latency_seconds_count", **certify) == 2
    assert figure(page, "latency_seconds_count", path="/classify") == 0
    assert figure(page, "batch_examples_sum") == 22
    assert "process_resident_memory_bytes" in page


def test_unfit_models_are_not_served():
    open_shape = keras.Sequential(
        [
            keras.Input((None, None, 1)),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3),
        ]
    )
    with pytest.raises(ValueError, match="known input shape"):
        serving.Service(smoothed(open_shape), **SMALL)

    class OverTheBatch(keras.layers.Layer):
        def call(self, x):
            return x - keras.ops.mean(x, axis=0)

    mixing = keras.Sequential(
        [keras.Input((4,)), OverTheBatch(), keras.layers.Dense(3)]
    )
    with pytest.raises(ValueError, match="what else is in the batch"):
        serving.Service(smoothed(mixing), **SMALL)
    with pytest.raises(ValueError, match="`model`"):
        serving.Service(mixing)


def test_the_extra_is_named_where_it_is_missing(monkeypatch):
    for name in list(sys.modules):
        if name.startswith("keras_smoothing.serving"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(ks, "serving")
    monkeypatch.setitem(sys.modules, "fastapi", None)
    with pytest.raises(ImportError, match=r"keras_smoothing\[serve\]"):
        import keras_smoothing.serving  # noqa: F401


@contextlib.contextmanager
def in_a_thread(app, **settings):
    """The app behind a real server: its address."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="warning", **settings)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        yield listening.getsockname()
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


def test_who_hangs_up_leaves_the_queue_and_hurts_nobody(service, images):
    held = Held(service.answers["certify"])
    answers = service.answers
    service.answers = {**answers, "certify": held}
    text = json.dumps(payload(images[:2])).encode()
    head = (
        b"POST /certify HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(text)
    )

    async def ask(address):
        host, port = address
        async with httpx.AsyncClient(
            base_url=f"http://{host}:{port}"
        ) as client:
            (first,) = await asked(client, [images[:1]])
            gone = [socket.create_connection(address) for _ in range(3)]
            gone[0].sendall(head + text)
            gone[1].sendall(head + text)
            gone[2].sendall(head + text[:100])  # In the middle of its body.
            await until(client, "queue_requests", 2)
            patient = asyncio.ensure_future(
                client.post("/certify", json=payload(images[:4]), timeout=60)
            )
            await until(client, "queue_requests", 3)
            for connection in gone:
                connection.close()
            await until(client, "queue_requests", 1)
            await until(client, "refused_total", 3)
            held.go.set()
            page = (await client.get("/metrics")).text
            found = radii(await first), radii(await patient)
            return found, page, (await client.get("/metrics")).text

    try:
        with in_a_thread(serving.create_app(service)) as address:
            found, page, last = asyncio.run(ask(address))
    finally:
        service.answers = answers
    assert figure(page, "requests_total", status="499") == 3
    alone = [a.radius for a in answers["certify"](images[:4])]
    assert found == (alone[:1], alone)
    assert figure(last, "batch_examples_sum") == 5


def test_who_says_nothing_is_not_waited_for(service, images):
    held = Held(service.answers["certify"])
    answers = service.answers
    service.answers = {**answers, "certify": held}
    health = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"

    async def ask(address):
        host, port = address
        async with httpx.AsyncClient(
            base_url=f"http://{host}:{port}"
        ) as client:
            (request,) = await asked(client, [images[:1]])
            await asyncio.to_thread(wait_for_an_end, address)
            held.go.set()
            return await request

    def wait_for_an_end(address):
        # Nothing, half a head, and half a head after an answer.
        for text in (b"", b"GET /hea", health + b"GET /hea"):
            with socket.create_connection(address, timeout=60) as silent:
                silent.sendall(text)
                while silent.recv(4096):
                    pass

    app = serving.create_app(service)
    try:
        with in_a_thread(app, http=connection(0.1)) as address:
            answer = asyncio.run(ask(address))
    finally:
        service.answers = answers
    # An answer may take as long as it takes.
    assert len(radii(answer)) == 1


@contextlib.contextmanager
def in_a_process(*arguments):
    """The command, and the address that it prints."""
    command = [sys.executable, "-m", "keras_smoothing.cli", "serve"]
    process = subprocess.Popen(
        [*command, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        address = re.match("serving at (http://127.0.0.1:([0-9]+))\n", line)
        assert address, line + process.stderr.read()
        yield process, address[1], int(address[2])
    finally:
        process.kill()
        process.communicate()


def peak_bytes(process):
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\s*(\d+) kB", status)[1])


@pytest.mark.slow
def test_a_process_serves_and_ends_in_order(
    digits_file, images, tmp_path, capfd
):
    memory = tmp_path / "promises.sqlite"
    arguments = [digits_file, "--port", "0", "--n", "30000"]
    arguments += ["--memory", memory, "--max-bytes", "100000"]
    with in_a_process(*arguments) as (process, address, port):
        # Its port is taken.
        command = ["serve", str(digits_file), "--port", str(port)]
        assert cli.main(command) == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert (
            f"Expected a free port. Received: --host 127.0.0.1 --port {port}"
            in line
        )

        # What is too large is not held, whether or not it says its size.
        before = peak_bytes(process)
        mebibytes = [b" " * 2**20] * 100
        for headers in (JSON, {**JSON, "Content-Length": str(100 * 2**20)}):
            with contextlib.suppress(httpx.NetworkError):
                response = httpx.post(
                    f"{address}/certify",
                    content=iter(mebibytes),
                    headers=headers,
                    timeout=60,
                )
                assert response.status_code == 413
        assert peak_bytes(process) - before < 40e6

        # What runs is answered, and nothing new is let in.
        async def ask():
            async with httpx.AsyncClient(
                base_url=address, timeout=60
            ) as client:
                (request,) = await asked(client, [images[:16]])
                process.send_signal(signal.SIGTERM)
                answer = await request
                with contextlib.suppress(httpx.TransportError):
                    async with httpx.AsyncClient() as late:
                        response = await late.get(f"{address}/health")
                        assert response.status_code == 503
                return answer

        assert len(radii(asyncio.run(ask()))) == 16
        assert process.wait(60) == 0
        assert process.stderr.read().count("Traceback") == 0
    # The last to close an SQLite file in order takes its log away.
    assert memory.exists() and not os.path.exists(f"{memory}-wal")
    with ks.CertificationMemory(memory) as kept:
        assert len(kept) > 8


@pytest.mark.slow
def test_an_end_does_not_wait_for_who_does_not_read(digits_file):
    arguments = [digits_file, "--port", "0", "--timeout", "1"]
    with in_a_process(*arguments) as (process, _, port):
        with socket.create_connection(("127.0.0.1", port)) as greedy:
            greedy.settimeout(1)
            ask = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
            with pytest.raises(TimeoutError):
                while True:  # Until nobody reads that either.
                    greedy.sendall(ask * 1_000)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0


def test_code_in_a_model_file_is_run_for_those_who_trust_it(tmp_path, capsys):
    path = str(tmp_path / "lambda.keras")
    keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Lambda(lambda x: 2 * x),
            keras.layers.Dense(3),
        ]
    ).save(path)
    # With so few draws it would not be served either.
    command = ["serve", path, "--port", "0", "--sigma", "0.25", "--n", "3"]
    assert cli.main(command) == 2
    assert "or --trust-model" in capsys.readouterr().err
    arguments = argparse.Namespace(model=path, sigma=0.25, modules=[])
    assert isinstance(
        options.smoothed(arguments, trusted=True), ks.SmoothedModel
    )


def test_no_part_of_an_answer_waits_for_the_one_before():
    arguments = argparse.Namespace(host="127.0.0.1", port=0)
    with (
        serve._listen(arguments) as listening,
        socket.create_connection(listening.getsockname()),
    ):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_wrong_options_are_one_line(digits_file, capsys):
    command = ["serve", str(digits_file), "--port"]
    for wrong in (["80000"], ["0", "--n", "3"], ["0", "--max-bytes", "0"]):
        assert cli.main([*command, *wrong]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("keras-smoothing: error: ")
    assert cli.main(["serve", "missing.keras", "--port", "0"]) == 2
