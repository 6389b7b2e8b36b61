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

    def seconds(num_draws):
        began = time.perf_counter()
        draw(num_draws)
        return time.perf_counter() - began

    num_draws = batch_size // examples
    # Twice as many draws until they take long enough to be timed. The first of
    # so many may have to be compiled.
    while (least := min(seconds(num_draws), seconds(num_draws))) < 0.25:
        num_draws *= 2
    return least / (examples * num_draws)
