import collections
import math
import time

from starlette.exceptions import HTTPException

from keras_smoothing.serving.address import address

# Of addresses that have asked lately; who has not for longest is forgotten.
_MOST_ADDRESSES = 10_000


class Allowance:
    """How many examples one address may ask about in a minute.

    What an address has used comes back evenly over the minute. A request for
    more than one minute's worth is let in after an idle minute, and paid off.
    Of IPv6, all of a /64 network is one address: whoever has one has them all.

    Args:
        per_minute: int, examples.
    """

    def __init__(self, per_minute):
        self._per_minute = per_minute
        # From an address to what it had left, and when; by the latter.
        self._left = collections.OrderedDict()

    def take(self, client, count):
        """Takes from what an address has left.

        Args:
            client: pair of an address and a port, or None where a connection
                has neither.
            count: int, examples.

        Raises:
            HTTPException: 429, if that is not enough.
        """
        key, now = address(client), time.monotonic()
        left, then = self._left.get(key, (self._per_minute, now))
        per_second = self._per_minute / 60
        left = min(self._per_minute, left + per_second * (now - then))
        missing = min(count, self._per_minute) - left
        if missing > 0:
            seconds = math.ceil(missing / per_second)
            raise HTTPException(
                429,
                f"Expected at most {self._per_minute} examples of one address "
                f"within a minute. Received: more. Try again in {seconds} s.",
                {"Retry-After": str(seconds)},
            )
        self._left[key] = left - count, now
        self._left.move_to_end(key)
        if len(self._left) > _MOST_ADDRESSES:
            self._left.popitem(last=False)
