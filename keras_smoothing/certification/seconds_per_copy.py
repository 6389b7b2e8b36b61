import time


def seconds_per_copy(draw, examples, batch_size):
    """How long a noisy copy takes: measured for about two seconds.

    Args:
        draw: function from a number of draws to whatever they give.
        examples: int, noisy copies in each draw.
        batch_size: int, noisy copies in one forward pass.

    Returns:
        float, in seconds.
    """
    num_draws, seconds, compiled = batch_size // examples, 0.0, False
    # Twice as many draws until they take long enough to be timed.
    while seconds < 1 or not compiled:
        compiled = seconds > 0
        num_draws *= 1 + compiled
        began = time.perf_counter()
        draw(num_draws)
        seconds = time.perf_counter() - began
    return seconds / (examples * num_draws)
