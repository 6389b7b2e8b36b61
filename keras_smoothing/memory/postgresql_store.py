import contextlib
import errno

from keras_smoothing.memory.sql_store import SqlStore

# Seconds to wait for a process that is writing.
_TIMEOUT = 60.0

# Parts of an address that messages must not show.
_SECRETS = ("password", "sslpassword")

_UNREADABLE = (
    "Expected an address as postgresql://user:password@host:5432/database, in "
    "which all but letters, digits and -._~ are percent-encoded. Received: an "
    "address that PostgreSQL cannot read"
)

# Key of the advisory lock that writers of a database share.
_LOCK = 0x6B736D31


class PostgresqlStore(SqlStore):
    """Promises in a PostgreSQL database, which many machines may share.

    A memory lives in the first schema of the search path, so several memories
    may share a database: put `?options=-csearch_path%3Dname` in the address.
    Writers take turns through an advisory lock, which each holds from before it
    reads until it has committed. So rows are numbered in commit order. A commit
    returns once it is on the server's disk. A standby that lags behind may lose
    it when it takes over, unless the server waits for the standby.

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
        except psycopg.ProgrammingError:
            parts = None  # The error would quote parts of the address.
        # Without user and password, since messages show the name.
        host, database = (
            "" if parts is None else str(parts.get(part, ""))
            for part in ("host", "dbname")
        )
        # An unescaped password would end up in these parts.
        if parts is None or "@" in host + database:
            raise ValueError(_UNREADABLE)
        self._secrets = [parts[part] for part in _SECRETS if parts.get(part)]
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
            # The server's defaults may differ. Statements must see rows that
            # were committed while the transaction waited for the lock.
            settings = {
                "synchronous_commit": "on",
                "default_transaction_isolation": "read committed",
                "lock_timeout": f"{_TIMEOUT:g}s",
            }
            try:
                self._open = self._psycopg.connect(
                    self._address, autocommit=True
                )
            except ValueError:  # psycopg 3.1 raises it, quoting the value.
                raise ValueError(_UNREADABLE) from None
            for name, value in settings.items():
                self._execute("SELECT set_config(%s, %s, false)", (name, value))
        return self._open

    def _is_empty(self):
        # Not `to_regclass`: it may have cached, before the transaction waited,
        # that the table did not exist.
        ((exists,),) = self._execute(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_class "
            "WHERE relname = 'keras_smoothing_memory' "
            "AND relnamespace = current_schema()::regnamespace)"
        )
        return not exists

    def _is_ours(self):
        return True  # `_is_empty` looks for our table's name.

    def _execute(self, statement, values=()):
        cursor = self._connection().execute(statement, values, binary=True)
        return cursor.fetchall() if cursor.description else []

    def _insert_many(self, statement, rows):
        with self._connection().cursor() as cursor:
            cursor.executemany(statement, rows)

    def _said(self, error):
        """Returns a server error's text, which may quote the address."""
        text = str(error)
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    @contextlib.contextmanager
    def _named_errors(self):
        errors = self._psycopg.errors
        try:
            yield
        except errors.LockNotAvailable as error:
            raise TimeoutError(
                f"The memory {self.name} is locked by another process. "
                f"Expected it to be free within {_TIMEOUT:g} s. Received: "
                f"{self._said(error)}. Nothing was promised; try again."
            ) from None
        except (
            errors.ReadOnlySqlTransaction,
            errors.InsufficientPrivilege,
        ) as error:
            raise PermissionError(
                errno.EACCES,
                "Expected a memory that this user may read and write. "
                f"Received: {self._said(error)}. Nothing was promised.",
                self.name,
            ) from None
        except errors.DiskFull as error:
            raise OSError(
                errno.ENOSPC,
                "Expected room on the server's disk. Received: "
                f"{self._said(error)}. Nothing was promised, and no earlier "
                "promise is lost.",
                self.name,
            ) from None
        except (
            errors.InvalidSchemaName,
            errors.UndefinedTable,
            errors.UndefinedColumn,
            errors.DataCorrupted,
            errors.IndexCorrupted,
        ) as error:
            raise ValueError(
                f"Expected {self.name} to be a memory of this library, "
                f"undamaged. Received: {self._said(error)}"
            ) from None
        except (
            self._psycopg.OperationalError,
            self._psycopg.InterfaceError,
            self._psycopg.ProgrammingError,
        ) as error:
            raise ConnectionError(
                f"Expected an answer from {self.name}. Received: "
                f"{self._said(error)}. Nothing was returned; the next call "
                "connects anew."
            ) from None
