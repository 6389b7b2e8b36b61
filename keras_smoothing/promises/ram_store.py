import contextlib

from keras_smoothing.promises.budget import Budget
from keras_smoothing.promises.head import START
from keras_smoothing.promises.head import Head
from keras_smoothing.promises.store import Store


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
