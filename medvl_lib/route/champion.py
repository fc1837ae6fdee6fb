"""The champion: the adapter that is served, with the weights that it was trained on.

In: a line's pointer, or predictions that were made beside a champion. Out: its artifacts, found by provenance. Moving the pointer is
``judging``'s.
"""

from contextlib import suppress
from typing import NamedTuple

from medvl_lib.errors import InputMissing
from medvl_lib.lines import Line
from medvl_lib.pointer import read_pointer
from medvl_lib.provenance import PROVENANCE, Artifact, ancestor, digest, read_artifact
from medvl_lib.workspace import Workspace

JUDGED_AGAINST = "champion"  # fact of predictions: identity of what was served then, empty before the first promotion


class Champion(NamedTuple):
    """The served adapter, and the weights that it was trained on: it is never put on others."""

    adapter: Artifact
    weights: Artifact

    @property
    def data_version(self) -> str:
        """Identity of both."""
        return digest([self.weights.data_version, self.adapter.data_version])


def champion_of(workspace: Workspace, line: Line, adapter: Artifact, weights: str) -> Champion | None:
    """What is served, where it is another adapter than ``adapter``; None before the first promotion. ``weights`` names their step."""
    pointer = read_pointer(workspace, line.name)
    if pointer is None or pointer.data_version == adapter.data_version:
        return None
    served = read_artifact(workspace.directory(pointer.stage, line.name, pointer.fingerprint))
    return Champion(adapter=served, weights=ancestor(workspace, served, weights, line.name))


def weights_step(adapter: Artifact) -> str:
    """The step whose weights an adapter was trained on."""
    return next(key.split("/")[0] for key in adapter.inputs if key.split("/")[0] in {"nf4_model", "base_model"})


def champion_beside(workspace: Workspace, line: Line, predictions: Artifact) -> Artifact | None:
    """The adapter that answered as champion, wherever the pointer stands by now; None where none did, or where it is gone."""
    for stage in line.stages:
        for path in workspace.step(stage.name, line.name).glob(f"[!.]*/{PROVENANCE}"):
            adapter = read_artifact(path.parent)
            with suppress(InputMissing):  # its weights are gone: then it is another one, or not known any more
                weights = ancestor(workspace, adapter, weights_step(adapter), line.name)
                if Champion(adapter=adapter, weights=weights).data_version == predictions.facts[JUDGED_AGAINST]:
                    return adapter
    return None
