import contextlib
import errno
import os
import sqlite3
import time

from keras_smoothing import private_files
from keras_smoothing.memory.kept import Head
from keras_smoothing.memory.sql_store import SqlStore
from keras_smoothing.memory.witness import Witness

# Seconds to wait for a process that is writing.
_TIMEOUT = 60.0

# Identifies our files in SQLite's header.
_APPLICATION_ID = 0x6B736D31


class SqliteStore(SqlStore):
    """Promises in an SQLite file, which processes of one machine may share.

    A finished transaction is on disk: the write-ahead log is synced at every
    commit (`synchronous=FULL`), so neither a kill nor a power failure loses
    promises that were returned. Readers do not wait for a writer. Keep the file
    on a local disk: SQLite's locks do not work on every network file system.

    Args:
        path: str or `os.PathLike`.

    Raises:
        ValueError: if the folder is missing, or the path is a folder.
    """

    placeholder = "?"
    types = {"bytes": "BLOB", "int": "INTEGER", "float": "REAL"}

    def __init__(self, path):
        self.name = os.fspath(path)
        self._path = os.path.abspath(self.name)
        folder = os.path.dirname(self._path)
        # SQLite takes the first two names for temporary databases.
        if (
            self.name in ("", ":memory:")
            or not os.path.isdir(folder)
            or os.path.isdir(self.name)
        ):
            raise ValueError(
                "Expected argument `path` to be the path of a file in an "
                f"existing folder. Received: path={self.name!r}"
            )
        # A link shares the witness of its target.
        self._witness = Witness(f"{os.path.realpath(self._path)}.head")
        if not os.path.exists(self._path):
            try:
                private_files.create(self._path)
            except FileExistsError:  # Another process created it.
                pass
            except PermissionError as error:
                raise self._not_permitted(error) from error
        with self._named_errors():
            self._connection = sqlite3.connect(
                self.name,
                timeout=_TIMEOUT,
                isolation_level=None,
                check_same_thread=False,
            )
            self._opened = os.stat(self._path)

    def identity(self):
        identity = super().identity()
        if identity is not None and self._witness.read() is None:
            raise ValueError(
                f"Expected {self._witness.path} beside the memory, which says "
                "how much it must hold. Received: no such file. The two belong "
                "together; `memory.backup(path)` makes copies of both."
            )
        return identity

    def create(self, identity, total_alpha):
        self._witness.write(Head())  # No memory is visible without a witness.
        with self._named_errors():
            self._switch_to_a_write_ahead_log()
        super().create(identity, total_alpha)

    def head(self):
        # Read first, since it is written last.
        least = self._witness.read()
        head = super().head()
        chain = head.chain
        if least and least.num_promises < head.num_promises:
            chain = self.chain_at(least.num_promises)
        if (
            least is None
            or least.num_promises > head.num_promises
            or least.num_queries > head.num_queries
            or least.chain != chain
        ):
            raise ValueError(
                f"The memory {self.name} is behind. Expected what "
                f"{self._witness.path} says that it held: {least}. Received: "
                f"{head}. Promises that were returned are lost, and may be "
                "contradicted. Restore both files from a backup that has them."
            )
        if least != head and not self._connection.in_transaction:
            # A process was killed between commit and this write. Promises read
            # from here on may be returned, so the witness must include them.
            self._witness.write(head)
        return head

    def backup(self, path):
        private_files.create(path)
        copy = sqlite3.connect(path)
        with contextlib.closing(copy), self._named_errors():
            # All pages in one step: a consistent snapshot.
            self._connection.backup(copy, pages=-1)
            ((*numbers, chain),) = copy.execute(
                "SELECT num_promises, num_queries, chain "
                "FROM keras_smoothing_memory"
            )
        Witness(f"{os.path.realpath(path)}.head").write(Head(*numbers, chain))

    @contextlib.contextmanager
    def exclusive(self):
        with self._named_errors():
            # A setting of the connection; not every build has it as default.
            self._execute("PRAGMA synchronous=FULL")
            try:
                # Inside `try`: an interruption during the wait is raised only
                # once the transaction has begun.
                self._execute("BEGIN IMMEDIATE")
                self._check_in_place()
                before = self._connection.total_changes
                yield
                changed = self._connection.total_changes > before
                head = super().head() if changed else None
                self._execute("COMMIT")
            except BaseException:
                # After some errors SQLite has already rolled back.
                if self._connection.in_transaction:
                    self._execute("ROLLBACK")
                raise
            if changed:
                # Completes the main file. Nothing is returned before both
                # files contain it.
                self._execute("PRAGMA wal_checkpoint(PASSIVE)")
                self._witness.write(head)

    def close(self):
        self._connection.close()

    def _check_in_place(self):
        # SQLite silently goes on writing to a deleted file.
        if not os.path.exists(self._path) or not os.path.samestat(
            os.stat(self._path), self._opened
        ):
            raise FileNotFoundError(
                errno.ENOENT,
                "Expected the file that was opened to be in its place. "
                "Received: another or none, since it was moved or deleted. "
                "Nothing was promised.",
                self.name,
            )

    def _is_empty(self):
        ((tables,),) = self._execute("SELECT count(*) FROM sqlite_master")
        return not tables

    def _is_ours(self):
        ((application,),) = self._execute("PRAGMA application_id")
        return application == _APPLICATION_ID

    def _switch_to_a_write_ahead_log(self):
        # SQLite's own timeout does not apply to this statement.
        give_up = time.monotonic() + _TIMEOUT
        while True:
            try:
                self._execute("PRAGMA journal_mode=WAL")
                return
            except sqlite3.OperationalError as error:
                is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not is_busy or time.monotonic() > give_up:
                    raise
            time.sleep(0.01)

    def _check_new(self):
        if self._witness.read() != Head():
            raise ValueError(
                f"Expected the memory that {self._witness.path} is about. "
                f"Received: an empty file {self.name}. Restore the memory, or "
                "choose another path."
            )

    def _mark(self):
        self._execute(f"PRAGMA application_id={_APPLICATION_ID}")

    def _execute(self, statement, values=()):
        return self._connection.execute(statement, values).fetchall()

    def _insert_many(self, statement, rows):
        self._connection.executemany(statement, rows)

    def _not_permitted(self, error):
        return PermissionError(
            errno.EACCES,
            "Expected a memory that this process may write, in a folder where "
            f"it may make files. Received: {error}. Nothing was promised.",
            self.name,
        )

    @contextlib.contextmanager
    def _named_errors(self):
        try:
            yield
        except sqlite3.Error as error:
            # The low byte is the primary code; the others refine it.
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise TimeoutError(
                    f"The memory {self.name} is locked by another process. "
                    f"Expected it to be free within {_TIMEOUT:g} s. Received: "
                    f"{error}. Nothing was promised; try again."
                ) from error
            if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
                raise self._not_permitted(error) from error
            if code == sqlite3.SQLITE_FULL:
                raise OSError(
                    errno.ENOSPC,
                    f"Expected room on the disk. Received: {error}. Nothing "
                    "was promised, and no earlier promise is lost.",
                    self.name,
                ) from error
            if code == sqlite3.SQLITE_IOERR:
                raise OSError(
                    errno.EIO,
                    f"Expected a disk that can be read and written. Received: "
                    f"{error}. Nothing was promised.",
                    self.name,
                ) from error
            # SQLITE_ERROR is raised for missing tables.
            if code in (
                sqlite3.SQLITE_CORRUPT,
                sqlite3.SQLITE_NOTADB,
                sqlite3.SQLITE_ERROR,
            ):
                raise ValueError(
                    f"Expected {self.name} to be a memory of this library, "
                    f"undamaged. Received: {error}. Choose another path."
                ) from error
            raise
