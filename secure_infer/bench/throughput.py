"""X-rays per hour: from a filled ticket pool, and then from a drained one.

A connection does one thing at a time: while an image is answered no ticket is made on it, and the next image
waits until its ticket is ready. So the filled rate is that of the online phase alone, for as long as the pool
lasts, and the drained rate is that of offline and online phases in turns.
"""

from collections.abc import Sequence

from secure_infer.bench.result import Rate, Throughput
from secure_infer.runtime.local import ImageCost


def throughput_of(images: Sequence[ImageCost], pool: int) -> Throughput:
    """The rates of one connection's images in their order, the first `pool` of which found a ticket ready.

    There must be more images than that; the drained part begins when the last ticket of the pool is spent.
    """
    filled, drained = images[:pool], images[pool:]
    return Throughput(
        filled=_rate(len(filled), filled[-1].end - filled[0].begin),
        drained=_rate(len(drained), drained[-1].end - filled[-1].end),
    )


def _rate(images: int, seconds: float) -> Rate:
    return Rate(images, seconds, 3600 * images / seconds)
