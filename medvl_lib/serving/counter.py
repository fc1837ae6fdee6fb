"""What a server serves, and on which terms: the one thing that every endpoint is told.

In: nothing. Out: ``Counter``, and ``Now``, which holds the one of the moment. No wire here.
"""

from collections.abc import Callable
from dataclasses import dataclass

from medvl_lib.hardware import Profile
from medvl_lib.lines import Line
from medvl_lib.serving.desk import ANSWER_SECONDS
from medvl_lib.serving.keys import Keys
from medvl_lib.serving.resident import Resident
from medvl_lib.serving.served import ServedModel
from medvl_lib.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """What the application serves, and on which terms."""

    model: ServedModel
    compared: str
    """How its answers were compared with those that were judged, in words."""
    line: Line
    profile: Profile
    workspace: Workspace
    load: Callable[[], Resident]
    is_current: Callable[[], bool]
    """Whether the pointer still names ``model``."""
    onto: Callable[[Resident], Resident | None] = lambda _: None
    """The model made of another one's weights, where those are the same; see ``desk.Coming``."""
    fits: Callable[[], bool] = lambda: False
    """Whether it can be loaded while another one still answers."""
    answer_seconds: float = ANSWER_SECONDS
    """From a request to its whole answer, at most."""
    newer: Callable[[], "Counter | None"] = lambda: None
    """What the pointer names since, where it is another model; raises MedVLError where that may not be served."""
    benchmark_url: str = ""
    """Where a copy of the benchmark goes, when a rating publishes it; empty: nowhere."""
    keys: Keys | None
    """One of which every request but ``/health`` must show; None on the loopback interface."""


@dataclass(slots=True)
class Now:
    """What is served now, and what is to be."""

    counter: Counter
    told: Counter
    was_current: bool = True
    """Whether the pointer named what is served, when it could be read last."""
