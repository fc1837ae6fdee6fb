"""The served pointer: one small file a line that is the truth of what is served. No model here.

In: a decision that says promote, the gate's or a person's. Out: ``served/<line>.json``, replaced as a whole. Without one a line serves its
base model as it is. What a server does with it belongs to serving.
"""

from dataclasses import asdict, dataclass

from medvl_lib.evaluation.predictions import Variant
from medvl_lib.files import read_json, write_json
from medvl_lib.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What a line serves: weights, and the adapter on them where there is one."""

    line: str
    variant: Variant
    """Who it was in the evaluation that it won: base, nf4, int8, adapter or merged."""
    weights_step: str
    """The step that wrote the weights."""
    weights_fingerprint: str
    adapter_step: str | None
    """The step that wrote the adapter."""
    adapter_fingerprint: str | None
    data_version: str
    """Identity of weights and adapter together: what the evaluation's ``weights_data_version`` says of this variant."""
    decision_step: str
    """``promotion`` where the gate decided, ``override`` where a person did."""
    decision: str
    """Fingerprint of the decision that moved the pointer here."""


def read_pointer(workspace: Workspace, line: str) -> Served | None:
    """What is served, or None before the first promotion: then the base model is served as it is."""
    path = workspace.served(line)
    return Served(**read_json(path)) if path.is_file() else None


def move_pointer(workspace: Workspace, served: Served) -> bool:
    """Serve this from now on; returns whether anything changed."""
    if read_pointer(workspace, served.line) == served:
        return False
    write_json(workspace.served(served.line), asdict(served))
    return True
