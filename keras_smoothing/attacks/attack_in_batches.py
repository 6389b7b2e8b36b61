import keras
import numpy as np


def attack_in_batches(attack, x, y, strength, bounds, batch_size, verbose):
    """Runs an attack batch by batch, and shows its progress.

    Args:
        attack: function from float32 x, int32 y and float32 strength, one for
            each example, to adversarial examples. All batches have the same
            size; the last is filled up.
        x: as `check_examples` returns it.
        y: likewise.
        strength: likewise.
        bounds: (low, high), of all values of x.
        batch_size: int, at most the number of examples.
        verbose: "auto" or 1 for a progress bar, 0 for silence.

    Returns:
        float32 array of the shape of x.
    """
    bar = keras.utils.Progbar(
        len(x), verbose=1 if verbose == "auto" else verbose, unit_name="example"
    )
    attacked = np.empty_like(x)
    for start in range(0, len(x), batch_size):
        which = np.arange(start, start + batch_size) % len(x)
        result = attack(x[which], y[which], strength[which])
        count = min(batch_size, len(x) - start)
        attacked[start : start + count] = result[:count]
        bar.update(start + count)
    # Sums of float32 may be off by the last bit.
    return np.clip(attacked, *np.float32(bounds))
