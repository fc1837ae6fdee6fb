"""``medvl doctor``, ``plan`` and ``bench``: what this machine can do, before a night is spent on it."""

import argparse
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from medvl_lib.cli.arguments import AddVerb, add_largest, add_line, gigabytes, positive
from medvl_lib.cli.project import checked_settings, entered_profile, line_of
from medvl_lib.hardware import profile_for, profile_named, room_bytes
from medvl_lib.settings import Settings, read_settings

if TYPE_CHECKING:
    from medvl_lib.doctor import Finding
    from medvl_lib.lines import Line

MARKS = {"ok": "ok   ", "note": "note ", "wrong": "WRONG"}


def add_verbs(add: AddVerb) -> None:
    """What the three take."""
    verb = add("doctor", help="say what stands in the way, and why this hardware profile was chosen")
    verb.add_argument("--line", metavar="LINE", help="also try the line's processor, model, template, stages and saves: a minute")
    verb.set_defaults(run=doctor)

    verb = add("plan", help="what a line needs on a profile before anything is fetched or loaded: memory, time, disk")
    add_line(verb)
    verb.add_argument("--profile", metavar="NAME", help="cpu, cuda, gb10 or m3_ultra; without it this machine's")
    verb.add_argument("--memory", type=gigabytes, metavar="GB", help="of that machine; without it what the profile is known to have")
    add_largest(verb)
    verb.add_argument("--pairs", type=positive, metavar="N", help="training pairs of an epoch; without it what the recipe says")
    verb.add_argument("--json", action="store_true", help="every value, for machines")
    verb.set_defaults(run=plan)

    verb = add("bench", help="measure memory and speed of a line's steps here, without its weights and without data")
    add_line(verb)
    verb.add_argument(
        "--random-weights", action="store_true", required=True,
        help="weights of the published shapes, drawn by chance: nothing is fetched (real ones are measured by the graph's predictions)",
    )  # fmt: skip
    add_largest(verb)
    verb.add_argument("--layers", type=positive, metavar="N", help="only the first layers of the language model: where it does not fit")
    verb.add_argument("--json", action="store_true", help="every value, for machines")
    verb.set_defaults(run=bench)


def doctor(arguments: argparse.Namespace) -> int:
    """Say what stands in the way before anything is started; of one line also whether a few steps of it go as they should."""
    from medvl_lib.doctor import examine

    is_wrong = _told(examine())
    if arguments.line is not None and not is_wrong:
        settings = read_settings()
        is_wrong = _told(_smoke(settings, line_of(settings, arguments.line)))
    return int(is_wrong)


def _smoke(settings: Settings, line: "Line") -> Iterable["Finding"]:
    profile = entered_profile(settings)
    from medvl_lib.smoke import smoke

    return smoke(line, profile)


def _told(findings: Iterable["Finding"]) -> bool:
    """Print each finding as it comes; whether one of them is wrong."""
    is_wrong = False
    for finding in findings:
        is_wrong |= finding.level == "wrong"
        print(f"{MARKS[finding.level]}  {finding.name:<12} {finding.found}", flush=True)
        if finding.do:
            print(f"{'':<20}-> {finding.do}")
    return is_wrong


def plan(arguments: argparse.Namespace) -> int:
    """Say what a line's stages and predictions need on a profile: bytes by part, seconds as an estimate, room on the disk."""
    settings = checked_settings()
    line = line_of(settings, arguments.line)
    here = profile_for(settings).profile
    profile, room = here, None
    if arguments.profile not in {None, here.name} or arguments.memory is not None:
        memory = None if arguments.memory is None else round(arguments.memory * 1e9)
        profile = profile_named(settings, arguments.profile or here.name, memory)
        room = profile.memory_budget_bytes * (1 - profile.memory_margin_share) or math.inf
    from medvl_lib.plan.outlook import outlooks
    from medvl_lib.plan.wording import as_json, render

    found = list(outlooks(
        line, profile, num_tokens=arguments.tokens, num_pixels=arguments.pixels, num_pairs=arguments.pairs,
        room=room_bytes(profile) if room is None else room,
    ))  # fmt: skip
    print(as_json(found) if arguments.json else render(found, profile), end="\n" if arguments.json else "")
    return int(any(not outlook.plan.fits for outlook in found))


def bench(arguments: argparse.Namespace) -> int:
    """Measure memory and time of a line's steps on this machine, with random weights of the real shapes."""
    settings = checked_settings()
    profile = entered_profile(settings)
    from medvl_lib.plan.bench import as_json, render
    from medvl_lib.plan.bench import bench as measured

    line = line_of(settings, arguments.line)
    found = list(measured(line, profile, num_tokens=arguments.tokens, num_pixels=arguments.pixels, num_layers=arguments.layers))
    print(as_json(found) if arguments.json else render(found), end="")
    return 0
