"""The step of the decision: what is served now, which look at the test set it is, who learned from that set, and then the gate's verdicts.

In: a line. Out: its promotion step. What the gate knows besides the scores is found in provenance when the step starts, and is part of the
decision's identity: one more look is another decision, and the same look is never decided twice.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from medvl_lib.benchmark import promotion
from medvl_lib.benchmark.costs import costs
from medvl_lib.benchmark.leaks import Training, learned_subjects
from medvl_lib.benchmark.looks import Look, judged_pairs, next_look, way_of
from medvl_lib.benchmark.promotion import Circumstances
from medvl_lib.benchmark.terms import Terms
from medvl_lib.errors import InputMissing, InputRefused
from medvl_lib.evaluation import scores
from medvl_lib.evaluation.predictions import REFERENCES, VARIANTS, Variant, VariantMeasurement
from medvl_lib.lines import Line
from medvl_lib.pointer import Contender, read_pointer
from medvl_lib.provenance import Artifact, Fact, ancestor, code_version, read_artifact
from medvl_lib.route.champion import JUDGED_AGAINST, adapter_in, champion_beside, contenders_of
from medvl_lib.route.data import sign, source
from medvl_lib.route.encoding import INDEX, ranks_of, retrieval_of, retrieval_source
from medvl_lib.rules import SHOWN_OFFENDERS
from medvl_lib.split import SPLIT
from medvl_lib.step import Call, Inputs, Step
from medvl_lib.tables import read_table
from medvl_lib.training.steps import TRAINED_ON, TRAINING_STEPS, TrainingStep
from medvl_lib.workspace import Workspace

CHAMPION = "champion_data_version"  # fact of a decision: identity of what was served when it was made, empty where it was nothing


def terms_of(line: Line) -> Terms:
    """What the line's settings ask and decide by now."""
    return Terms(gate=line.gate, evaluation=line.evaluation)


def promotion_step(line: Line) -> Step:
    """The decision on every candidate of the line's gate."""
    name = line.name

    def look_now(workspace: Workspace, inputs: Inputs) -> tuple[Artifact, Look]:
        predictions = ancestor(workspace, inputs[f"scores/{name}"], "predictions", name)
        challenger = ancestor(workspace, predictions, line.stages[-1].name, name).data_version
        pairs = judged_pairs(predictions.directory / REFERENCES, line.gate)
        return predictions, next_look(workspace, name, challenger, way_of(line.gate, line.evaluation), pairs)

    def observe(workspace: Workspace, inputs: Inputs) -> str:
        predictions, look = look_now(workspace, inputs)
        return json.dumps([look.number, leaks(workspace, line, predictions, look), served_as(workspace, line, predictions)])

    def write(call: Call) -> dict[str, Fact]:
        [number, leaked, champion] = json.loads(call.observed)  # what its name was made from, whatever was decided beside it meanwhile
        predictions, look = look_now(call.workspace, call.inputs)
        folder = call.read("scores", name)
        known = Circumstances(
            champion=champion, look=number, leaks=leaked, slices=promotion.read_slices(folder),
            costs=costs(predictions.directory, line.gate, _known_losses(call.workspace, line, predictions)),
            ranks=[] if (ranked := retrieval_of(line, call.inputs, predictions)) is None else ranks_of(call.workspace, line, ranked),
        )  # fmt: skip
        facts = promotion.write_promotion(call.directory, folder, terms_of(line), name, replace(look, number=number), known)
        return {**facts, CHAMPION: _version(predictions, champion)}

    return Step(
        name="promotion", owner=name, description=sign(promotion.__name__),
        reads=(source("scores", name, scores.RULES), *retrieval_source(line)),
        version=code_version(promotion.REVISION, promotion.REVISIONS, name, line.gate), rules=promotion.RULES,
        observe=observe, write=write,
    )  # fmt: skip


# -- what is served ----------------------------------------------------------------------------------------------------
def served_as(workspace: Workspace, line: Line, predictions: Artifact) -> Variant:
    """Under which name what is served now answered; the base model where nothing was promoted yet.

    Raises InputRefused where what is served did not answer.
    """
    pointer = read_pointer(workspace, line.name)
    if pointer is None:
        return "base"
    found = answered_as(predictions, pointer.data_version)
    if found is None:
        raise InputRefused(
            found=f"what {line.name} serves since these answers were made ({pointer.variant} {pointer.data_version}) is not among them",
            where=str(predictions.directory), do=f"materialize {line.name}/predictions again, and what follows from it",
        )  # fmt: skip
    return found


def answered_as(predictions: Artifact, data_version: str) -> Variant | None:
    """Under which name these weights answered; None where they did not."""
    return next((row.variant for row in measured(predictions) if row.weights_data_version == data_version), None)


def _version(predictions: Artifact, variant: str) -> str:
    """Identity of a variant's weights."""
    return next(row.weights_data_version for row in measured(predictions) if row.variant == variant)


