from typing import NamedTuple


class Head(NamedTuple):
    """What a memory holds, in a few numbers.

    Attributes:
        num_promises: int.
        num_queries: int, how many were counted.
        chain: str, a hash of all promises, in their order.
    """

    num_promises: int
    num_queries: int
    chain: str
