"""A memory that has lost something says so, and is not answered from."""

import errno
import os
import pathlib
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from memory_processes import MODEL

import keras_smoothing as ks
from keras_smoothing.memory.sqlite_store import SqliteStore
from keras_smoothing.memory.witness import Witness

DATA = pathlib.Path(__file__).parent / "data"
PACKAGE = pathlib.Path(ks.__file__).parent

# Promises, says so, and waits to be killed with the file open.
SCRIPT = """
import sys, time, types
package, path, count = sys.argv[1:]
stub = types.ModuleType("keras_smoothing")
stub.__path__ = [package]
sys.modules["keras_smoothing"] = stub
import numpy as np
from keras_smoothing.memory import CertificationMemory
memory = CertificationMemory(path)
memory.bind("a fingerprint", "l2", (2,))
for i in range(int(count)):
    x = np.array([[3.0 * i, 0.0]], "float32")
    memory.promise(x, [0], [1.0], 1.0, memory.spend(1, 0.001))
print("done", flush=True)
time.sleep(600)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "memory.sqlite"


def opened(path):
    memory = ks.CertificationMemory(path)
    memory.bind(MODEL, "l2", (2,))
    return memory


def points(count, start=0):
    x = np.zeros((count, 2), "float32")
    x[:, 0] = 3.0 * np.arange(start, start + count)
    return x


def promise(memory, count, start=0):
    x = points(count, start)
    return memory.promise(
        x, [0] * count, [1.0] * count, 1.0, memory.spend(count, 0.001)
    )


def check_whole_or_refused(path, count):
    """Never a memory that answers otherwise than it has promised."""
    try:
        with opened(path) as memory:
            found = memory.look_up(points(count))
            assert all(f is not None and f.radius == 1.0 for f in found)
            return "whole"
    except ValueError as error:
        assert "Expected" in str(error)
        return "refused"


def killed_with_open_file(path, count):
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", textwrap.dedent(SCRIPT)),
            *(str(PACKAGE), str(path), str(count)),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "done\n"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def change(path, *statements):
    database = sqlite3.connect(path)
    for statement in statements:
        database.execute(statement)
    database.commit()
    database.close()


def test_a_flipped_bit_in_the_write_ahead_log_loses_nothing(path, tmp_path):
    killed_with_open_file(path, 8)
    rng = np.random.default_rng(0)
    wal = pathlib.Path(f"{path}-wal").read_bytes()
    assert len(wal) > 1000
    for i in range(20):
        folder = tmp_path / str(i)
        folder.mkdir()
        for name in ("", "-wal", ".head"):
            shutil.copy(f"{path}{name}", folder)
        damaged = bytearray(wal)
        damaged[rng.integers(len(wal))] ^= 1 << rng.integers(8)
        (folder / "memory.sqlite-wal").write_bytes(damaged)
        # All of it is in the main file: nothing has to be refused.
        assert check_whole_or_refused(folder / path.name, 8) == "whole"


def test_the_main_file_alone_is_refused_and_whole_with_its_witness(
    path, tmp_path
):
    killed_with_open_file(path, 5)
    copy = tmp_path / "copy.sqlite"
    shutil.copy(path, copy)
    assert check_whole_or_refused(copy, 5) == "refused"
    shutil.copy(f"{path}.head", f"{copy}.head")
    assert check_whole_or_refused(copy, 5) == "whole"


def test_what_was_not_checkpointed_is_missed(path, tmp_path):
    # A reader in another process keeps the main file as it was.
    with opened(path) as memory:
        promise(memory, 5)
        reader = sqlite3.connect(path)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM keras_smoothing_promises").fetchone()
        promise(memory, 5, start=5)
        copy = tmp_path / "copy.sqlite"
        shutil.copy(path, copy)
        shutil.copy(f"{path}.head", f"{copy}.head")
        reader.close()
    assert check_whole_or_refused(copy, 10) == "refused"
    with pytest.raises(
        ValueError, match="is behind. Expected what .*head says"
    ):
        opened(copy).look_up(points(1))


@pytest.mark.parametrize(
    "statements",
    [
        ["DELETE FROM keras_smoothing_promises WHERE id > 10"],
        ["DELETE FROM keras_smoothing_promises WHERE id = 5"],
        [
            "DELETE FROM keras_smoothing_promises WHERE id = 5",
            "UPDATE keras_smoothing_promises SET id = id - 1 WHERE id > 5",
            "UPDATE keras_smoothing_memory SET num_promises = 19",
        ],
        ["UPDATE keras_smoothing_promises SET prediction = 7 WHERE id = 20"],
        [
            "UPDATE keras_smoothing_promises SET id = -1 WHERE id = 3",
            "UPDATE keras_smoothing_promises SET id = 3 WHERE id = 4",
            "UPDATE keras_smoothing_promises SET id = 4 WHERE id = -1",
        ],
        [
            "DELETE FROM keras_smoothing_promises WHERE id > 10",
            "UPDATE keras_smoothing_memory SET num_promises = 10, chain = ("
            "SELECT chain FROM keras_smoothing_promises WHERE id = 10)",
        ],
        ["UPDATE keras_smoothing_memory SET num_queries = 19"],
        ["UPDATE keras_smoothing_memory SET chain = 'no hash'"],
    ],
)
def test_rows_that_are_gone_or_changed_are_refused(path, statements):
    with opened(path) as memory:
        promise(memory, 20)
    assert check_whole_or_refused(path, 20) == "whole"
    change(path, *statements)
    assert check_whole_or_refused(path, 20) == "refused"


def test_a_process_that_has_the_memory_open_notices(path):
    with opened(path) as memory:
        promise(memory, 20)
        change(path, "DELETE FROM keras_smoothing_promises WHERE id > 10")
        memory.look_up(points(20))  # From what it knows: all are right.
        change(
            path,
            "UPDATE keras_smoothing_memory SET num_promises = 10, chain = ("
            "SELECT chain FROM keras_smoothing_promises WHERE id = 10)",
        )
        for ask in (
            lambda: memory.look_up(points(1)),
            lambda: memory.spend(1, 0.01),
            lambda: promise(memory, 1, start=30),
        ):
            with pytest.raises(ValueError, match="is behind"):
                ask()


def test_an_older_main_file_is_refused(path, tmp_path):
    with opened(path) as memory:
        promise(memory, 5)
    older = tmp_path / "older"
    shutil.copy(path, older)
    with opened(path) as memory:
        promise(memory, 5, start=5)
    shutil.copy(older, path)
    assert check_whole_or_refused(path, 10) == "refused"


def test_an_empty_file_in_the_place_of_a_memory_is_refused(path):
    with opened(path) as memory:
        promise(memory, 5)
    path.unlink()
    with pytest.raises(ValueError, match="Restore the memory, or choose"):
        opened(path)


@pytest.mark.parametrize("damage", [b"", b"x", b"0" * 115, None])
def test_a_damaged_witness_is_refused(path, damage):
    with opened(path) as memory:
        promise(memory, 5)
    witness = pathlib.Path(f"{path}.head")
    if damage is None:
        data = bytearray(witness.read_bytes())
        data[30] ^= 1
        damage = bytes(data)
    witness.write_bytes(damage)
    assert check_whole_or_refused(path, 5) == "refused"


def test_a_kill_between_commit_and_witness_is_no_loss(path, monkeypatch):
    with opened(path) as memory:
        promise(memory, 5)
        with monkeypatch.context() as patch:

            def stop(self, head):
                raise KeyboardInterrupt

            patch.setattr(Witness, "write", stop)
            with pytest.raises(KeyboardInterrupt):
                memory.promise(points(1, 5), [0], [1.0], 1.0, 0.001)
        # Nothing was returned. It is there all the same, and is kept.
        assert Witness(f"{path}.head").read().num_promises == 5
        assert memory.look_up(points(1, 5))[0].radius == 1.0
        # Now it was returned.
        assert Witness(f"{path}.head").read().num_promises == 6
    with opened(path) as memory:
        assert len(memory) == 6
        promise(memory, 1, start=6)


def test_the_witness_never_goes_back(path):
    witness = Witness(f"{path}.head")
    assert witness.read() is None
    heads = [ks.memory.Head(n, n, f"{n:064x}") for n in range(4)]
    for n in (0, 2, 1, 3, 0):
        witness.write(heads[n])
    assert witness.read() == heads[3]


def test_a_log_knows_what_a_memory_held(path):
    with opened(path) as memory:
        promise(memory, 5)
        earlier = memory.head
        promise(memory, 5, start=5)
        assert memory.head.num_promises == memory.head.num_queries == 10
        memory.check_holds(earlier)
        memory.check_holds(memory.head)
        later = memory.head
    with ks.CertificationMemory() as other:
        assert other.head == ks.memory.Head()
        other.bind(MODEL, "l2", (2,))
        promise(other, 5)
        assert other.head == earlier
        other.check_holds(earlier)
        with pytest.raises(ValueError, match="is behind.*the 10 promises"):
            other.check_holds(later)
        promise(other, 9, start=90)
        with pytest.raises(ValueError, match="is behind, or another one"):
            other.check_holds(later)


def test_a_backup_is_whole_and_goes_on(path, tmp_path):
    copy = tmp_path / "copy.sqlite"
    with opened(path) as memory:
        promise(memory, 5)
        memory.backup(copy)
        with pytest.raises(FileExistsError):
            memory.backup(copy)
        promise(memory, 5, start=5)
        later = memory.head
    with opened(copy) as memory:
        assert len(memory) == 5 and memory.num_queries == 5
        with pytest.raises(ValueError, match="is behind"):
            memory.check_holds(later)  # A log of the meantime.
        promise(memory, 1, start=20)
    with ks.CertificationMemory() as memory:
        memory.bind(MODEL, "l2", (2,))
        with pytest.raises(ValueError, match="pg_dump"):
            memory.backup(tmp_path / "another.sqlite")
    assert not (tmp_path / "another.sqlite").exists()


def test_files_are_for_their_owner(path):
    with opened(path) as memory:
        promise(memory, 5)
        files = sorted(path.parent.iterdir())
        assert [file.name for file in files] == [
            "memory.sqlite" + end for end in ("", "-shm", "-wal", ".head")
        ]
        for file in files:
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_a_memory_of_the_format_before_is_upgraded(path):
    shutil.copy(DATA / "format_4.sqlite", path)
    for _ in range(2):
        with ks.CertificationMemory(path) as memory:
            memory.bind(MODEL, "l2", (2,))
            assert memory.total_alpha == 0.5 and memory.num_queries == 3
            assert memory.head.num_promises == len(memory) == 2
            (x, one), (_, other) = memory
            assert (one.prediction, one.radius, one.noise) == (
                *(7, 0.5),
                "Gaussian(sigma=0.5)",
            )
            np.testing.assert_array_equal(one.scale, [1, 2])
            assert (other.prediction, round(other.radius, 6)) == (3, 0.5)


def test_a_damaged_memory_of_the_format_before_is_not_upgraded(path):
    shutil.copy(DATA / "format_4.sqlite", path)
    change(path, "UPDATE keras_smoothing_promises SET radius=9 WHERE id=2")
    for _ in range(2):
        with pytest.raises(ValueError, match="promise 2 as it was written"):
            ks.CertificationMemory(path)
    change(path, "UPDATE keras_smoothing_promises SET radius=9 WHERE id=2")


def test_a_memory_that_another_process_makes_meanwhile_is_taken(
    path, monkeypatch
):
    switch = SqliteStore._switch_to_a_write_ahead_log

    def slowly(self):
        monkeypatch.undo()
        with opened(path) as other:
            promise(other, 3)
        switch(self)

    monkeypatch.setattr(SqliteStore, "_switch_to_a_write_ahead_log", slowly)
    with opened(path) as memory:
        assert len(memory) == 3


def test_a_disk_that_is_full_from_the_start_leaves_nothing_behind(
    path, monkeypatch
):
    with monkeypatch.context() as patch:

        def full(file):
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            opened(path)
    pathlib.Path(f"{path}.head").write_bytes(b"")  # As it is left behind.
    with opened(path) as memory:
        promise(memory, 3)
