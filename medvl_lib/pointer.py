"""The served pointer: one small file a line that is the truth of what is served. No model here.

In: a decision that says promote, the gate's or a person's; or a person's word that what was served before is to be served again. Out:
``served/<line>.json``, replaced as a whole: what is served, what was served before it, and who holds it where it is held. Without one a
line serves its base model as it is. What a server does with it belongs to serving.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from medvl_lib.evaluation.predictions import Variant
from medvl_lib.files import read_json, write_json
from medvl_lib.provenance import Artifact, digest, read_artifact
from medvl_lib.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What a line serves: weights, and the adapter on them where there is one."""

    line: str
    variant: Variant
    """Who it was in the evaluation that it won: base, nf4, affine4, int8, adapter or merged."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A person's word that the pointer stays where it is, whatever is promoted."""

    by: str
    """Who holds it."""
    reason: str
    since: str
    """ISO 8601 in UTC."""
    record: str
    """Fingerprint of the rollback that it came with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All that the pointer's file says."""

    served: Served | None = None
    """None: the base model as it is."""
    previous: Served | None = None
    """What was served before; None where that was the base model as it is."""
    hold: Hold | None = None
    withdrawn: tuple[str, ...] = ()
    """Data versions that a person took back: no decision of the gate serves them again."""


def read_state(workspace: Workspace, line: str) -> State:
    """What is served, what was served before it, and whether it is held."""
    path = workspace.served(line)
    if not path.is_file():
        return State()
    others: dict[str, Any] = {"previous": None, "hold": None, "withdrawn": []}  # a file from before there were rollbacks has none of them
    found: dict[str, Any] = {**others, **read_json(path)}
    previous, hold, withdrawn = (found.pop(name) for name in others)
    return State(
        served=Served(**found) if found else None, previous=None if previous is None else Served(**previous),
        hold=None if hold is None else Hold(**hold), withdrawn=tuple(withdrawn),
    )  # fmt: skip


def write_state(workspace: Workspace, line: str, state: State) -> None:
    """Replace all of it at once: nobody sees a pointer that has moved and is not held yet."""
    served = {} if state.served is None else asdict(state.served)
    others = {name: None if value is None else asdict(value) for name, value in (("previous", state.previous), ("hold", state.hold))}
    write_json(workspace.served(line), {**served, **others, "withdrawn": list(state.withdrawn)})


def pointer_lock(workspace: Workspace, line: str) -> FileLock:
    """Who moves a pointer holds this."""
    path: Path = workspace.lock(f"served-{line}")
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path)


def read_pointer(workspace: Workspace, line: str) -> Served | None:
    """What is served, or None before the first promotion: then the base model is served as it is."""
    return read_state(workspace, line).served


def move_pointer(workspace: Workspace, served: Served) -> bool:
    """Serve this from now on, and remember what was served before; returns whether anything changed: never while it is held."""
    state = read_state(workspace, served.line)
    if state.served == served or state.hold is not None:
        return False
    withdrawn = tuple(version for version in state.withdrawn if version != served.data_version)
    write_state(workspace, served.line, State(served=served, previous=state.served, withdrawn=withdrawn))
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


def told(workspace: Workspace, line: str) -> str:
    """What a line serves, and who holds it there where somebody does."""
    hold, said = read_state(workspace, line).hold, serves(workspace, line)
    return said if hold is None else f"{said}; held by {hold.by} since {hold.since}: {hold.reason}"


def serves(workspace: Workspace, line: str) -> str:
    """What a line serves, and why, for anybody: without the words of whoever holds it there."""
    state = read_state(workspace, line)
    if state.served is None and state.previous is not None:
        return f"{line} serves the base model as it is, as before {state.previous.variant} was promoted ({state.previous.decision})"
    return in_words(line, state.served)


def in_words(line: str, pointer: Served | None) -> str:
    """What a line serves, and why; never nothing."""
    if pointer is None:
        return f"{line} serves the base model as it is: nothing was promoted yet"
    parts = [f"{pointer.weights_step} {pointer.weights_fingerprint}"]
    parts += [f"{pointer.adapter_step} {pointer.adapter_fingerprint}"] if pointer.adapter_step else []
    parts += [f"index {pointer.index_fingerprint} of encoder {pointer.encoder_fingerprint}"] if pointer.encoder_fingerprint else []
    return f"{line} serves {pointer.variant} ({', '.join(parts)}) by {pointer.decision_step} {pointer.decision}"
