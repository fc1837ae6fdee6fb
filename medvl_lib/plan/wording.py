"""A plan as a table for a terminal, or as values for machines. No torch here.

In: plans. Out: text. What the numbers are is ``memory``'s and ``speed``'s; nothing is computed here but sums and units.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from medvl_lib.hardware import Profile
from medvl_lib.plan.memory import GB, Plan

SECONDS_PER_HOUR = 3600


class Outlook(NamedTuple):
    """A step of a line: what it needs, with other numbers of pairs at a time beside it, and how many steps it takes."""

    plan: Plan
    others: Sequence[Plan]
    num_steps: int | None
    """Optimizer steps of the recipe; None where the number of pairs is not known, or nothing is trained."""


def render(outlooks: Sequence[Outlook], profile: Profile) -> str:
    """The tables of a line, one for each step."""
    return "\n".join(line for outlook in outlooks for line in (*_table(outlook, profile), ""))


def _table(outlook: Outlook, profile: Profile) -> Iterator[str]:
    plan = outlook.plan
    yield f"{plan.step}: {plan.model} on the profile {plan.profile}, {_way(plan)}"
    yield (f"  the longest: {plan.length.num_tokens:,} tokens, {plan.length.num_pictures} picture(s) of {plan.length.num_pixels:,} pixels")
    for part in plan.parts:
        yield f"  {part.name:<24}{part.num_bytes / GB:10.3f} GB   {part.why}"
    room = "not known" if math.isinf(plan.room_bytes) else f"{plan.room_bytes / GB:.2f} GB"
    yield f"  {'in all':<24}{plan.total_bytes / GB:10.3f} GB   room: {room}: {'it fits' if plan.fits else 'IT DOES NOT FIT'}"
    for other in outlook.others:
        held = "fits" if other.fits else "does not fit"
        speed = "" if other.speed is None else f", {other.speed.seconds_per_step:.1f} s a step"
        yield f"    {other.micro_batch:>3} at a time x {other.accumulation}: {other.total_bytes / GB:.2f} GB, {held}{speed}"
    yield from _time(outlook, profile)
    if plan.disk is not None:
        yield f"  {'disk':<24}{plan.disk.num_bytes / GB:10.1f} GB   {plan.disk.why}"


def _way(plan: Plan) -> str:
    pairs = f"{plan.micro_batch} {'pair' if plan.micro_batch == 1 else 'pairs'} at a time"
    if plan.num_processes > 1:
        pairs += f" in each of {plan.num_processes} processes"
    return f"{pairs}, {plan.accumulation} times for an optimizer step" if plan.accumulation > 1 else pairs


def _time(outlook: Outlook, profile: Profile) -> Iterator[str]:
    speed = outlook.plan.speed
    if speed is None:
        return
    yield (
        f"  {'a step, ESTIMATED':<24}{speed.seconds_per_step:10.1f} s    {speed.num_operations / 1e12:,.0f} TFLOP at "
        f"{profile.compute_per_second / 1e12:,.1f} TFLOP/s x {profile.utilisation:.0%}, {speed.moved_bytes / GB:,.0f} GB moved at "
        f"{profile.bandwidth_bytes_per_second / GB:,.0f} GB/s; bound by {speed.bound}; every pair taken as long as the longest"
    )
    if outlook.num_steps is not None:
        hours = outlook.num_steps * speed.seconds_per_step / SECONDS_PER_HOUR
        yield f"  {'in all, ESTIMATED':<24}{hours:10.2f} h    {outlook.num_steps:,} steps; validation and checkpoints are not in it"


def as_json(outlooks: Sequence[Outlook]) -> str:
    """Every value, unrounded."""
    return json.dumps([_values(outlook) for outlook in outlooks], indent=1)


def _values(outlook: Outlook) -> Mapping[str, object]:
    plan, speed = outlook.plan, outlook.plan.speed
    return {
        "step": plan.step, "model": plan.model, "profile": plan.profile, "micro_batch": plan.micro_batch,
        "accumulation": plan.accumulation, "num_processes": plan.num_processes, **plan.length._asdict(),
        "parameters": {part: {"all": counts[0], "trainable": counts[1]} for part, counts in plan.parameters.items()},
        "parts": [part._asdict() for part in plan.parts], "total_bytes": plan.total_bytes,
        "room_bytes": None if math.isinf(plan.room_bytes) else plan.room_bytes, "fits": plan.fits,
        "micro_batches": [
            {"micro_batch": other.micro_batch, "total_bytes": other.total_bytes, "fits": other.fits} for other in outlook.others
        ],
        "estimate": None if speed is None else {
            **speed._asdict(), "num_steps": outlook.num_steps,
            "hours": None if outlook.num_steps is None else outlook.num_steps * speed.seconds_per_step / SECONDS_PER_HOUR,
        },
        "disk_bytes": None if plan.disk is None else plan.disk.num_bytes,
    }  # fmt: skip
