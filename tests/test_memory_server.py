"""A memory on a PostgreSQL server, started here where it is installed."""

import contextlib
import glob
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import pytest
from memory_processes import check_promises
from memory_processes import promise_and_be_killed
from memory_processes import spend_together

import keras_smoothing as ks

MODEL = "a fingerprint"


class Server:
    """A server of its own, reached by a socket in its folder."""

    def __init__(self, folder, programs):
        self._folder = folder
        self._programs = programs
        self.run("initdb", "--auth=trust", "--username=ks", "--no-sync")
        self.start()

    def run(self, program, *arguments):
        # The server refuses to run as root.
        user = "nobody" if os.geteuid() == 0 else None
        subprocess.run(
            [f"{self._programs}/{program}", f"-D{self._folder}/data"]
            + list(arguments),
            check=True,
            user=user,
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
        )

    def start(self):
        options = (
            f"-c listen_addresses= -c unix_socket_directories={self._folder}"
        )
        self.run(
            *("pg_ctl", "start", "--wait", f"--log={self._folder}/log"),
            f"--options={options}",
        )

    def crash(self):
        self.run("pg_ctl", "stop", "--mode=immediate")

    def address(self, database="postgres"):
        return f"postgresql://ks@/{database}?host={self._folder}"


@pytest.fixture(scope="module")
def server():
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    found = shutil.which("initdb") or max(
        glob.glob("/usr/lib/postgresql/*/bin/initdb"), default=None
    )
    if found is None:
        pytest.skip("no PostgreSQL server is installed")
    # A short path: that of a socket has at most 107 bytes.
    folder = pathlib.Path(tempfile.mkdtemp())
    if os.geteuid() == 0:
        shutil.chown(folder, "nobody")
    server = Server(folder, pathlib.Path(found).resolve().parent)
    yield server
    server.crash()
    shutil.rmtree(folder)


@pytest.fixture
def address(server, request):
    """The address of an empty database."""
    import psycopg

    name = f"test_{abs(hash(request.node.name))}"
    with psycopg.connect(server.address(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server.address(name)


@contextlib.contextmanager
def connected(address):
    import psycopg

    with psycopg.connect(address, autocommit=True) as connection:
        yield connection


def open_memory(address, shape=(2,)):
    memory = ks.CertificationMemory(address)
    memory.bind(MODEL, "l2", shape)
    return memory


def promise(memory, x, prediction=1, radius=0.5):
    x = np.array([x], "float32")
    return memory.promise(x, [prediction], [radius], 1.0, 0.01)[0]


def look_up(memory, x):
    return memory.look_up(np.array([x], "float32"))[0]


def test_it_decides_as_one_in_ram(address):
    rng = np.random.default_rng(0)
    with open_memory(address) as here, ks.CertificationMemory() as there:
        there.bind(MODEL, "l2", (2,))
        for _ in range(300):
            x = rng.random((2, 2), dtype="float32")
            query = (x, rng.integers(-1, 3, 2), 0.1 * rng.random(2), 1.0, 0.01)
            assert here.promise(*query) == there.promise(*query)
        scale = 0.5 + rng.random((1, 2), dtype="float32")
        query = (x[:1] + 9, [1], [0.1], scale, 0.01)
        assert str(here.promise(*query)) == str(there.promise(*query))
        kept = str(list(there))
        assert str(list(here)) == kept
    with ks.CertificationMemory(address) as again:
        assert again.identity == (MODEL, "l2", (2,), "", "hard", "")
        assert str(list(again)) == kept


def test_what_another_adds_is_seen_and_respected(address):
    with open_memory(address) as one, open_memory(address) as other:
        assert look_up(one, [0, 0]) is look_up(other, [0, 0]) is None
        first = promise(one, [0, 0], prediction=1)
        assert promise(other, [0, 0], prediction=2) == first
        promise(other, [3, 0], prediction=2)
        assert look_up(one, [3, 0]).prediction == 2
        assert len(one) == len(other) == 2


@pytest.mark.slow
def test_four_processes_killed_at_random_lose_nothing(address, tmp_path):
    folder = tmp_path / "returned"
    folder.mkdir()
    returned, answers = promise_and_be_killed(address, folder, rounds=10)
    assert len(returned) > 100
    with open_memory(address) as memory:
        check_promises(memory, returned, answers)


@pytest.mark.slow
def test_processes_share_out_a_total(address):
    with ks.CertificationMemory(address, total_alpha=0.05) as memory:
        memory.bind(MODEL, "l2", (2,))
        alphas = spend_together(address, processes=2)
        assert memory.num_queries == len(alphas) == 2 * 79
        k = np.arange(1, len(alphas) + 1)
        shares = np.minimum(0.01, 0.05 * 6 / (np.pi * k) ** 2)
        np.testing.assert_array_equal(np.sort(alphas)[::-1], shares)
        assert memory.alpha_spent == pytest.approx(shares.sum(), rel=1e-12)
    with ks.CertificationMemory(address) as memory:
        assert memory.total_alpha == 0.05
    with pytest.raises(ValueError, match=r"total_alpha=0\.1\. Received"):
        ks.CertificationMemory(address, total_alpha=0.1)


def test_a_server_that_crashes_keeps_what_was_returned(server, address):
    with open_memory(address) as memory:
        for i in range(20):
            promise(memory, [2 * i, 0], prediction=i)
        server.crash()
        with pytest.raises(ConnectionError, match="an answer from postgresql"):
            promise(memory, [0, 9])
        with pytest.raises(ConnectionError):
            look_up(memory, [0, 9])
        server.start()
        assert look_up(memory, [0, 9]) is None
        assert promise(memory, [0, 9], prediction=7).prediction == 7
        assert len(memory) == 21
    with open_memory(address) as memory:
        for i in range(20):
            assert look_up(memory, [2 * i, 0.5]).prediction == i


def test_several_memories_share_a_database(address):
    with connected(address) as connection:
        connection.execute("CREATE SCHEMA one")
        connection.execute("CREATE SCHEMA other")
    one = f"{address}&options=-csearch_path%3Done"
    other = f"{address}&options=-csearch_path%3Dother"
    with open_memory(one) as first, open_memory(other, (3,)) as second:
        promise(first, [0, 0])
        assert len(first) == 1
        assert len(second) == 0


def test_another_classifier_is_refused_by_name(address):
    with open_memory(address) as memory:
        promise(memory, [0, 0])
    with ks.CertificationMemory(address) as memory:
        with pytest.raises(ValueError, match=r"Expected model='b'(.|\n)*Recei"):
            memory.bind("b", "l2", (2,))


def test_a_locked_memory_is_waited_for_and_then_named(address, monkeypatch):
    store = "keras_smoothing.memory.postgresql_store"
    monkeypatch.setattr(f"{store}._TIMEOUT", 0.1)
    with open_memory(address) as memory, connected(address) as other:
        other.execute("SELECT pg_advisory_lock(%s)", (0x6B736D31,))
        with pytest.raises(TimeoutError, match=r"within 0\.1 s"):
            promise(memory, [0, 0])
        assert look_up(memory, [0, 0]) is None
        other.execute("SELECT pg_advisory_unlock_all()")
        assert promise(memory, [0, 0]).prediction == 1


def test_a_memory_that_may_not_be_written_is_named(address):
    open_memory(address).close()
    only_read = "options=-cdefault_transaction_read_only%3Don"
    with open_memory(f"{address}&{only_read}") as memory:
        assert look_up(memory, [0, 0]) is None
        with pytest.raises(PermissionError, match="may read and write"):
            promise(memory, [0, 0])
        assert look_up(memory, [0, 0]) is None


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE keras_smoothing_promises SET radius = 0.75",
        "DELETE FROM keras_smoothing_promises WHERE id = 1",
        "DROP TABLE keras_smoothing_promises",
        "DELETE FROM keras_smoothing_memory",
        "UPDATE keras_smoothing_memory SET format = 99",
        "UPDATE keras_smoothing_memory SET num_queries = -1",
        "DELETE FROM keras_smoothing_promises WHERE id = 2",
        "UPDATE keras_smoothing_memory SET chain = ''",
    ],
)
def test_damage_is_named(address, statement):
    with open_memory(address) as memory:
        promise(memory, [0, 0])
        promise(memory, [2, 0])
    with connected(address) as connection:
        connection.execute(statement)
    with pytest.raises(ValueError, match=r"Expected(.|\n)*Received"):
        with open_memory(address) as memory:
            look_up(memory, [0, 0])
            memory.spend(1, 0.01)


