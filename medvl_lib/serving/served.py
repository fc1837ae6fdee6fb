"""What a line serves, as directories on disk: what the pointer names, or the base model where nothing was promoted. No torch here.

In: a workspace and a line. Out: a ``ServedModel`` whose files are those that were evaluated, or a refusal that says what differs.
"""

from dataclasses import dataclass
from typing import get_args

from medvl_lib.errors import InputRefused
from medvl_lib.evaluation.predictions import Variant
from medvl_lib.lines import Line
from medvl_lib.models.weights import BASE_RULES
from medvl_lib.pointer import Contender, Served, contender_at, in_words, read_pointer, serves
from medvl_lib.provenance import Artifact, require_intact, resolve
from medvl_lib.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """Weights, perhaps with an adapter on them, and why these."""

    line: str
    variant: Variant
    """What it is: ``base``, ``nf4``, ``int8``, ``adapter`` or ``merged``."""
    parts: Contender
    pointer: Served | None
    """What names it; None where nothing was promoted."""
    said: str = ""
    """What the line serves and why, where it was looked up."""

    @property
    def weights(self) -> Artifact:
        """The weights that it stands on."""
        return self.parts.weights

    @property
    def weights_variant(self) -> Variant:
        """What these weights are by themselves: ``base`` or ``nf4``, whatever adapter is on them."""
        variants: tuple[Variant, ...] = get_args(Variant)
        return next(variant for variant in variants if f"{variant}_model" == self.weights.step)

    @property
    def adapter(self) -> Artifact | None:
        """The adapter on them."""
        return self.parts.adapter

    @property
    def data_version(self) -> str:
        """Identity of weights and adapter, as the evaluation calls it in ``weights_data_version``."""
        return self.parts.data_version

    @property
    def sentence(self) -> str:
        """What is served, and why."""
        return self.said or in_words(self.line, self.pointer)


def served_model(workspace: Workspace, line: Line) -> ServedModel:
    """What is served now: what the pointer names, or the line's current base model."""
    pointer = read_pointer(workspace, line.name)
    if pointer is not None:
        return named_by(workspace, pointer)
    weights = resolve(workspace, "base_model", line.name, BASE_RULES)
    return ServedModel(line=line.name, variant="base", parts=Contender(weights), pointer=None, said=serves(workspace, line.name))


def named_by(workspace: Workspace, pointer: Served) -> ServedModel:
    """What a pointer names; raises InputRefused where the files are damaged, or are not those that were evaluated."""
    parts = contender_at(workspace, pointer)
    for part in parts:
        if part is not None:
            require_intact(part)
    if parts.data_version != pointer.data_version:
        raise InputRefused(
            found=f"{pointer.variant} of data version {parts.data_version}, where {pointer.data_version} was evaluated",
            where=str(workspace.served(pointer.line)), do=f"materialize {pointer.line}/predictions and what follows: it is judged again",
        )  # fmt: skip
    return ServedModel(line=pointer.line, variant=pointer.variant, parts=parts, pointer=pointer)


def is_current(workspace: Workspace, model: ServedModel) -> bool:
    """Whether the line's pointer names this model, or nothing where nothing was promoted."""
    pointer = read_pointer(workspace, model.line)
    return model.pointer is None if pointer is None else pointer.data_version == model.data_version
