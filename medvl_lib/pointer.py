"""The served pointer: one small file a line that is the truth of what is served. No model here.

In: a decision that says promote, the gate's or a person's. Out: ``served/<line>.json``, replaced as a whole. Without one a line serves its
base model as it is. What a server does with it belongs to serving.
"""

from dataclasses import asdict, dataclass
from typing import NamedTuple

from medvl_lib.evaluation.predictions import Variant
from medvl_lib.files import read_json, write_json
from medvl_lib.provenance import Artifact, digest, read_artifact
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
    encoder_fingerprint: str | None = None
    """The encoder beside which it answered; None where the line has none. It is switched with weights and adapter, never alone."""
    index_fingerprint: str | None = None
    """The index that this encoder made of the training cases."""


class Contender(NamedTuple):
    """Weights, and the adapter that was trained on them: it is never put on others."""

    weights: Artifact
    adapter: Artifact | None = None

    @property
    def data_version(self) -> str:
        """Identity of both."""
        return self.weights.data_version if self.adapter is None else digest([self.weights.data_version, self.adapter.data_version])


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


def pointer_id(pointer: Served | None) -> str:
    """Identity of a pointer; empty where there is none."""
    return "" if pointer is None else digest(pointer)


def contender_at(workspace: Workspace, served: Served) -> Contender:
    """What a pointer names; raises InputMissing where it is gone."""
    weights = read_artifact(workspace.directory(served.weights_step, served.line, served.weights_fingerprint))
    if served.adapter_step is None or served.adapter_fingerprint is None:
        return Contender(weights)
    return Contender(weights, read_artifact(workspace.directory(served.adapter_step, served.line, served.adapter_fingerprint)))


def in_words(line: str, pointer: Served | None) -> str:
    """What a line serves, and why; never nothing."""
    if pointer is None:
        return f"{line} serves the base model as it is: nothing was promoted yet"
    parts = [f"{pointer.weights_step} {pointer.weights_fingerprint}"]
    parts += [f"{pointer.adapter_step} {pointer.adapter_fingerprint}"] if pointer.adapter_step else []
    parts += [f"index {pointer.index_fingerprint} of encoder {pointer.encoder_fingerprint}"] if pointer.encoder_fingerprint else []
    return f"{line} serves {pointer.variant} ({', '.join(parts)}) by {pointer.decision_step} {pointer.decision}"