def test_a_standby_that_lags_behind_is_noticed(address):
    with open_memory(address) as memory:
        promise(memory, [0, 0])
        earlier = memory.head
        promise(memory, [2, 0])
        later = memory.head
        with connected(address) as connection:
            connection.execute(
                "DELETE FROM keras_smoothing_promises WHERE id = 2"
            )
            connection.execute(
                "UPDATE keras_smoothing_memory SET num_promises = 1, "
                f"chain = '{earlier.chain}'"
            )
        with pytest.raises(ValueError, match="is behind"):
            look_up(memory, [0, 0])
    # Another process cannot know it, but by a log.
    with open_memory(address) as memory:
        memory.check_holds(earlier)
        with pytest.raises(ValueError, match="is behind"):
            memory.check_holds(later)


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://me:secret@/db?host=/nowhere",
        "postgresql://me:sec%72et@localhost:1/db",
        "postgresql://localhost/db?password=secret&port=1",
        "postgresql://me:secret@localhost:notaport/db",
        "postgresql://me:secret@local host/db",
        "postgres://me:secret@[::1/db",
        "postgresql://me:sec ret@/db?host=/nowhere",
        "postgresql://me:secret%zz@localhost/db",
        "postgresql://me:se@cret@localhost:1/db",
        "postgresql://me:se/cret@localhost:1/db",
        "postgresql://me:secret@localhost:1/db?sslmode=secret",
        "postgresql://me:secret@localhost:1/db?connect_timeout=secret",
        "postgresql://me@localhost:1/db?sslpassword=secret&sslmode=secret",
    ],
)
def test_messages_show_no_password(address):
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    with pytest.raises((ConnectionError, ValueError)) as caught:
        ks.CertificationMemory(address)
    error = caught.value
    while error is not None:  # As a traceback shows them.
        for part in ("secret", "sec%72et", "sec ret", "cret"):
            assert part not in str(error), error
        error = error.__cause__ or (
            None if error.__suppress_context__ else error.__context__
        )


def test_an_address_is_named_without_its_user():
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    with pytest.raises(ConnectionError, match="postgresql:///nowhere/db"):
        ks.CertificationMemory("postgresql://me:secret@/db?host=/nowhere")
    with pytest.raises(ValueError, match="Expected an address"):
        ks.CertificationMemory("postgresql://me:secret@/db?no_such=1")


def test_without_psycopg_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ImportError, match=r"keras_smoothing\[memory-server\]"):
        ks.CertificationMemory("postgresql:///db")
