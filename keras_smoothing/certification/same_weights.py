from keras_smoothing.logs import fingerprint


def check_same_weights(model, expected):
    """Raises where a model is not the one that a run began with.

    It is called when the draws of a window are done, and before anything of
    them is kept. Weights that changed and changed back in between are not
    noticed.

    Args:
        model: built Keras model.
        expected: str, its fingerprint when the run began.

    Raises:
        RuntimeError: if it has another fingerprint now.
    """
    if fingerprint(model) != expected:
        raise RuntimeError(
            "Expected weights that stay as they are until all draws are done. "
            "Received: weights that changed meanwhile, as by training in "
            "another thread. Nothing is kept of the examples that were drawn "
            "for."
        )
