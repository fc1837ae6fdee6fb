"""The served pointer: one small file a line that is the truth of what is served. No model here.

In: a promotion decision that says promote. Out: ``served/<line>.json``, replaced as a whole. What a server does with it belongs to serving.
"""

from dataclasses import asdict, dataclass

from medvl_lib.files import read_json, write_json
from medvl_lib.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What a line serves."""

    line: str
    stage: str
    """The step that wrote the adapter."""
    fingerprint: str
    """The adapter's fingerprint."""
    data_version: str
    """The adapter's contents."""
    promotion: str
    """Fingerprint of the decision that moved the pointer here."""


def read_pointer(workspace: Workspace, line: str) -> Served | None:
    """What is served, or None before the first promotion: then the model is served without an adapter."""
    path = workspace.served(line)
    return Served(**read_json(path)) if path.is_file() else None


def move_pointer(workspace: Workspace, served: Served) -> bool:
    """Serve this from now on; returns whether anything changed."""
    if read_pointer(workspace, served.line) == served:
        return False
    write_json(workspace.served(served.line), asdict(served))
    return True
