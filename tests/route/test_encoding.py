"""What stands beside an encoder's steps. If these passed wrongly, cases that are tested on today would stand before training questions:
they were training cases when the index was made.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from medvl_lib.errors import InputRefused
from medvl_lib.evaluation.galleries import RANKS, Rank
from medvl_lib.hardware import PROFILES
from medvl_lib.lines import IMAGING, Line, tiny
from medvl_lib.pointer import Served, move_pointer
from medvl_lib.provenance import Artifact, require_one_of_each, write_step
from medvl_lib.route.encoding import BESIDE as BESIDE_RANKS
from medvl_lib.route.encoding import ranks_of
from medvl_lib.route.line import line_steps
from medvl_lib.step import Step
from medvl_lib.tables import write_table
from medvl_lib.workspace import Workspace

LINE = tiny(IMAGING)
HELPERS = ("encoder/imaging", "index/imaging", "retrieved_cases/imaging")


def learning_with_cases(line: Line) -> Line:
    return replace(line, stages=tuple(
        replace(stage, recipe=replace(stage.recipe, with_retrieved_cases=True)) if stage.objective == "generate" else stage
        for stage in line.stages
    ))  # fmt: skip


STEPS = {step.name: step for step in line_steps(learning_with_cases(tiny(IMAGING)), PROFILES["cpu"])}
BESIDE = {step.name: kin for step in STEPS.values() if (kin := [source.key for source in step.reads if source.key in HELPERS])}


def artifact(workspace: Workspace, key: str, inputs: Sequence[Artifact] = (), content: str = "", version: str = "v1") -> Artifact:
    """A directory that holds its name, or other contents."""

    def write(folder: Path) -> Mapping[str, str]:
        (folder / "contents").write_text(content or key, encoding="utf-8")
        return {}

    step, name = key.split("/")
    return write_step(workspace, step, name, version, inputs, write)


def inputs(step: Step, workspace: Workspace, **others: Artifact) -> list[Artifact]:
    """What a step reads, made from the same conversations but for ``others``, by the name of their step."""
    found = {source.key: artifact(workspace, source.key) for source in step.reads}
    for key in sorted(set(HELPERS) & found.keys()):
        found[key] = others.get(key.split("/")[0], artifact(workspace, key, [found["chat/imaging"]]))
    return list(found.values())


def test_the_steps_that_read_an_encoder_beside_conversations():
    found = {name: kin for name, kin in BESIDE.items() if "chat/imaging" in {source.key for source in STEPS[name].reads}}
    assert found == {
        "index": ["encoder/imaging"], "retrieval": ["encoder/imaging"], "retrieved_cases": ["encoder/imaging", "index/imaging"],
        "decoder": ["retrieved_cases/imaging"], "predictions": list(HELPERS),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "stale"),
    [
        ("index", "encoder/imaging"), ("retrieval", "encoder/imaging"), ("retrieved_cases", "encoder/imaging"),
        ("retrieved_cases", "index/imaging"), ("decoder", "retrieved_cases/imaging"), ("predictions", "encoder/imaging"),
        ("predictions", "index/imaging"), ("predictions", "retrieved_cases/imaging"),
    ],
)  # fmt: skip
def test_what_was_made_from_earlier_conversations_is_refused(name: str, stale: str, tmp_path: Path):
    workspace = Workspace(root=tmp_path)
    then = artifact(workspace, "chat/imaging", content="another split", version="v0")
    made = artifact(workspace, stale, [then])
    with pytest.raises(InputRefused, match="two contents of chat/imaging") as refusal:
        require_one_of_each(workspace, inputs(STEPS[name], workspace, **{made.step: made}))
    assert "materialize imaging/" in refusal.value.do


def test_an_index_of_another_encoder_is_refused(tmp_path: Path):
    workspace = Workspace(root=tmp_path)
    chat, other = artifact(workspace, "chat/imaging"), artifact(workspace, "encoder/imaging", content="earlier", version="v0")
    with pytest.raises(InputRefused, match="two contents of encoder/imaging"):
        require_one_of_each(
            workspace, inputs(STEPS["retrieved_cases"], workspace, index=artifact(workspace, "index/imaging", [chat, other]))
        )


def ranked(workspace: Workspace, encoder: Artifact, served: str) -> Artifact:
    """Ranks of one query by each variant; ``served``: the encoder that was ranked as champion."""
    variants = ("base", "trained", *(["champion"] if served else []))

    def write(folder: Path) -> Mapping[str, str]:
        write_table(folder / RANKS, Rank, (
            Rank(variant=variant, direction="image_to_text", pair_id="p", image_id="i", group_id="g", rank=1) for variant in variants
        ))  # fmt: skip
        return {BESIDE_RANKS: served}

    return write_step(workspace, "retrieval", LINE.name, f"v1 {served}", [encoder], write)


def serve(workspace: Workspace, encoder: str) -> None:
    move_pointer(workspace, Served(
        line=LINE.name, variant="adapter", weights_step="base_model", weights_fingerprint="w", adapter_step="decoder",
        adapter_fingerprint="a", data_version="d", decision_step="promotion", decision="x", encoder_fingerprint=encoder,
        index_fingerprint="i",
    ))  # fmt: skip


def compared(workspace: Workspace, found: Artifact) -> list[str]:
    return [rank.variant for rank in ranks_of(workspace, LINE, found)]


def test_an_encoder_is_held_against_what_is_served_now_and_against_nothing_else(tmp_path: Path):
    workspace = Workspace(root=tmp_path)
    encoder = artifact(workspace, "encoder/imaging")
    alone, beside = ranked(workspace, encoder, ""), ranked(workspace, encoder, "e1")
    assert compared(workspace, alone) == ["base", "trained"]
    serve(workspace, "e1")
    assert compared(workspace, beside) == ["base", "trained", "champion"]
    for stale, served in ((alone, "e1"), (beside, "e2")):
        serve(workspace, served)
        with pytest.raises(InputRefused, match=f"ranks beside the served encoder .*, and {served} is served") as refusal:
            compared(workspace, stale)
        assert refusal.value.do == "materialize imaging/retrieval again, and what follows from it"
    serve(workspace, encoder.fingerprint)  # this very one: what was served before is no rival any more
    assert compared(workspace, beside) == ["base", "trained"]
