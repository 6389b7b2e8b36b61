"""Settings of layers that Keras cannot save, as JSON takes them."""

import functools
import inspect
import marshal
import re
import types

import keras
import numpy as np

# Of an object in memory: another one in the next process.
_ADDRESS = re.compile(" at 0x[0-9a-f]+")


def saved(thing):
    """What Keras would save, or None where it cannot."""
    try:
        return keras.saving.serialize_keras_object(thing)
    # Of any type: by objects without a configuration, by lambdas whose source
    # is not in a file, by bytes that are no text.
    except Exception:
        return None


def arguments(thing):
    """What the constructors of a Keras object were called with.

    By Keras's convention it keeps each under its own name.

    Args:
        thing: Keras layer or the like.

    Returns:
        dict.
    """
    names = [
        name
        for kind in type(thing).__mro__
        for name in inspect.signature(kind.__init__).parameters
    ]
    # A layer's own "dtype" is that of its variables only.
    return {
        name: described(getattr(thing, name))
        for name in dict.fromkeys([*names, "dtype_policy"])
        if hasattr(thing, name)
    }


def described(value, above=()):
    """Any value by its parts; objects by what they hold.

    Args:
        value: whatever a configuration holds.
        above: tuple of ints, the ids of what it is a part of.
    """
    if id(value) in above:  # An object that holds itself.
        return "..."
    part = functools.partial(described, above=(*above, id(value)))
    if isinstance(value, types.FunctionType) and value.__name__ == "<lambda>":
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        code = marshal.dumps(value.__code__, 0).hex()
        return {"lambda": [code, part(value.__defaults__), part(cells)]}
    if value is None:
        return None
    config = saved(value)
    if config is not None:
        return config
    if isinstance(value, list | tuple):
        return [part(item) for item in value]
    if isinstance(value, dict):
        return {str(key): part(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return [part(item) for item in sorted(value, key=repr)]
    if isinstance(value, functools.partial):
        held = [value.func, value.args, value.keywords]
    elif hasattr(value, "get_config"):
        held = arguments(value)
    else:
        held = getattr(value, "__dict__", _ADDRESS.sub("", str(value)))
    return {type(value).__name__: part(held)}


def text_or_parts(value):
    """What JSON takes in place of a value: its text where that says it all."""
    text = str(value)
    if hasattr(value, "__array__"):
        array = np.asarray(value)
        # NumPy leaves out values of large arrays, and the last digits of all.
        whole = np.array2string(
            array, threshold=array.size + 1, floatmode="unique"
        )
        return text if whole in text else whole
    return described(value) if _ADDRESS.search(text) else text
