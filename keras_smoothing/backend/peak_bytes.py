"""The memory that a graph needs, estimated from its shapes."""

import tensorflow as tf

_LOOPS = "While", "StatelessWhile"


def peak_bytes_per_example(outputs):
    """The peak memory for each example of a batch, in bytes.

    The estimate assumes that operations run in the order of the graph, and that
    a tensor is held from the operation that makes it to the last that reads it.
    Kernels that work in place need less, kernels with a workspace more. The
    inside of a loop counts as much as its variables.

    Args:
        outputs: nested structure of tensors of the graph being traced, with
            unknown batch size.

    Returns:
        int.
    """
    graph = tf.compat.v1.get_default_graph()
    operations = graph.get_operations()
    kept = {tensor.ref() for tensor in tf.nest.flatten(outputs)}
    last = {}
    for operation in operations:
        for tensor in (*operation.inputs, *operation.outputs):
            last[tensor.ref()] = operation
    held = peak = 0
    for operation in operations:
        made = sum(map(_bytes_per_example, operation.outputs))
        held += made
        inside = made if operation.type in _LOOPS else 0
        peak = max(peak, held + inside)
        ends = {*map(_ref, operation.inputs), *map(_ref, operation.outputs)}
        for ref in ends - kept:
            if last[ref] is operation:
                held -= _bytes_per_example(ref.deref())
    return peak


def _ref(tensor):
    return tensor.ref()


def _bytes_per_example(tensor):
    """Bytes per example; 0 for tensors without a batch, such as weights."""
    sizes = tensor.shape
    if sizes.rank is None or None not in sizes.as_list():
        return 0
    # If several sizes are unknown, one is the batch; the others count as 1.
    count = 1
    for size in sizes:
        count *= size or 1
    return count * tensor.dtype.size
