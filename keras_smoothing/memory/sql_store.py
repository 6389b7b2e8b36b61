import abc
import json

from keras_smoothing.memory.kept import START
from keras_smoothing.memory.kept import Budget
from keras_smoothing.memory.kept import Head
from keras_smoothing.memory.kept import Identity
from keras_smoothing.memory.rows import chained
from keras_smoothing.memory.store import Store

# Incremented whenever the storage format changes.
_FORMAT = 5
# The previous format, whose rows had checksums but no chain.
_UNCHAINED = 4

# Number of rows read at once.
_ROWS = 4096

_COLUMNS = (
    "id, x, prediction, radius, scale, scales, alpha, stddev, noise, chain"
)


class SqlStore(Store):
    """Base class of stores in SQL databases. Subclasses connect to one.

    Attributes:
        placeholder: str, stands for a value in a statement.
        types: dict, the database's type names for "bytes", "int" and "float".
    """

    placeholder = None
    types = None

    def identity(self):
        with self._named_errors():
            if self._is_empty():
                return None
            if not self._is_ours():
                raise ValueError(
                    f"Expected {self.name} to be a memory of this library, or "
                    "empty. Received: a database of something else. Choose "
                    "another path."
                )
            formats = self._formats()
            if formats == [(_UNCHAINED,)]:
                self._upgrade()
                formats = self._formats()
            if formats != [(_FORMAT,)]:
                raise ValueError(
                    f"Expected {self.name} to be a memory in format {_FORMAT}. "
                    f"Received: formats {[number for (number,) in formats]}, "
                    "damaged or of another version. An earlier one does not "
                    "say by which votes and noise it promised. Choose another "
                    "path."
                )
            ((model, norm, shape, *rest),) = self._execute(
                "SELECT model, norm, shape, symmetries, voting, serialized "
                "FROM keras_smoothing_memory"
            )
        return Identity(model, norm, tuple(json.loads(shape)), *rest)

    def create(self, identity, total_alpha):
        with self.exclusive():
            if self.identity() is not None:
                return
            self._check_new()
            self._execute(
                "CREATE TABLE keras_smoothing_memory (format {int} NOT NULL, "
                "model TEXT NOT NULL, norm TEXT NOT NULL, "
                "shape TEXT NOT NULL, symmetries TEXT NOT NULL, "
                "voting TEXT NOT NULL, serialized TEXT NOT NULL, "
                "total_alpha {float}, num_queries {int} NOT NULL, "
                "alpha_spent {float} NOT NULL, num_promises {int} NOT NULL, "
                "chain TEXT NOT NULL)".format(**self.types)
            )
            self._create_tables()
            self._execute(
                "INSERT INTO keras_smoothing_memory (format, model, norm, "
                "shape, symmetries, voting, serialized, total_alpha, "
                "num_queries, alpha_spent, num_promises, chain) VALUES "
                f"({self._placeholders(12)})",
                (
                    _FORMAT,
                    *identity._replace(shape=json.dumps(identity.shape)),
                    *Budget(total_alpha),
                    *(Head().num_promises, Head().chain),
                ),
            )
            self._mark()

    def _create_tables(self):
        self._execute(
            "CREATE TABLE keras_smoothing_promises ("
            "id {int} PRIMARY KEY, x {bytes} NOT NULL, "
            "prediction {int} NOT NULL, radius {float} NOT NULL, "
            "scale {float} NOT NULL, scales {bytes}, "
            "alpha {float} NOT NULL, stddev {float} NOT NULL, "
            "noise TEXT NOT NULL, chain TEXT NOT NULL"
            ")".format(**self.types)
        )
        self._execute(
            "CREATE TABLE keras_smoothing_answers ("
            "query TEXT PRIMARY KEY, answer TEXT NOT NULL, "
            "checksum {int} NOT NULL)".format(**self.types)
        )

    def _formats(self):
        return self._execute("SELECT format FROM keras_smoothing_memory")

    def _upgrade(self):
        """Replaces the checksums of a memory in format 4 by chains."""
        with self.exclusive():
            if self._formats() != [(_UNCHAINED,)]:  # Another process did it.
                return
            promises = "keras_smoothing_promises"
            self._execute(f"ALTER TABLE {promises} RENAME TO {promises}_4")
            self._create_tables()
            for column in (
                "num_promises {int} NOT NULL DEFAULT 0",
                f"chain TEXT NOT NULL DEFAULT '{START}'",
            ):
                self._execute(
                    "ALTER TABLE keras_smoothing_memory ADD COLUMN "
                    + column.format(**self.types)
                )
            last, chain = 0, START
            while old := self._execute(
                f"SELECT {_COLUMNS.replace('chain', 'checksum')} "
                f"FROM {promises}_4 WHERE id > {self.placeholder} "
                f"ORDER BY id LIMIT {_ROWS}",
                (last,),
            ):
                rows = chained(old, last, chain)
                self.insert(rows)
                last, chain = rows[-1][0], rows[-1][-1]
            self._execute(f"DROP TABLE {promises}_4")
            self._execute(f"UPDATE keras_smoothing_memory SET format={_FORMAT}")

    def budget(self):
        with self._named_errors():
            rows = self._execute(
                "SELECT total_alpha, num_queries, alpha_spent "
                "FROM keras_smoothing_memory"
            )
        try:
            ((total_alpha, num_queries, alpha_spent),) = rows
            intact = num_queries >= 0 and 0 <= alpha_spent <= num_queries
        except (TypeError, ValueError):
            intact = False
        if not intact:
            raise ValueError(
                f"The memory {self.name} is damaged. Expected one row with a "
                "number of queries and the sum of their alphas. Received: "
                f"{rows}"
            )
        return Budget(total_alpha, num_queries, alpha_spent)

    def spend(self, budget):
        self._execute(
            "UPDATE keras_smoothing_memory SET "
            f"num_queries = {self.placeholder}, "
            f"alpha_spent = {self.placeholder}",
            (budget.num_queries, budget.alpha_spent),
        )

    def head(self):
        with self._named_errors():
            rows = self._execute(
                "SELECT num_promises, num_queries, chain "
                "FROM keras_smoothing_memory"
            )
        try:
            head = Head(*rows[0])
            intact = head.num_promises >= 0 and len(bytes.fromhex(head.chain))
        except (IndexError, TypeError, ValueError):
            intact = False
        if not intact or len(rows) != 1:
            raise ValueError(
                f"The memory {self.name} is damaged. Expected one row with the "
                f"number of promises and their hash. Received: {rows}"
            )
        return head

    def chain_at(self, number):
        if not number:
            return START
        with self._named_errors():
            rows = self._execute(
                "SELECT chain FROM keras_smoothing_promises "
                f"WHERE id = {self.placeholder}",
                (number,),
            )
        return rows[0][0] if rows else None

    def rows_after(self, last, end):
        while last < end:
            with self._named_errors():
                rows = self._execute(
                    f"SELECT {_COLUMNS} FROM keras_smoothing_promises "
                    f"WHERE id > {self.placeholder} AND id <= "
                    f"{self.placeholder} ORDER BY id LIMIT {_ROWS}",
                    (last, end),
                )
            if rows:
                yield rows
            if len(rows) < _ROWS:
                return
            last = rows[-1][0]

    def insert(self, rows):
        self._insert_many(
            f"INSERT INTO keras_smoothing_promises ({_COLUMNS}) "
            f"VALUES ({self._placeholders(10)})",
            rows,
        )
        if rows:
            self._execute(
                "UPDATE keras_smoothing_memory SET "
                f"num_promises = {self.placeholder}, "
                f"chain = {self.placeholder}",
                (rows[-1][0], rows[-1][-1]),
            )

    def answers(self, queries):
        with self._named_errors():
            return self._execute(
                "SELECT query, answer, checksum FROM keras_smoothing_answers "
                f"WHERE query IN ({self._placeholders(len(queries))})",
                queries,
            )

    def keep_answers(self, rows):
        self._insert_many(
            "INSERT INTO keras_smoothing_answers (query, answer, checksum) "
            f"VALUES ({self._placeholders(3)}) ON CONFLICT (query) DO UPDATE "
            "SET answer = excluded.answer, checksum = excluded.checksum",
            rows,
        )

    def _placeholders(self, count):
        return ", ".join([self.placeholder] * count)

    @abc.abstractmethod
    def _is_empty(self):
        """Returns whether the database is still empty."""

    @abc.abstractmethod
    def _is_ours(self):
        """Returns whether `create` made the contents of the database."""

    def _check_new(self):
        """Raises, inside `exclusive`, if there was a memory here before."""

    def _mark(self):
        """Marks the database, inside `exclusive`, for `_is_ours`."""

    @abc.abstractmethod
    def _execute(self, statement, values=()):
        """Runs a statement; returns its rows, if any, as a list."""

    @abc.abstractmethod
    def _insert_many(self, statement, rows):
        """Runs a statement for each of several rows."""

    @abc.abstractmethod
    def _named_errors(self):
        """Returns a context that translates database errors to Python's."""
