import abc
import contextlib

from keras_smoothing.memory.kept import START
from keras_smoothing.memory.kept import Budget
from keras_smoothing.memory.kept import Head


class Store(abc.ABC):
    """Where promises are kept, for one process or for many.

    Rows are numbered from 1 on, in the order in which they were committed,
    without gaps, and are never changed. A row is `(id, x, prediction, radius,
    scale, scales, alpha, stddev, noise, chain)`; see `rows`.

    Attributes:
        name: str, what the store is called in messages.
    """

    name = None

    @abc.abstractmethod
    def identity(self):
        """The `Identity` of the promises here, or None where there is none.

        Raises:
            ValueError: if what is here is not a memory, or is damaged.
        """

    @abc.abstractmethod
    def create(self, identity, total_alpha):
        """Makes this a memory of `identity`, if none was made before."""

    @abc.abstractmethod
    def budget(self):
        """The `Budget` of a memory that was made.

        Raises:
            ValueError: if it is damaged.
        """

    @abc.abstractmethod
    def spend(self, budget):
        """Puts another `Budget` in its place, inside `exclusive`."""

    @abc.abstractmethod
    def exclusive(self):
        """A context in which nobody else adds rows.

        What was inserted in it is kept once it is left, and not at all if it
        is left by an exception.
        """

    @abc.abstractmethod
    def head(self):
        """The `Head` of a memory that was made.

        Raises:
            ValueError: if it is damaged, or holds less than it must.
        """

    @abc.abstractmethod
    def chain_at(self, number):
        """The chain of a row, or None where there is no such row."""

    @abc.abstractmethod
    def rows_after(self, last, end):
        """Yields lists of the rows that others added, in order.

        Args:
            last: int, the number of the last row that is known.
            end: int, the number of the last row that is wanted.
        """

    @abc.abstractmethod
    def insert(self, rows):
        """Adds rows, inside `exclusive`, and with them to the `head`.

        Args:
            rows: list of rows.
        """

    @abc.abstractmethod
    def answers(self, queries):
        """The rows of `answer.to_row` that were kept of queries, of a list."""

    @abc.abstractmethod
    def keep_answers(self, rows):
        """Keeps rows of `answer.to_row`, for those of the same queries."""

    def backup(self, path):
        """Writes a copy to a new file, while others may write to this one."""
        raise ValueError(
            "Expected a memory in an SQLite file. Received: one "
            f"{self.name}, which cannot be copied to a file. Of a database on "
            "a server, the server's own tools make copies, such as pg_dump."
        )

    @abc.abstractmethod
    def close(self):
        """Lets go of the store."""


class RamStore(Store):
    """No store: promises live as long as the process that made them."""

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
        """There is nothing to let go of."""
