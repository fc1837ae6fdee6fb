"""How long an optimizer step takes: an estimate from two ceilings that a profile states, never a measurement. No torch here.

In: what a step computes and moves, and a profile with its ceilings. Out: ``Speed`` with its formula; None where the profile states none.

    seconds = accumulation x max(operations / (compute x utilisation), moved / bandwidth) + 7 x 4 bytes x trained / bandwidth

``operations`` are counted in the dry run, layers that are computed again and the vision tower at its real size included. ``moved`` is every
weight once for each pass (there, back, and again with gradient checkpointing); packed ones are also written and read unpacked, by each.
The last term is AdamW: it reads weight, gradient and two moments, and writes three of them.
"""

from typing import NamedTuple

from medvl_lib.hardware import Profile

OPTIMIZER_TRAFFIC = 7 * 4  # bytes for each number that is trained


class Speed(NamedTuple):
    """Seconds of one optimizer step, and what they come from."""

    seconds_per_step: float
    num_operations: float
    """Of an optimizer step."""
    moved_bytes: float
    """Of an optimizer step, weights and optimizer."""
    bound: str
    """``compute`` or ``bandwidth``: the ceiling that is reached first."""


def training_speed(
    profile: Profile, *, num_operations: float, weight_bytes: float, wide_bytes: float, num_passes: int, accumulation: int, num_trained: int
) -> Speed | None:
    """The speed of a step; ``num_operations`` and passes are those of a micro-batch."""
    if not (profile.compute_per_second and profile.bandwidth_bytes_per_second):
        return None
    moved = num_passes * (weight_bytes + 2 * wide_bytes)
    computing = num_operations / (profile.compute_per_second * profile.utilisation)
    moving = moved / profile.bandwidth_bytes_per_second
    stepping = OPTIMIZER_TRAFFIC * num_trained
    return Speed(
        seconds_per_step=accumulation * max(computing, moving) + stepping / profile.bandwidth_bytes_per_second,
        num_operations=accumulation * num_operations, moved_bytes=accumulation * moved + stepping,
        bound="compute" if computing >= moving else "bandwidth",
    )  # fmt: skip
