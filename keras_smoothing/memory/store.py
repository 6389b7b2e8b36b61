import abc
import contextlib

from keras_smoothing.memory.kept import START
from keras_smoothing.memory.kept import Budget
from keras_smoothing.memory.kept import Head


class Store(abc.ABC):
    """Base class of storage for promises, for one process or many.

    Rows are numbered from 1 on without gaps, in commit order, and are never
    changed. A row is `(id, x, prediction, radius, scale, scales, alpha, stddev,
    noise, chain)`; see `rows`.

    Attributes:
        name: str, the store's name in messages.
    """

    name = None

    @abc.abstractmethod
    def identity(self):
        """Returns the `Identity` of the promises, or None if there is none yet.

        Raises:
            ValueError: if the contents are not a memory, or are damaged.
        """

    @abc.abstractmethod
    def create(self, identity, total_alpha):
        """Makes this a memory of `identity`, unless one exists already."""

    @abc.abstractmethod
    def budget(self):
        """Returns the `Budget` of an existing memory.

        Raises:
            ValueError: if it is damaged.
        """

    @abc.abstractmethod
    def spend(self, budget):
        """Replaces the `Budget`, inside `exclusive`."""

    @abc.abstractmethod
    def exclusive(self):
        """Returns a context in which nobody else adds rows.

        Rows inserted in it are committed when it ends, and discarded if it ends
        with an exception.
        """

    @abc.abstractmethod
    def head(self):
        """Returns the `Head` of an existing memory.

        Raises:
            ValueError: if it is damaged, or holds less than it must.
        """

    @abc.abstractmethod
    def chain_at(self, number):
        """Returns the chain of a row, or None if there is no such row."""

    @abc.abstractmethod
    def rows_after(self, last, end):
        """Yields lists of the rows that others added, in order.

        Args:
            last: int, the number of the last known row.
            end: int, the number of the last wanted row.
        """

    @abc.abstractmethod
    def insert(self, rows):
        """Adds rows, inside `exclusive`, and updates the `head`.

        Args:
            rows: list of rows.
        """

    @abc.abstractmethod
    def answers(self, queries):
        """Returns the rows of `kept.to_row` stored for a list of queries."""

    @abc.abstractmethod
    def keep_answers(self, rows):
        """Stores rows of `kept.to_row`, replacing those of the same queries."""

    def backup(self, path):
        """Writes a copy to a new file, while others may write to this one."""
        raise ValueError(
            "Expected a memory in an SQLite file. Received: one "
            f"{self.name}, which cannot be copied to a file. Of a database on "
            "a server, the server's own tools make copies, such as pg_dump."
        )

    @abc.abstractmethod
    def close(self):
        """Closes the store."""


class RamStore(Store):
    """Store in RAM: promises live as long as the process that made them."""

    name = "in RAM"

    def __init__(self):
        self._identity = None
        self._budget = Budget()
        self._answers = {}
        self._chains = [START]

    def identity(self):
        return self._identity

    def create(self, identity, total_alpha):
        self._identity = identity
        self._budget = Budget(total_alpha)

    def budget(self):
        return self._budget

    def spend(self, budget):
        self._budget = budget

    def exclusive(self):
        return contextlib.nullcontext()

    def head(self):
        promises = len(self._chains) - 1
        return Head(promises, self._budget.num_queries, self._chains[-1])

    def chain_at(self, number):
        return self._chains[number] if number < len(self._chains) else None

    def rows_after(self, last, end):
        return ()

    def insert(self, rows):
        self._chains.extend(row[-1] for row in rows)

    def answers(self, queries):
        return [self._answers[q] for q in queries if q in self._answers]

    def keep_answers(self, rows):
        self._answers.update((row[0], row) for row in rows)

    def close(self):
        """Does nothing."""
