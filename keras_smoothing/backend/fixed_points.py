"""Gradients of fixed points, in TensorFlow.

Let z = f(z, s), where s are the tensors and variables that f uses: its sources.
With J the Jacobian of f in z and g the upstream gradient at z, the gradient
with respect to s is f_s' y, where y = J' y + g. This y is a fixed point, too,
of a map with sources g, z and s. So this one rule gives derivatives of any
order.
"""

import contextlib

import tensorflow as tf


def implicit_gradient(f, point, value, solve):
    """`value`, with the derivatives of any order of the fixed point of `f`.

    Args:
        f: function that maps a tensor, shape `(batch, size)`, to one of the
            same shape, and that TensorFlow can trace.
        point: tensor of that shape, a fixed point of `f`.
        value: tensor of that shape.
        solve: function `(step, upstream)` that solves y = step(y), starting at
            `upstream`.

    Returns:
        tensor of that shape.

    Raises:
        NotImplementedError: if it is differentiated in forward mode, or twice
            from outside the `tf.function` in which this is called.
    """
    # A trace of f shows its sources. The trace never runs.
    spec = tf.TensorSpec(point.shape, point.dtype)
    graph = tf.function(f, autograph=False).get_concrete_function(spec)
    sources = [t for t in graph.captured_inputs if _is_differentiable(t)]
    return _fixed_point(f, sources, point, value, solve)


def first_gradient_of(value, other, message):
    """`value`, with the first-order gradient of `other`.

    If nothing is differentiated, a graph does not even compute `other`.

    Args:
        value: tensor.
        other: tensor of that shape.
        message: str, the error message.

    Returns:
        tensor of that shape.

    Raises:
        NotImplementedError: if the gradient is differentiated.
    """

    def refuse(_):
        raise NotImplementedError(message)

    def pull(upstream):
        # As a source, `other` sends every derivative of the gradient here.
        return _attach([upstream], [other], refuse)

    return _attach([value], [other], pull)[0]


def _fixed_point(f, sources, point, value, solve):
    """`implicit_gradient` for an `f` whose sources are known."""
    with (
        _tape([point], persistent=True) as by_state,
        _tape(sources, persistent=True) as by_source,
    ):
        image = f(point)

    def pull(upstream):
        def step(y):
            return upstream + by_state.gradient(
                image, point, output_gradients=y
            )

        y = solve(step, upstream)
        gradients = by_source.gradient(image, sources, output_gradients=y)
        inputs = [upstream, *sources]
        reached = [
            source
            for source, gradient in zip(sources, gradients, strict=True)
            if gradient is not None
        ]

        def pull_again(*cotangents):
            _check_tapes()
            _check_scope(sources)
            with _tape(inputs) as tape:
                z = _fixed_point(f, sources, point, point, solve)
                again = _gradients(f, sources, reached, z, y, upstream, solve)
            return tape.gradient(again, inputs, output_gradients=cotangents)

        return _attach(gradients, inputs, pull_again)

    return _attach([value], sources, pull)[0]


def _gradients(f, sources, reached, z, y, upstream, solve):
    """The gradients for `reached`, with derivatives of any order.

    `reached` are some of the sources. The gradients are computed again from z
    and y, whose values are known.
    """

    def step(y):
        with _tape([z]) as tape:
            image = f(z)
        return upstream + tape.gradient(image, z, output_gradients=y)

    y = _fixed_point(step, [upstream, z, *sources], y, y, solve)
    with _tape(reached) as tape:
        image = f(z)
    return tape.gradient(image, reached, output_gradients=y)


def _attach(values, inputs, pull):
    """`values`, whose gradients `pull` maps to gradients of `inputs`.

    A value of None stays None, and has no gradient.
    """
    tensors = [tf.convert_to_tensor(v) for v in values if v is not None]
    if not tensors:
        return values

    @tf.custom_gradient
    def attach(*arguments):
        def backward(*upstream):
            return [*[None] * len(tensors), *pull(*upstream)]

        return [tf.identity(t) for t in arguments[: len(tensors)]], backward

    attached = iter(attach(*tensors, *inputs))
    return [None if value is None else next(attached) for value in values]


@contextlib.contextmanager
def _tape(tensors, persistent=False):
    """A tape that watches `tensors` and nothing else."""
    with tf.GradientTape(persistent, watch_accessed_variables=False) as tape:
        tape.watch(tensors)
        yield tape


def _check_tapes():
    """Raises in forward mode, in which TensorFlow's tapes stay empty."""
    one = tf.ones(())
    with _tape([one]) as tape:
        two = one + one
    if tape.gradient(two, one) is None:
        raise NotImplementedError(
            "Forward mode must go through the steps of a solver. Expected: "
            "gradient=Unrolled(). Received: gradient=Implicit()"
        )


def _check_scope(tensors):
    """Raises unless the tensors come from this graph or an enclosing one."""
    graph, around = tf.compat.v1.get_default_graph(), []
    while graph is not None:
        around.append(graph)
        graph = getattr(graph, "outer_graph", None)
    # Tensors with values have no graph.
    if any(getattr(t, "graph", around[0]) not in around for t in tensors):
        raise NotImplementedError(
            "A gradient of a fixed point in a `tf.function` must be "
            "differentiated inside of it. Expected: all tapes in the "
            "function, or gradient=Unrolled(). Received: gradient=Implicit(), "
            "and a tape around the function"
        )


def _is_differentiable(tensor):
    """Whether a tensor may have a gradient; variables are resources here."""
    dtype = tensor.dtype
    return dtype.is_floating or dtype.is_complex or dtype == tf.resource
