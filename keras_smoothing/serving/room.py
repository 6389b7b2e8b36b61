import collections
import ipaddress
import math
import time

from starlette.exceptions import HTTPException


def address(client):
    """The address that a connection is counted for.

    Args:
        client: `(host, port)` of the client, or None if there is none, as for
            Unix sockets.

    Returns:
        str: an IPv4 address; the /64 network of an IPv6 address, since a client
        with one of its addresses has all of them; or the unchanged host.
    """
    if client is None:
        return ""
    try:
        ip = ipaddress.ip_address(client[0])
    except ValueError:  # A name, as used by a test client.
        return client[0]
    if ip.version == 4:
        return str(ip)
    if ip.ipv4_mapped:
        return str(ip.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(ip), 64), strict=False))


class Room:
    """A limited amount of room that addresses share.

    When it is full, the address that holds most gives way. So an address may
    take all of the room while nobody else needs it, but never at the expense of
    others.

    A guest has

    - `address`: the address it belongs to;
    - `order`: among the guests of an address, the one with the smallest order
      gives way first; None for a guest that has to stay;
    - `give_way()`: called when it has lost its place.

    Args:
        size: int, the largest sum of weights.
    """

    def __init__(self, size):
        self._size = size
        self._weights = {}

    def put(self, guest, weight=1):
        """Adds a guest, or changes its weight.

        Args:
            guest: as described above.
            weight: int, how much of the room it takes.

        Returns:
            bool, whether the guest has a place. It may itself have to give way.
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
        """Removes a guest, if it still has a place."""
        self._weights.pop(guest, None)


# Number of addresses kept; the one without requests for longest is dropped.
_MOST_ADDRESSES = 10_000


class Allowance:
    """Limits the examples that one address may request in a minute.

    A used allowance is refilled evenly over a minute. A request for more than
    one minute's worth is admitted after an idle minute, and leaves a debt. For
    IPv6, a whole /64 network counts as one address: a client with one of its
    addresses has all of them.

    Args:
        per_minute: int, number of examples.
    """

    def __init__(self, per_minute):
        self._per_minute = per_minute
        # From an address to its allowance left and the time, ordered by time.
        self._left = collections.OrderedDict()

    def take(self, client, count):
        """Takes examples from the allowance of an address.

        Args:
            client: pair of an address and a port, or None if the connection has
                neither.
            count: int, number of examples.

        Raises:
            HTTPException: 429, if the allowance is not sufficient.
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
