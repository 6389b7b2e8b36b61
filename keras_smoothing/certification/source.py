import dataclasses
import typing


@dataclasses.dataclass(frozen=True)
class Source:
    """Batches of examples that nobody has validated, to be read once.

    Attributes:
        batches: iterator of (x, y), arrays of any shapes; y may be None.
        num_batches: int, how many batches there are; None if not known.
        exact_total: int, how many examples there are; None if that is not
            certain before they are read.
    """

    batches: typing.Iterator
    num_batches: int | None = None
    exact_total: int | None = None
