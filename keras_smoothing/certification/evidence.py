from keras_smoothing.warn_caller import warn_caller


def warn_of_evidence():
    """Warns of noise that is chosen by the input, without a memory."""
    warn_caller(
        "Without a memory, a classifier that chooses sigma by the input has no "
        "certificate: elsewhere in the ball it may choose another sigma. What "
        "is returned is evidence about each input with its own sigma. Pass "
        "memory=ks.CertificationMemory(path) to certify, and classify with "
        "the same one.",
    )
