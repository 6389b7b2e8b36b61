"""A memory in a file: shared, killed, locked, full and damaged."""

import errno
import os
import pathlib
import shutil
import sqlite3
import tempfile
import threading

import numpy as np
import pytest
from memory_processes import check_promises
from memory_processes import promise_and_be_killed
from memory_processes import spend_together

import keras_smoothing as ks

MODEL = "a fingerprint"
DIMENSIONS = 300


def open_memory(path, shape=(DIMENSIONS,)):
    memory = ks.CertificationMemory(path)
    memory.bind(MODEL, "l2", shape)
    return memory


def points(count, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((count, DIMENSIONS), dtype="float32")


def promise(memory, x, prediction=1, radius=0.5):
    count = len(x)
    return memory.promise(x, [prediction] * count, [radius] * count, 1.0, 0.01)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "promises.sqlite"


@pytest.fixture
def written(path):
    with open_memory(path) as memory:
        promise(memory, points(20))
    return path


def test_promises_are_read_back_as_they_were(path):
    x = points(40)
    scales = 0.5 + points(40, seed=1)
    with open_memory(path) as memory:
        memory.promise(x[:30], [3] * 30, [0.1] * 30, 0.7, 0.01, 0.25)
        memory.promise(x[30:], [4] * 10, [0.2] * 10, scales[30:], 0.02)
        before = list(memory)
    with ks.CertificationMemory(path) as memory:
        identity = (MODEL, "l2", (DIMENSIONS,), "", "hard", "")
        assert memory.identity == identity
        after = list(memory)
        assert len(after) == 40
        found = memory.look_up(x)
    for (x, one), (y, other), answer in zip(before, after, found, strict=True):
        np.testing.assert_array_equal(x, y)
        assert one[:2] == other[:2] == answer[:2]
        assert one[3:] == other[3:] == answer[3:]
        np.testing.assert_array_equal(one.scale, other.scale)
        np.testing.assert_array_equal(one.scale, answer.scale)


def test_what_another_adds_is_seen_and_respected(path, monkeypatch):
    monkeypatch.setattr("keras_smoothing.memory.sql_store._ROWS", 100)
    x = points(1)
    with open_memory(path) as one, open_memory(str(path)) as other:
        assert one.look_up(x) == other.look_up(x) == [None]
        (first,) = promise(one, x, prediction=1)
        # The other has found another class meanwhile.
        assert promise(other, x, prediction=2) == [first]
        for i in range(3):
            promise(one, points(1, seed=2 * i + 1))
            promise(other, points(1, seed=2 * i + 2))
        assert len(one) == len(other) == 7
        promise(one, points(300, seed=8), radius=0.0)
        assert len(other) == 307


@pytest.mark.slow
def test_four_processes_killed_at_random_lose_nothing(path, tmp_path):
    folder = tmp_path / "returned"
    folder.mkdir()
    returned, answers = promise_and_be_killed(path, folder, rounds=20)
    assert len(returned) > 300
    with open_memory(path, shape=(2,)) as memory:
        check_promises(memory, returned, answers)


@pytest.mark.slow
def test_processes_share_out_a_total(path):
    with ks.CertificationMemory(path, total_alpha=0.05) as memory:
        memory.bind(MODEL, "l2", (2,))
        alphas = spend_together(path, processes=2)
        assert memory.num_queries == len(alphas) == 2 * 79
        k = np.arange(1, len(alphas) + 1)
        shares = np.minimum(0.01, 0.05 * 6 / (np.pi * k) ** 2)
        np.testing.assert_array_equal(np.sort(alphas)[::-1], shares)
        assert memory.alpha_spent == pytest.approx(shares.sum(), rel=1e-12)


def test_the_total_is_part_of_a_memory(path):
    with ks.CertificationMemory(path, total_alpha=0.05) as memory:
        assert (memory.num_queries, memory.alpha_spent) == (0, 0.0)
        memory.bind(MODEL, "l2", (DIMENSIONS,))
        memory.spend(2, 0.001)
    for total in (None, 0.05):
        with ks.CertificationMemory(path, total_alpha=total) as memory:
            assert memory.total_alpha == 0.05
            assert (memory.num_queries, memory.alpha_spent) == (2, 0.002)
    with pytest.raises(
        ValueError, match=r"=0\.1\. Received: total_alpha=0\.05"
    ):
        ks.CertificationMemory(path, total_alpha=0.1)
    # Two that both found nothing: the second to bind is refused.
    other = path.with_name("other.sqlite")
    with (
        ks.CertificationMemory(other) as first,
        ks.CertificationMemory(other, total_alpha=0.05) as second,
    ):
        first.bind(MODEL, "l2", (2,))
        with pytest.raises(ValueError, match="Received: total_alpha=None"):
            second.bind(MODEL, "l2", (2,))


def test_what_was_spent_stays_so_after_an_error(written, monkeypatch):
    with open_memory(written) as memory:
        spent = memory.spend(3, 0.01)
        monkeypatch.setattr(
            memory._store, "insert", lambda rows: memory._store._execute("?")
        )
        with pytest.raises(ValueError, match="syntax error"):
            memory.promise(points(3, 1), [1] * 3, [0.1] * 3, 1.0, spent)
        monkeypatch.undo()
        assert (memory.num_queries, memory.alpha_spent) == (3, 0.03)
        with monkeypatch.context() as patch:
            patch.setattr(memory._store, "spend", lambda budget: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                memory.spend(1, 0.01)
        memory.spend(0, 0.01)
        assert (memory.num_queries, memory.alpha_spent) == (3, 0.03)


def test_a_commit_is_on_the_disk(written):
    # What a kill cannot show: a loss of power. By SQLite's documentation.
    with open_memory(written) as memory:
        promise(memory, points(1, seed=1))
        execute = memory._store._connection.execute
        assert execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
        assert execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_an_error_takes_all_of_a_transaction_back(written, monkeypatch):
    x = points(2, seed=1)
    with open_memory(written) as memory:
        monkeypatch.setattr(
            memory._store, "insert", lambda rows: memory._store._execute("?")
        )
        with pytest.raises(ValueError, match="syntax error"):
            memory.promise(x, [1, 2], [0.1, 0.1], 1 + x, 0.01)
        monkeypatch.undo()
        assert memory.look_up(x) == [None, None]
        assert [one.scale for one in promise(memory, x)] == [1.0, 1.0]
        assert [one.scale for one in memory.look_up(x)] == [1.0, 1.0]
        assert len(memory) == 22


def test_a_file_that_others_make_is_waited_for(path):
    # Of all statements, SQLite does not wait for the switch to a log by itself.
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.3, other.execute, ["ROLLBACK"])
    release.start()
    with open_memory(path) as memory:
        assert len(promise(memory, points(1))) == 1
    release.join()
    other.close()


def test_a_locked_file_is_waited_for_and_then_named(written, monkeypatch):
    monkeypatch.setattr("keras_smoothing.memory.sqlite_store._TIMEOUT", 0.1)
    x = points(1, seed=1)
    with open_memory(written) as memory:
        other = sqlite3.connect(written, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(TimeoutError, match="locked(.|\n)*within 0.1 s"):
            promise(memory, x)
        assert memory.look_up(x) == [None]  # Reading does not wait.
        assert len(memory) == 20
        other.execute("ROLLBACK")
        other.close()
        assert len(promise(memory, x)) == 1


def test_an_interruption_while_it_waits_locks_nobody_out(written, monkeypatch):
    monkeypatch.setattr("keras_smoothing.memory.sqlite_store._TIMEOUT", 0.1)
    x = points(1, seed=1)
    with open_memory(written) as memory, open_memory(written) as other:
        execute = memory._store._execute

        def interrupted(statement, *values):
            rows = execute(statement, *values)
            if statement.startswith("BEGIN"):
                # What Python does once SQLite has stopped waiting.
                raise KeyboardInterrupt
            return rows

        with monkeypatch.context() as patch:
            patch.setattr(memory._store, "_execute", interrupted)
            with pytest.raises(KeyboardInterrupt):
                promise(memory, x)
        assert len(promise(other, x)) == len(promise(memory, x)) == 1


def test_a_file_that_is_gone_gets_no_promises(written, monkeypatch):
    x = points(1, seed=1)
    monkeypatch.chdir(written.parent)
    with open_memory(written.name) as memory:
        monkeypatch.chdir("/")
        promise(memory, points(1, seed=2))
        written.rename(written.with_name("moved.sqlite"))
        for _ in range(2):
            with pytest.raises(FileNotFoundError, match="in its place"):
                promise(memory, x)
            written.touch()  # Another of the same name.
        assert memory.look_up(x) == [None] and len(memory) == 21
        written.with_name("moved.sqlite").rename(written)
        assert len(promise(memory, x)) == 1


def test_a_full_disk_is_named_and_loses_nothing(written):
    x = points(100, seed=1)
    with open_memory(written) as memory:
        limit = memory._store._connection.execute
        limit("PRAGMA max_page_count=20")
        with pytest.raises(OSError, match="room on the disk") as caught:
            promise(memory, x)
        assert caught.value.errno == errno.ENOSPC
        assert memory.look_up(x) == [None] * 100
        assert len(memory) == 20
        limit("PRAGMA max_page_count=100000")
        promise(memory, x)
    with open_memory(written) as memory:
        assert len(memory) == 120


@pytest.fixture
def as_nobody():
    """A folder that any user may enter, and a user to whom modes apply."""
    folder = pathlib.Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    is_root = os.geteuid() == 0
    if is_root:
        os.chown(folder, 65534, 65534)
        os.seteuid(65534)
    yield folder
    if is_root:
        os.seteuid(0)
    folder.chmod(0o777)
    shutil.rmtree(folder)


def test_a_read_only_file_is_named(as_nobody):
    path = as_nobody / "promises.sqlite"
    with open_memory(path) as memory:
        promise(memory, points(20))
    path.chmod(0o444)
    with open_memory(path) as memory:
        assert memory.look_up(points(1))[0].prediction == 1
        with pytest.raises(PermissionError, match="may write") as caught:
            promise(memory, points(1, seed=1))
        assert caught.value.filename == str(path)
        assert memory.look_up(points(1, seed=1)) == [None]
    as_nobody.chmod(0o555)
    with pytest.raises(PermissionError, match="may make files"):
        open_memory(as_nobody / "another.sqlite")


def flip_a_bit_of_a_point(path):
    data = bytearray(path.read_bytes())
    data[data.find(points(20)[7].tobytes()) + 100] ^= 1
    path.write_bytes(data)


def flip_a_bit_of_a_radius(path):
    with sqlite3.connect(path) as connection:
        connection.execute(
            "UPDATE keras_smoothing_promises SET radius=0.75 WHERE id=4"
        )
    connection.close()


def remove_a_row(path):
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM keras_smoothing_promises WHERE id=4")
    connection.close()


def remove_the_settings(path):
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM keras_smoothing_memory")
    connection.close()


def remove_a_table(path):
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE keras_smoothing_promises")
    connection.close()


def make_it_of_the_future(path):
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE keras_smoothing_memory SET format=99")
    connection.close()


def count_less_than_nothing(path):
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE keras_smoothing_memory SET num_queries=-1")
    connection.close()


def name_other_noise(path):
    with sqlite3.connect(path) as connection:
        connection.execute(
            "UPDATE keras_smoothing_promises SET noise='no' WHERE id=4"
        )
    connection.close()


def make_it_of_format_3(path):
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA application_id={0x6B736D31}")
        connection.execute(
            "CREATE TABLE keras_smoothing_memory (format INTEGER, model TEXT, "
            "norm TEXT, shape TEXT, symmetries TEXT)"
        )
        connection.execute(
            "INSERT INTO keras_smoothing_memory "
            "VALUES (3, 'a', 'l2', '[2]', '')"
        )
    connection.close()


def cut_it_off(path):
    path.write_bytes(path.read_bytes()[: 4096 * 8])


def write_over_its_pages(path):
    data = bytearray(path.read_bytes())
    data[4096 : 4096 * 4] = bytes(4096 * 3)
    path.write_bytes(data)


def write_text(path):
    path.write_text("idx\tlabel\tpredict\tradius\tcorrect\ttime\n" * 100)


def write_another_database(path):
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE memory (x)")
    connection.close()


@pytest.mark.parametrize(
    "damage",
    [
        *(flip_a_bit_of_a_point, flip_a_bit_of_a_radius, remove_a_row),
        *(remove_the_settings, remove_a_table, make_it_of_the_future),
        *(count_less_than_nothing, name_other_noise, make_it_of_format_3),
        *(cut_it_off, write_over_its_pages, write_text),
        write_another_database,
    ],
    ids=lambda damage: damage.__name__,
)
def test_a_damaged_or_foreign_file_is_refused_and_left_alone(written, damage):
    damage(written)
    before = written.read_bytes()
    for _ in range(2):
        with pytest.raises(ValueError, match=r"Expected(.|\n)*Received"):
            with open_memory(written) as memory:
                promise(memory, points(1, seed=1))
    assert written.read_bytes() == before


def test_an_empty_file_becomes_a_memory(path):
    path.touch()
    with ks.CertificationMemory(path) as memory:
        assert memory.identity is None
    with open_memory(path) as memory:
        promise(memory, points(1))
    with open_memory(path) as memory:
        assert len(memory) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("model", "another"), ("norm", "l1"), ("shape", (2,))),
        *(("voting", "soft"), ("serialized", "Exact")),
    ],
)
def test_a_file_of_another_classifier_is_refused_by_name(written, name, value):
    ours = {**dict(model=MODEL, norm="l2", shape=(DIMENSIONS,)), name: value}
    with ks.CertificationMemory(written) as memory:
        with pytest.raises(ValueError) as caught:
            memory.bind(**ours)
    message = str(caught.value)
    assert f"Expected {name}={value!r}. Received: {name}=" in message
    assert str(written) in message


@pytest.mark.parametrize(
    "bad", [3, b"bytes", "", ":memory:", "missing/promises.sqlite", "."]
)
def test_a_path_that_is_none_is_refused(bad, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"Expected(.|\n)*Received: path="):
        ks.CertificationMemory(bad)
