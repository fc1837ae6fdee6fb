"""Ranks: several processes that do one step together, and agree on what they do. No torch at module level.

In: the variables that torchrun sets. Out: ``Ranks``: who leads, and a word that the leader gives and the others wait for. The leader alone
resolves, judges and writes; the others walk along where its step is walked together, and keep nothing.
"""

import datetime as dt
import os
import signal
import threading
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

Word = Literal["together", "alone"]
LONGEST_WAIT = dt.timedelta(days=7)  # for the leader: predictions of a week are waited for; a dead leader ends everyone by torchrun
LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Ranks:
    """This process among those that do a step together."""

    rank: int
    size: int

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Whether there are no others."""
        return self.size == 1

    @cached_property
    def _store(self) -> Any:
        from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

        return TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, timeout=LONGEST_WAIT)

    def tell(self, step: str, word: Word) -> None:
        """Say to the others how a step is done."""
        if not self.is_alone:
            self._store.set(f"medvl/{step}", word)

    def hear(self, step: str) -> Word:
        """Wait for the leader's word."""
        return self._store.get(f"medvl/{step}").decode()


def ranks_here() -> Ranks:
    """This process, as torchrun calls it; alone where it was not started by it."""
    return Ranks(rank=int(os.environ.get("RANK", "0")), size=int(os.environ.get("WORLD_SIZE", "1")))


def die_with_starter() -> None:
    """Kill this process when the one that started it is gone: a rank has a session of its own, and no pipe reaches it."""
    starter = os.getppid()

    def watch() -> None:
        while os.getppid() == starter:
            threading.Event().wait(LOOK_SECONDS)
        os.killpg(os.getpid(), signal.SIGKILL) if os.getpgrp() == os.getpid() else os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="die-with-starter").start()
