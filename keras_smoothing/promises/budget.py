from typing import NamedTuple


class Budget(NamedTuple):
    """What the queries of a memory have spent, over its whole life.

    Attributes:
        total_alpha: float in (0, 1), of which each query gets its share; or
            None.
        num_queries: int, how many were counted.
        alpha_spent: float, the sum of their alphas.
    """

    total_alpha: float | None = None
    num_queries: int = 0
    alpha_spent: float = 0.0
