import dataclasses
import typing


@dataclasses.dataclass(frozen=True)
class Entries:
    """Which entries of a dict are examples and labels.

    As in Keras, a dict without further word holds the examples under the name
    of the model's input, and what else it holds is left alone.

    Attributes:
        x_key: key of the examples, or None for the name of the model's input.
        y_key: key of the labels in the same dict, or None for no labels there.
        input_name: str, the name of the model's input; None if it has none.
        packing: `Packing` of several inputs, or None. A dict then holds all of
            them under their names.
        mask_value: float, the value of padding at the end of rows of a
            RaggedTensor; None where rows have to be of one length.
        steps: int, the least length of such rows; or None.
    """

    x_key: typing.Any = None
    y_key: typing.Any = None
    input_name: str | None = None
    packing: typing.Any = None
    mask_value: float | None = None
    steps: int | None = None

    def select(self, element):
        """The examples, and the labels if there are any.

        Args:
            element: x, (x,) or (x, y), where x may be a dict.

        Returns:
            (x,) or (x, y), without the dict; of several inputs x is a dict of
            them.

        Raises:
            ValueError: if it is none of these, or lacks an entry.
        """
        parts = element if isinstance(element, tuple) else (element,)
        if len(parts) not in (1, 2):
            raise ValueError(
                "Expected a dataset of x or of (x, y). Received: elements of "
                f"{len(parts)} components. A certificate has no weight: leave "
                "sample weights out."
            )
        x, *y = parts
        if self.packing is not None and self.x_key is not None:
            raise ValueError(
                "Expected x_key=None for a base model with several inputs: in "
                "a dict they are found by their names. Received: "
                f"x_key={self.x_key!r}"
            )
        if isinstance(x, dict):
            return self._of_dict(x, y)
        for name, key in (("x_key", self.x_key), ("y_key", self.y_key)):
            if key is not None:
                raise ValueError(
                    f"Expected dicts, for {name}={key!r} to name an entry of. "
                    f"Received: x of type {type(x)}"
                )
        return parts if self.packing is None else (self.packing.named(x), *y)

    def leading(self, x):
        """What tells examples from batches: of several inputs the noisy one.

        Args:
            x: as of `select`.

        Returns:
            x, or its entry.
        """
        return x if self.packing is None else x[self.packing.noisy]

    def _of_dict(self, x, y):
        examples = self._examples(x)
        if self.y_key is None:
            return (examples, *y)
        if y:
            raise ValueError(
                "Expected labels either beside the dict or in it. Received: "
                f"both y and y_key={self.y_key!r}"
            )
        return examples, _entry(x, self.y_key, "y_key")

    def _examples(self, x):
        if self.packing is not None:
            return self.packing.named(x)
        key = self.input_name if self.x_key is None else self.x_key
        if key is None:
            raise ValueError(
                "Expected `x_key`, the entry of the examples, since the base "
                "model has no input with a name. Received: a dict with "
                f"entries {list(x)}"
            )
        return _entry(x, key, "x_key")


def _entry(entries, key, argument):
    if key not in entries:
        raise ValueError(
            f"Expected an entry {key!r}, or the name of another as "
            f"`{argument}`. Received: a dict with entries {list(entries)}"
        )
    return entries[key]
