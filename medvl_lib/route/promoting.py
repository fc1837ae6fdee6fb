"""The step of the decision: which look at the test set it is, who learned from that set, and then the gate's verdict.

In: a line. Out: its promotion step. What the gate knows besides the scores is found in provenance when the step starts, and is part of the
decision's identity: one more look is another decision, and the same look is never decided twice.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from medvl_lib.benchmark import promotion
from medvl_lib.benchmark.leaks import Training, learned_subjects
from medvl_lib.benchmark.looks import Look, judged_pairs, next_look
from medvl_lib.errors import InputMissing
from medvl_lib.evaluation import scores
from medvl_lib.evaluation.predictions import REFERENCES
from medvl_lib.lines import Line
from medvl_lib.provenance import Artifact, Fact, ancestor, code_version, read_artifact
from medvl_lib.route.champion import JUDGED_AGAINST, champion_beside
from medvl_lib.route.data import sign, source
from medvl_lib.rules import SHOWN_OFFENDERS
from medvl_lib.split import SPLIT
from medvl_lib.step import Call, Inputs, Step
from medvl_lib.training.steps import TRAINED_ON
from medvl_lib.workspace import Workspace


def promotion_step(line: Line) -> Step:
    """The decision on the last stage's adapter."""
    name = line.name

    def look_now(workspace: Workspace, inputs: Inputs) -> tuple[Artifact, Look]:
        predictions = ancestor(workspace, inputs[f"scores/{name}"], "predictions", name)
        challenger = ancestor(workspace, predictions, line.stages[-1].name, name).data_version
        return predictions, next_look(workspace, name, challenger, judged_pairs(predictions.directory / REFERENCES, line.gate))

    def observe(workspace: Workspace, inputs: Inputs) -> str:
        predictions, look = look_now(workspace, inputs)
        return json.dumps([look.number, leaks(workspace, line, predictions, look)])

    def write(call: Call) -> dict[str, Fact]:
        [number, leaked] = json.loads(call.observed)  # what its name was made from, whatever was decided beside it meanwhile
        look = replace(look_now(call.workspace, call.inputs)[1], number=number)
        return promotion.write_promotion(call.directory, call.read("scores", name), line.gate, name, look, leaks=leaked)

    return Step(
        name="promotion", owner=name, description=sign(promotion.__name__), reads=(source("scores", name, scores.RULES),),
        version=code_version(promotion.REVISION, promotion.REVISIONS, name, line.gate), rules=promotion.RULES,
        observe=observe, write=write,
    )  # fmt: skip


def leaks(workspace: Workspace, line: Line, predictions: Artifact, look: Look) -> list[str]:
    """A sentence for each of challenger and champion that may have learned from a judged pair's subject, or of which this is not known."""
    challenger = ancestor(workspace, predictions, line.stages[-1].name, line.name)
    models: list[tuple[str, Artifact | None]] = [(promotion.CHALLENGER, challenger)]
    try:
        test_split = _split(workspace, predictions, line)
        if predictions.facts[JUDGED_AGAINST]:
            models.append(("champion", champion_beside(workspace, line, predictions)))
        found = [(who, adapter and _learned(workspace, line, adapter, test_split, look)) for who, adapter in models]
    except InputMissing as error:
        return [f"not comparable: what was learned from is not known any more, a directory of its making is gone ({error.found})"]
    return [_sentence(who, subjects) for who, subjects in found if subjects is None or subjects]


def _sentence(who: str, subjects: list[str] | None) -> str:
    if subjects is None:
        return f"not comparable: the {who} is gone, so what it learned from is not known"
    shown = ", ".join(subjects[:SHOWN_OFFENDERS]) + (", ..." if len(subjects) > SHOWN_OFFENDERS else "")
    return (
        f"not comparable: the {who} was trained under another split and may have learned from {len(subjects)} subjects of this test set "
        f"({shown}): train it again under this split, or set the split back to the one it was trained under"
    )


def _learned(workspace: Workspace, line: Line, adapter: Artifact, test_split: Path, look: Look) -> list[str]:
    judged = [pair.pair_id for pair in look.pairs]
    return sorted({
        subject for training in trainings(workspace, line, adapter) for subject in learned_subjects(test_split, judged, training)
    })  # fmt: skip


def trainings(workspace: Workspace, line: Line, adapter: Artifact) -> Iterator[Training]:
    """What the adapter, and every stage that it goes on from, was trained under."""
    named = {fact.removeprefix(TRAINED_ON): count for fact, count in adapter.facts.items() if fact.startswith(TRAINED_ON)}
    yield Training(split=_split(workspace, adapter, line), datasets=tuple(sorted(name for name, count in named.items() if count)))
    for stage in line.stages:
        if mark := adapter.inputs.get(f"{stage.name}/{line.name}"):
            yield from trainings(workspace, line, read_artifact(workspace.directory(stage.name, line.name, mark)))


def _split(workspace: Workspace, artifact: Artifact, line: Line) -> Path:
    """The split table behind predictions or an adapter: by their own conversations, however long ago."""
    chat = ancestor(workspace, artifact, "chat", line.name)
    return ancestor(workspace, chat, "split", line.name).directory / SPLIT
