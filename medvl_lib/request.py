"""Requests: what a heavy process is asked to do, as a file that any machine with the data root can read.

In: the steps of a line, the profile, and the data root. Out: ``Request``, and the same as JSON. Who starts it, and where, is ``launch``'s.
"""

from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from medvl_lib.files import write_bytes
from medvl_lib.hardware import Profile
from medvl_lib.lines import Line


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a heavy process is asked to do; readable, and enough to start it again by hand."""

    steps: tuple[str, ...]
    """Steps of the line, in order: ``("base_model", "nf4_model")``."""
    line: Line
    profile: Profile
    root: str
    """The data root."""
    run_id: str | None
    """The run whose inputs are used; None resolves the current ones."""


REQUEST = TypeAdapter(Request)


def write_request(path: Path, request: Request) -> None:
    """Write a request as JSON."""
    write_bytes(path, REQUEST.dump_json(request, indent=1))
