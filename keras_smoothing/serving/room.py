import collections
import ipaddress
import math
import time

from starlette.exceptions import HTTPException


def address(client):
    """Whose a connection is, as far as its other end tells.

    Args:
        client: `(host, port)` of the other end, or None where there is none,
            as for Unix sockets.

    Returns:
        str: an IPv4 address; the /64 network of an IPv6 address, since whoever
        has one address of it has all; or the host as it is.
    """
    if client is None:
        return ""
    try:
        ip = ipaddress.ip_address(client[0])
    except ValueError:  # As a name that a test client gives itself.
        return client[0]
    if ip.version == 4:
        return str(ip)
    if ip.ipv4_mapped:
        return str(ip.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(ip), 64), strict=False))


class Room:
    """Room for so much at a time, which addresses share.

    When it is full, the address that has most gives way. So an address may
    take all of it while nobody else asks, and never what others need.

    A guest has

    - `address`: who it belongs to;
    - `order`: of the guests of an address, the one with the least gives way
      first; None for a guest that has to stay;
    - `give_way()`: called when it has lost its place.

    Args:
        size: int, the sum of weights that fit.
    """

    def __init__(self, size):
        self._size = size
        self._weights = {}

    def put(self, guest, weight=1):
        """Gives a guest a place, or its place another weight.

        Args:
            guest: as described above.
            weight: int, how much of the room it takes.

        Returns:
            bool, whether it has the place. It may be the one to give way.
        """
        self._weights[guest] = weight
        while sum(self._weights.values()) > self._size:
            held, leaving = {}, {}
            for other, weight in self._weights.items():
                held[other.address] = held.get(other.address, 0) + weight
                if (order := other.order) is not None:
                    leaving[other] = order
            if not leaving:
                break
            most = min(leaving, key=lambda g: (-held[g.address], leaving[g]))
            del self._weights[most]
            most.give_way()
        return guest in self._weights

    def remove(self, guest):
        """Takes the place of a guest back, if it still has one."""
        self._weights.pop(guest, None)


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
