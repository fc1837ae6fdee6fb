"""Fresh processes: where they come from, and work that each of them does alone. No torch here.

In: a profile, and what is to be done. Out: what was found. On a CPU it is a fork server that has imported the libraries;
it is started before the asking process imports them itself, so that both do so at the same time. A GPU's driver and macOS do not survive
being forked: there each process starts anew.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, SpawnContext
from typing import NamedTuple, TypeVar

from medvl_lib.errors import HeavyStepFailed
from medvl_lib.hardware import Profile

Item = TypeVar("Item")
Result = TypeVar("Result")

MEASURING = "medvl_lib.evaluation.footprint"


class Told(NamedTuple):
    """How the failure of a process is told."""

    who: str
    """``the process that measured nf4 alone``."""
    where: str


def context(profile: Profile) -> ForkServerContext | SpawnContext:
    """How processes are started for this profile; no thread of the asking one is ever copied."""
    if profile.device != "cpu" or sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload([MEASURING])
    return found


def start_server(profile: Profile) -> None:
    """Let a fork server begin with its imports; nothing where there is none."""
    if isinstance(context(profile), ForkServerContext):
        forkserver.ensure_running()


def each_alone(profile: Profile, work: Callable[[Item], Result], items: Iterable[tuple[Told, Item]]) -> Iterator[Result]:
    """Do the work on each item in a process of its own, one after the other.

    Raises HeavyStepFailed when one of them is killed or runs out of memory; whatever else ``work`` raises passes through.
    """
    with ProcessPoolExecutor(1, mp_context=context(profile), max_tasks_per_child=1, initializer=die_with_parent) as pool:
        for told, item in items:
            try:
                yield pool.submit(work, item).result()
            except (BrokenProcessPool, RuntimeError) as error:
                if not isinstance(error, BrokenProcessPool) and type(error).__name__ != "OutOfMemoryError":  # torch's, which is not here
                    raise
                ended = "was killed, probably because memory ran out" if isinstance(error, BrokenProcessPool) else "ran out of memory"
                raise HeavyStepFailed(
                    found=f"{told.who} {ended}", where=told.where,
                    do="lower prediction_batch of the profile, or free memory, and materialize again",
                ) from error  # fmt: skip


def die_with_parent() -> None:
    """End this fresh process when the one that started it is gone."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="die-with-parent").start()
