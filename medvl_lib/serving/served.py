"""What a line serves, as directories on disk: what the pointer names, or the base model where nothing was promoted. No torch here.

In: a workspace and a line. Out: a ``ServedModel`` whose files are those that were evaluated, or a refusal that says what differs.
"""

from dataclasses import dataclass
from pathlib import Path

from medvl_lib.errors import InputRefused
from medvl_lib.evaluation.predictions import Variant
from medvl_lib.lines import Line
from medvl_lib.models.weights import BASE_RULES
from medvl_lib.pointer import Served, read_pointer
from medvl_lib.provenance import Artifact, digest, read_artifact, require_intact, resolve
from medvl_lib.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """Weights, perhaps with an adapter on them, and why these."""

    line: str
    variant: Variant
    """What it is: ``base``, ``nf4``, ``int8``, ``adapter`` or ``merged``."""
    weights: Artifact
    adapter: Artifact | None
    decision: str | None
    """``step/fingerprint`` of the decision that the pointer moved on; None where nothing was promoted."""

    @property
    def data_version(self) -> str:
        """Identity of weights and adapter, as the evaluation calls it in ``weights_data_version``."""
        if self.adapter is None:
            return self.weights.data_version
        return digest([self.weights.data_version, self.adapter.data_version])

    @property
    def adapter_directory(self) -> Path | None:
        """Where the adapter lies."""
        return None if self.adapter is None else self.adapter.directory

    @property
    def sentence(self) -> str:
        """What is served, and why."""
        what = self.weights.fingerprint if self.adapter is None else f"{self.adapter.fingerprint} on {self.weights.fingerprint}"
        why = "nothing was promoted yet" if self.decision is None else f"by {self.decision}"
        return f"{self.line} serves {self.variant} {what}: {why}"


def served_model(workspace: Workspace, line: Line) -> ServedModel:
    """What is served now: what the pointer names, or the line's current base model."""
    pointer = read_pointer(workspace, line.name)
    if pointer is None:
        weights = resolve(workspace, "base_model", line.name, BASE_RULES)
        return ServedModel(line=line.name, variant="base", weights=weights, adapter=None, decision=None)
    return named_by(workspace, pointer)


def named_by(workspace: Workspace, pointer: Served) -> ServedModel:
    """What a pointer names; raises InputRefused where the files are damaged, or are not those that were evaluated."""
    weights = _artifact(workspace, pointer.line, pointer.weights_step, pointer.weights_fingerprint)
    has_adapter = pointer.adapter_step is not None and pointer.adapter_fingerprint is not None
    adapter = _artifact(workspace, pointer.line, pointer.adapter_step, pointer.adapter_fingerprint) if has_adapter else None
    found = ServedModel(
        line=pointer.line, variant=pointer.variant, weights=weights, adapter=adapter,
        decision=f"{pointer.decision_step}/{pointer.decision}",
    )  # fmt: skip
    if found.data_version != pointer.data_version:
        raise InputRefused(
            found=f"weights of data version {found.data_version}, where {pointer.data_version} was evaluated",
            where=str(workspace.served(pointer.line)), do=f"materialize {pointer.line}/predictions and what follows: what is there is judged",
        )  # fmt: skip
    return found


def _artifact(workspace: Workspace, line: str, step: str, fingerprint: str) -> Artifact:
    found = read_artifact(workspace.directory(step, line, fingerprint))
    require_intact(found)
    return found


def is_current(workspace: Workspace, model: ServedModel) -> bool:
    """Whether the pointer names this model, or nothing where nothing was promoted."""
    pointer = read_pointer(workspace, model.line)
    return model.decision is None if pointer is None else pointer.data_version == model.data_version