def measured(predictions: Artifact) -> list[VariantMeasurement]:
    """Everyone who answered, and what they are."""
    return list(read_table(predictions.directory / VARIANTS, VariantMeasurement))


# -- who learned what --------------------------------------------------------------------------------------------------
def answered(workspace: Workspace, line: Line, predictions: Artifact) -> dict[Variant, Contender | None]:
    """Everyone who answered; None for a champion that is gone. Raises InputMissing where another one is."""
    found: dict[Variant, Contender | None] = {**contenders_of(workspace, line, predictions)}
    if predictions.facts[JUDGED_AGAINST]:
        found["champion"] = champion_beside(workspace, line, predictions)
    return found


def leaks(workspace: Workspace, line: Line, predictions: Artifact, look: Look) -> dict[str, str]:
    """A sentence for each variant that may have learned from a judged pair's subject, or of which this is not known."""
    said: dict[str, str] = {}
    try:
        test_split = _split(workspace, predictions, line)
        for variant, contender in answered(workspace, line, predictions).items():
            adapter = contender and adapter_in(workspace, line, contender)
            if contender is None:
                said[variant] = _sentence(variant, None)
            elif adapter is not None and (subjects := _learned(trainings(workspace, line, adapter), test_split, look)):
                said[variant] = _sentence(variant, subjects)
        for helper, training in _helpers(workspace, line, predictions):
            if subjects := _learned([training], test_split, look):
                said |= {candidate.variant: _sentence(helper, subjects) for candidate in line.gate.candidates}
    except InputMissing as error:
        gone = f"not comparable: what was learned from is not known any more, a directory of its making is gone ({error.found})"
        return dict.fromkeys((candidate.variant for candidate in line.gate.candidates), gone)
    return said


def _sentence(who: str, subjects: list[str] | None) -> str:
    if subjects is None:
        return f"not comparable: the {who} is gone, so what it learned from is not known"
    shown = ", ".join(subjects[:SHOWN_OFFENDERS]) + (", ..." if len(subjects) > SHOWN_OFFENDERS else "")
    return (
        f"not comparable: the {who} was made under another split and may have learned from {len(subjects)} subjects of this test set "
        f"({shown}): make it again under this split, or set the split back to the one it was made under"
    )


def _learned(trained: Iterable[Training], test_split: Path, look: Look) -> list[str]:
    judged = [pair.pair_id for pair in look.pairs]
    return sorted({subject for training in trained for subject in learned_subjects(test_split, judged, training)})


def _helpers(workspace: Workspace, line: Line, predictions: Artifact) -> Iterator[tuple[str, Training]]:
    """What stood beside every answer, where the line has it: the encoder, and the cases of its index, which are of train alone."""
    if line.encoder is None:
        return
    encoder = ancestor(workspace, predictions, line.encoder.name, line.name)
    yield from (("encoder", training) for training in trainings(workspace, line, encoder))
    index = ancestor(workspace, predictions, INDEX, line.name)
    yield "index", Training(split=_split(workspace, index, line), datasets=(), parts=("train",))


def trainings(workspace: Workspace, line: Line, adapter: Artifact) -> Iterator[Training]:
    """What an adapter or encoder, and every stage that it goes on from, was trained under."""
    named = {fact.removeprefix(TRAINED_ON): count for fact, count in adapter.facts.items() if fact.startswith(TRAINED_ON)}
    yield Training(split=_split(workspace, adapter, line), datasets=tuple(sorted(name for name, count in named.items() if count)))
    for stage in line.stages:
        if mark := adapter.inputs.get(f"{stage.name}/{line.name}"):
            yield from trainings(workspace, line, read_artifact(workspace.directory(stage.name, line.name, mark)))


def _split(workspace: Workspace, artifact: Artifact, line: Line) -> Path:
    """The split table behind predictions or an adapter: by their own conversations, however long ago."""
    chat = ancestor(workspace, artifact, "chat", line.name)
    return ancestor(workspace, chat, "split", line.name).directory / SPLIT


def _known_losses(workspace: Workspace, line: Line, predictions: Artifact) -> Mapping[str, float]:
    """The ``validation_losses``; none where a directory that they would be read from is gone, which ``leaks`` tells."""
    try:
        return validation_losses(workspace, line, predictions)
    except InputMissing:
        return {}


def validation_losses(workspace: Workspace, line: Line, predictions: Artifact) -> Mapping[str, float]:
    """The lowest held-out loss of each variant that was trained, where it was measured on the conversations of these predictions."""
    conversations = predictions.inputs[f"chat/{line.name}"]
    found: dict[str, float] = {}
    for variant, contender in answered(workspace, line, predictions).items():
        adapter = contender and adapter_in(workspace, line, contender)
        if adapter is not None and adapter.inputs.get(f"chat/{line.name}") == conversations:
            steps = read_table(adapter.directory / TRAINING_STEPS, TrainingStep)
            losses = [step.validation_loss for step in steps if step.validation_loss is not None]
            found |= {variant: min(losses)} if losses else {}
    return found
