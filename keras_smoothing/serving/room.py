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
