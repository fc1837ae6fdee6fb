"""Fresh processes: where they come from. No torch here.

In: a profile. Out: the multiprocessing context of what is measured alone. On a CPU it is a fork server that has imported the libraries;
it is started before the asking process imports them itself, so that both do so at the same time. A GPU's driver and macOS do not survive
being forked: there each process starts anew.
"""

import multiprocessing
import sys
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, SpawnContext

from medvl_lib.hardware import Profile

MEASURING = "medvl_lib.evaluation.footprint"


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
