"""The number of noisy copies in a forward pass that fit into memory."""

import pathlib

import numpy as np
import psutil

# Share of the free memory: kernels need workspaces, and other processes take
# some.
_SHARE = 0.5
# Memory limits of containers: cgroup version 2, then 1.
_LIMITS = (
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)
# The noise twice, as drawn and as assembled, and its sum with the input.
_FLOATS_PER_INPUT = 3
# Outputs, their comparisons, and votes.
_FLOATS_PER_OUTPUT = 4


def copies_that_fit(sampler, shape):
    """The largest batch of noisy copies that fits into half the free memory.

    It is an estimate from the shapes of all tensors in the graph of the base
    model. For a model that calls Python, only inputs and outputs are known. It
    ignores the memory of a GPU, even if that is less than the machine's.

    Args:
        sampler: `Sampler` with a built base model.
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
    """Raises if something needs more than its share of the free memory.

    Args:
        needed: int, in bytes.
        free: int, in bytes.
        what: str, names what needs the memory.
    """
    if needed > _SHARE * free:
        raise ValueError(
            f"Expected {what} to fit into half of the free memory, "
            f"{in_words(_SHARE * free)}. Received: about {in_words(needed)} "
            "needed"
        )


def free_bytes():
    """The bytes that this process can still allocate: an int."""
    free = psutil.virtual_memory().available
    used = psutil.Process().memory_info().rss
    for path in map(pathlib.Path, _LIMITS):
        if path.exists() and (limit := path.read_text().strip()).isdigit():
            free = min(free, int(limit) - used)
    return max(free, 0)


def in_words(count):
    """A number of bytes as text, such as "1.5 GiB"."""
    units = "bytes", "KiB", "MiB", "GiB", "TiB"
    power = min(len(units) - 1, int(count).bit_length() // 10)
    return f"{count / 1024**power:,.3g} {units[power]}"
