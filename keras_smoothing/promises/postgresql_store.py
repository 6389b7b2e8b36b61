import contextlib
import errno

from keras_smoothing.promises.sql_store import SqlStore

# Seconds to wait for another process that writes.
_TIMEOUT = 60.0

# Of the lock that writers of a database pass on to each other.
_LOCK = 0x6B736D31


class PostgresqlStore(SqlStore):
    """Promises in a PostgreSQL database, which many machines may share.

    A memory lives in the first schema of the search path, so that several of
    them may share a database: `?options=-csearch_path%3Dname` in the address.
    Writers take turns by an advisory lock, which is theirs from before they
    read until they have committed, so that rows are numbered in the order of
    commits. A commit returns when the server's disk has it. A standby that
    lags behind may lose it when it takes over, unless the server waits for it.

    Args:
        address: str, `postgresql://user@host/database`.

    Raises:
        ImportError: without psycopg.
        ValueError: if the address is malformed.
    """

    placeholder = "%s"
    types = {"bytes": "BYTEA", "int": "BIGINT", "float": "DOUBLE PRECISION"}

    def __init__(self, address):
        try:
            import psycopg
        except ImportError as error:
            raise ImportError(
                "A memory on a server needs psycopg. `pip install "
                "keras_smoothing[memory-server]` brings it."
            ) from error
        self._psycopg = psycopg
        self._address = address
        self._open = None
        try:
            parts = psycopg.conninfo.conninfo_to_dict(address)
        except psycopg.ProgrammingError as error:
            raise ValueError(
                "Expected an address as postgresql://user@host/database. "
                f"Received: one of which PostgreSQL says: {error}"
            ) from error
        # Without user and password, as messages may show it.
        host, database = parts.get("host", ""), parts.get("dbname", "")
        self.name = f"postgresql://{host}/{database}"

    @contextlib.contextmanager
    def exclusive(self):
        with self._named_errors(), self._connection().transaction():
            self._execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            yield

    def close(self):
        if self._open is not None:
            self._open.close()

    def _connection(self):
        if self._open is None or self._open.closed:
            # What a server has as default may be otherwise. Statements must
            # see what was committed while the transaction waited for the lock.
            settings = {
                "synchronous_commit": "on",
                "default_transaction_isolation": "read committed",
                "lock_timeout": f"{_TIMEOUT:g}s",
            }
            self._open = self._psycopg.connect(self._address, autocommit=True)
            for name, value in settings.items():
                self._execute("SELECT set_config(%s, %s, false)", (name, value))
        return self._open

    def _is_empty(self):
        # Not by `to_regclass`, which may remember from before the transaction
        # waited that there was no such table.
        ((exists,),) = self._execute(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_class "
            "WHERE relname = 'keras_smoothing_memory' "
            "AND relnamespace = current_schema()::regnamespace)"
        )
        return not exists

    def _is_ours(self):
        return True  # By the name of the table.

    def _execute(self, statement, values=()):
        cursor = self._connection().execute(statement, values, binary=True)
        return cursor.fetchall() if cursor.description else []

    def _insert_many(self, statement, rows):
        with self._connection().cursor() as cursor:
            cursor.executemany(statement, rows)

    @contextlib.contextmanager
    def _named_errors(self):
        errors = self._psycopg.errors
        try:
            yield
        except errors.LockNotAvailable as error:
            raise TimeoutError(
                f"The memory {self.name} is locked by another process. "
                f"Expected it to be free within {_TIMEOUT:g} s. Received: "
                f"{error}. Nothing was promised; try again."
            ) from error
        except (
            errors.ReadOnlySqlTransaction,
            errors.InsufficientPrivilege,
        ) as error:
            raise PermissionError(
                errno.EACCES,
                "Expected a memory that this user may read and write. "
                f"Received: {error}. Nothing was promised.",
                self.name,
            ) from error
        except errors.DiskFull as error:
            raise OSError(
                errno.ENOSPC,
                f"Expected room on the server's disk. Received: {error}. "
                "Nothing was promised, and no earlier promise is lost.",
                self.name,
            ) from error
        except (
            errors.InvalidSchemaName,
            errors.UndefinedTable,
            errors.UndefinedColumn,
            errors.DataCorrupted,
            errors.IndexCorrupted,
        ) as error:
            raise ValueError(
                f"Expected {self.name} to be a memory of this library, "
                f"undamaged. Received: {error}"
            ) from error
        except (
            self._psycopg.OperationalError,
            self._psycopg.InterfaceError,
        ) as error:
            raise ConnectionError(
                f"Expected an answer from {self.name}. Received: {error}. "
                "Nothing was returned; the next call connects anew."
            ) from error
