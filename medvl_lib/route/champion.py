"""The champion: what is served, and whoever answers beside it: weights, and perhaps an adapter on them.

In: a line's pointer, and the artifacts of an evaluation. Out: contenders, found by provenance. Moving the pointer is ``pointing``'s.
"""

from collections.abc import Mapping
from contextlib import suppress

from medvl_lib.errors import InputMissing
from medvl_lib.evaluation.predictions import Variant
from medvl_lib.lines import Line
from medvl_lib.models.weights import FOUR_BIT_FORMS
from medvl_lib.pointer import Contender, contender_at, read_pointer
from medvl_lib.provenance import PROVENANCE, Artifact, ancestor, read_artifact
from medvl_lib.step import Inputs
from medvl_lib.workspace import Workspace

PLAIN = ("base_model", "nf4_model", "affine4_model", "int8_model", "merged_model")  # steps that write weights which stand alone
JUDGED_AGAINST = "champion"  # fact of predictions: identity of what was served then and is none of the other variants; empty otherwise


def contenders(line: Line, inputs: Inputs) -> dict[Variant, Contender]:
    """Who answers in an evaluation besides the champion, in the order of their loading: ``inputs`` are those of its predictions."""
    base, trained = inputs[f"base_model/{line.name}"], inputs[f"{line.stages[-1].name}/{line.name}"]
    places: dict[Variant, str] = {form: f"{form}_model/{line.name}" for form in FOUR_BIT_FORMS}
    packed: dict[Variant, Artifact] = {form: inputs[place] for form, place in places.items() if place in inputs}
    found: dict[Variant, Contender] = {"base": Contender(base)}
    found.update((form, Contender(weights)) for form, weights in packed.items())
    found["adapter"] = Contender(next(iter(packed.values()), base), trained)
    for form in line.evaluation.further_variants:
        found[form] = Contender(inputs[f"{form}_model/{line.name}"])
    return found


def contenders_of(workspace: Workspace, line: Line, predictions: Artifact) -> dict[Variant, Contender]:
    """The same, of predictions that were made, however long ago; raises InputMissing where one of them is gone."""
    inputs: dict[str, Artifact] = {}
    for key, mark in predictions.inputs.items():
        step, name = key.split("/")
        inputs[key] = read_artifact(workspace.directory(step, name, mark))
    return contenders(line, inputs)


def champion_of(workspace: Workspace, line: Line, others: Mapping[Variant, Contender]) -> Contender | None:
    """What is served, where it is none of the others; None where it is, and before the first promotion."""
    pointer = read_pointer(workspace, line.name)
    if pointer is None or pointer.data_version in {other.data_version for other in others.values()}:
        return None
    return contender_at(workspace, pointer)


def champion_beside(workspace: Workspace, line: Line, predictions: Artifact) -> Contender | None:
    """What answered as champion, wherever the pointer stands by now; None where nothing did, or where it is gone."""
    stages = [stage.name for stage in line.answering]
    for step in (*stages, *PLAIN):
        for path in workspace.step(step, line.name).glob(f"[!.]*/{PROVENANCE}"):
            found = read_artifact(path.parent)
            with suppress(InputMissing):  # its weights are gone: then it is another one, or not known any more
                contender = Contender(_weights_of(workspace, found, line), found) if step in stages else Contender(found)
                if contender.data_version == predictions.facts[JUDGED_AGAINST]:
                    return contender
    return None


def adapter_in(workspace: Workspace, line: Line, contender: Contender) -> Artifact | None:
    """What of a contender was trained: its adapter, or the one that was added into its weights; None for a model as it came."""
    trained = f"{line.stages[-1].name}/{line.name}"
    if contender.adapter is None and trained in contender.weights.inputs:
        return ancestor(workspace, contender.weights, line.stages[-1].name, line.name)
    return contender.adapter


def _weights_of(workspace: Workspace, adapter: Artifact, line: Line) -> Artifact:
    """The weights that an adapter was trained on."""
    [step] = {key.split("/")[0] for key in adapter.inputs} & {"base_model", *(f"{form}_model" for form in FOUR_BIT_FORMS)}
    return ancestor(workspace, adapter, step, line.name)
