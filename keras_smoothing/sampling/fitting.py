"""How many noisy copies go through a model at once, for all to fit."""

import pathlib

import numpy as np
import psutil

# Of the memory that is free: kernels have workspaces, and others take some.
_SHARE = 0.5
# In containers less may be used than the machine has. Version 2, then 1.
_LIMITS = (
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)
# The noise twice, as drawn and as put together, and its sum with the input.
_FLOATS_PER_INPUT = 3
# Outputs, what they are compared by, and votes.
_FLOATS_PER_OUTPUT = 4


def copies_that_fit(sampler, shape):
    """The largest batch of noisy copies whose memory is half of what is free.

    It is an estimate, from the shapes of all tensors in the graph of the base
    model. Of one that calls Python only inputs and outputs are known. Of a GPU
    with less memory than the machine nothing is known.

    Args:
        sampler: `Sampler`, whose base model is built.
        shape: tuple of ints, the shape of an example.

    Returns:
        int >= 1.

    Raises:
        ValueError: if not even one copy fits.
    """
    inputs = int(np.prod(shape))
    answers = int(np.prod(sampler.answers(shape)))
    each = 4 * (_FLOATS_PER_INPUT * inputs + _FLOATS_PER_OUTPUT * answers)
    free = free_bytes()
    check_fits(each, free, f"one noisy copy of shape {shape}")
    each += sampler.forward.bytes_per_example(shape)
    check_fits(each, free, f"a pass of one noisy copy of shape {shape}")
    return int(_SHARE * free // each)


def check_fits(needed, free, what):
    """Raises where something needs more than its share of the free memory.

    Args:
        needed: int, in bytes.
        free: int, in bytes.
        what: str, what needs it.
    """
    if needed > _SHARE * free:
        raise ValueError(
            f"Expected {what} to fit into half of the free memory, "
            f"{in_words(_SHARE * free)}. Received: about {in_words(needed)} "
            "needed"
        )


def free_bytes():
    """The memory that this process can still take: an int."""
    free = psutil.virtual_memory().available
    used = psutil.Process().memory_info().rss
    for path in map(pathlib.Path, _LIMITS):
        if path.exists() and (limit := path.read_text().strip()).isdigit():
            free = min(free, int(limit) - used)
    return max(free, 0)


def in_words(count):
    """A number of bytes, such as "1.5 GiB"."""
    units = "bytes", "KiB", "MiB", "GiB", "TiB"
    power = min(len(units) - 1, int(count).bit_length() // 10)
    return f"{count / 1024**power:,.3g} {units[power]}"
