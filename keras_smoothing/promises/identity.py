from typing import NamedTuple


class Identity(NamedTuple):
    """Of which classifier promises are.

    Attributes:
        model: str, the fingerprint of the base model.
        norm: `"l1"` or `"l2"`.
        shape: tuple of ints, the shape of one example.
        symmetries: str, a hash of the rearrangements of an example that get the
            same answer; empty where there are none.
        voting: "hard" or "soft".
        serialized: str, the form of serialized smoothing whose votes are of
            another classifier than the base model as it is: "Exact", of the
            fixed point; or empty.
    """

    model: str
    norm: str
    shape: tuple
    symmetries: str
    voting: str = "hard"
    serialized: str = ""
