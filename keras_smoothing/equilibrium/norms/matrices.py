import numpy as np

# Far above what float64 rounds off, so that bounds are rounded outwards.
ROUNDING = 1e-9


def dense_norm(matrices):
    """Upper bound of the l2 operator norm: the norm itself, rounded up.

    Args:
        matrices: array, shape `(..., rows, columns)`, real or complex.

    Returns:
        float, the largest of their norms.

    Example:

    ```python
    import numpy as np
    from keras_smoothing.equilibrium import norms

    norms.dense_norm(np.diag([3.0, -4.0]))
    # 4.000000004
    ```
    """
    norms = np.linalg.norm(_double(matrices), 2, axis=(-2, -1))
    return float(np.max(norms)) * (1 + ROUNDING)


def dense_eigenvalue(matrices):
    """Upper bound of the largest eigenvalue of the symmetric part.

    Args:
        matrices: array, shape `(..., rows, rows)`, real or complex; the
            symmetric part of M is (M + M*) / 2.

    Returns:
        float, the largest of them, rounded up.
    """
    matrices = _double(matrices)
    adjoints = np.conj(np.swapaxes(matrices, -2, -1))
    eigenvalues = np.linalg.eigvalsh((matrices + adjoints) / 2)
    largest = float(np.max(eigenvalues[..., -1]))
    return largest + ROUNDING * float(np.max(np.abs(eigenvalues)))


def _double(matrices):
    matrices = np.asarray(matrices)
    kind = np.complex128 if np.iscomplexobj(matrices) else np.float64
    return matrices.astype(kind)
