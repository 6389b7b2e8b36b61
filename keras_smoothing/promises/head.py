from typing import NamedTuple

# The chain before the first promise.
START = 64 * "0"


class Head(NamedTuple):
    """What a memory holds, in a few numbers.

    Attributes:
        num_promises: int.
        num_queries: int, how many were counted.
        chain: str, 64 hexadecimal digits: a hash of all promises, in their
            order.
    """

    num_promises: int = 0
    num_queries: int = 0
    chain: str = START
