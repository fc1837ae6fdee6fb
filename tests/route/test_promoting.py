"""The decision as a step. If these passed wrongly, a champion that was trained on today's test subjects would be beaten by nobody, a look
would be counted twice or never, and materializing again would change what is served.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from medvl_lib import chat
from medvl_lib.benchmark.looks import Look, judged_pairs
from medvl_lib.benchmark.promotion import Decision, read_decisions
from medvl_lib.errors import InputRefused
from medvl_lib.evaluation import scores
from medvl_lib.evaluation.predictions import (
    FLOORS,
    PREDICTIONS,
    REFERENCES,
    VARIANTS,
    Prediction,
    Reference,
    VariantMeasurement,
)
from medvl_lib.files import read_json, write_json
from medvl_lib.lines import DOCUMENTS, ENCODER
from medvl_lib.pairs import PAIRS, Pair, Triple
from medvl_lib.pointer import Served, move_pointer
from medvl_lib.provenance import Artifact, Fact, judge, read_artifact, write_step
from medvl_lib.route.champion import JUDGED_AGAINST, Contender
from medvl_lib.route.promoting import leaks, promotion_step, trainings, validation_losses
from medvl_lib.split import SPLIT, SplitRow, SplitSpec, write_split
from medvl_lib.step import run_step
from medvl_lib.tables import read_table, write_table
from medvl_lib.training.recipe import Handover
from medvl_lib.training.steps import TRAINED_ON, TRAINING_STEPS, TrainingStep
from medvl_lib.workspace import Workspace

FORMS = "clinical_documents"
LINE = replace(DOCUMENTS, datasets=(FORMS,))
STEP = promotion_step(LINE)
STEP_ONE = TrainingStep(
    step=1, epoch=1.0, loss=1.0, learning_rate=1e-4, gradient_norm=None, num_tokens=9, tokens_per_second=1.0, elapsed_seconds=1.0,
    validation_loss=0.5,
)  # fmt: skip


def _page(number: int) -> Pair:
    return Pair(
        pair_id=f"{FORMS}/{number:04d}", dataset=FORMS, image_ids=(f"{number:064d}",), request="Read it.",
        response=f"Sodium: {100 + number} mmol/L", expected=(Triple(term="Sodium", value=str(100 + number), unit="mmol/L"),),
        subject_id=None, document_id=f"d{number}", publisher_split=None, language="en", source="invented", licence="CC0-1.0", metadata={},
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """A data root in which splits, conversations, adapters and answers are made; weights alone are a line of text."""

    workspace: Workspace

    def write(
        self, step: str, version: str, inputs: list[Artifact], fill: Callable[[Path], Mapping[str, Fact]], name: str = LINE.name
    ) -> Artifact:
        return write_step(self.workspace, step, name, version, inputs, fill)

    def chat(self, seed: int, num_pages: int = 200) -> Artifact:
        def validated_pairs(folder: Path) -> dict[str, Fact]:
            return {"num_pairs": write_table(folder / PAIRS, Pair, map(_page, range(num_pages)))}

        validated = self.write("validated_pairs", str(num_pages), [], validated_pairs, name=FORMS)
        spec = SplitSpec(seed=seed, validation_share=0.1, test_share=0.4)
        folders = {FORMS: validated.directory}
        split = self.write("split", f"{seed}", [validated], lambda folder: write_split(folder, folders, spec))
        return self.write("chat", f"{seed}", [split, validated], lambda folder: chat.write_chat(folder, split.directory, folders))

    def adapter(self, name: str, conversations: Artifact, learned_from: str = FORMS) -> Artifact:
        def weights(folder: Path) -> dict[str, Fact]:
            (folder / "weights").write_text(name)
            write_table(folder / TRAINING_STEPS, TrainingStep, [STEP_ONE])
            return {f"{TRAINED_ON}{learned_from}": 9, f"{TRAINED_ON}mtsamples": 0}

        return self.write("adapter", name, [conversations, self.base()], weights)

    def base(self) -> Artifact:
        def weights(folder: Path) -> dict[str, Fact]:
            (folder / "weights").write_text("base")
            return {}

        return self.write("base_model", "v1", [], weights)

    def scored(self, adapter: Artifact, conversations: Artifact, champion: Artifact | None = None) -> Artifact:
        """Scores of an adapter that reads three pages of four; base reads one of four, and so does the champion."""
        models = {"base": Contender(self.base()), "adapter": Contender(self.base(), adapter)}
        models |= {"champion": Contender(self.base(), champion)} if champion else {}
        against = models["champion"].data_version if champion else ""
        if champion is not None:
            move_pointer(self.workspace, Served(
                line=LINE.name, variant="adapter", weights_step="base_model", weights_fingerprint=self.base().fingerprint,
                adapter_step="adapter", adapter_fingerprint=champion.fingerprint, data_version=against, decision_step="promotion",
                decision="d",
            ))  # fmt: skip
        variants = [*FLOORS, "base", "adapter", *(["champion"] if champion else [])]

        def predict(folder: Path) -> dict[str, Fact]:
            references = [one for one in read_table(conversations.directory / REFERENCES, Reference) if one.split == "test"]
            write_table(folder / REFERENCES, Reference, references)
            asked = [(variant, "as_is") for variant in variants] + [("adapter", "blank_image")]
            write_table(folder / PREDICTIONS, Prediction, (
                _answer(one, number, variant, condition) for variant, condition in asked for number, one in enumerate(references)
            ))  # fmt: skip
            write_table(folder / VARIANTS, VariantMeasurement, (_weighed(name, one.data_version) for name, one in models.items()))
            return {JUDGED_AGAINST: against}

        predictions = self.write("predictions", f"v1 {against}", [conversations, self.base(), adapter], predict)
        written = self.write("scores", "v1", [predictions], lambda folder: scores.write_scores(folder, predictions.directory))
        judge(self.workspace, written, scores.RULES)
        return written

    def promoted(self) -> Artifact:
        """What the step makes of the current scores."""
        written = run_step(self.workspace, STEP)
        judge(self.workspace, written, STEP.rules)
        return written

    def decided(self) -> Decision:
        return read_decisions(self.promoted().directory)[0]


def _weighed(variant: str, data_version: str) -> VariantMeasurement:
    return VariantMeasurement(
        variant=variant, model="m", weights_data_version=data_version, precision="float32", num_parameters=9, num_quantized_parameters=0,
        load_seconds=1.0, memory_after_load_bytes=9, memory_peak_bytes=9, adapter_bytes=None, stands_on=None, round=0,
    )  # fmt: skip


def _answer(one: Reference, number: int, variant: str, condition: str) -> Prediction:
    is_right = condition == "as_is" and (
        (variant == "adapter" and number % 4 != 0) or (variant in {"base", "champion"} and number % 4 == 1)
    )
    return Prediction(
        pair_id=one.pair_id, variant=variant, condition=condition, answer=one.response if is_right else "", num_prompt_tokens=9,
        num_answer_tokens=5, is_cut=False, latency_seconds=None, batch_id=None, batch_size=0,
    )  # fmt: skip


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(workspace=Workspace(root=tmp_path))


def _split_of(lab: Lab, conversations: Artifact) -> dict[str, str]:
    directory = lab.workspace.directory("split", LINE.name, conversations.inputs[f"split/{LINE.name}"])
    return {row.group_id: row.split for row in read_table(directory / SPLIT, SplitRow)}


# -- who learned from the test set -------------------------------------------------------------------------------------
def test_a_champion_of_another_split_seed_is_not_compared_and_its_subjects_are_named(lab: Lab):
    then, now = lab.chat(seed=1), lab.chat(seed=2)
    lab.scored(lab.adapter("new", now), now, lab.adapter("old", then))
    decision = lab.decided()
    before, after = _split_of(lab, then), _split_of(lab, now)
    leaked = sorted(f"{FORMS}: {one}" for one in after if after[one] == "test" and before[one] in {"train", "validation"})
    assert len(leaked) > 40
    assert (decision.verdict, decision.difference) == ("inconclusive", None)
    assert decision.reasons[0].startswith(
        f"not comparable: the champion was made under another split and may have learned from {len(leaked)} subjects of this test set "
        f"({', '.join(leaked[:10])}, ...)"
    )


def test_a_champion_of_the_same_split_is_compared(lab: Lab):
    now = lab.chat(seed=2)
    lab.scored(lab.adapter("new", now), now, lab.adapter("old", now))
    decision = lab.decided()
    assert (decision.verdict, decision.champion) == ("promote", "champion")


def test_data_that_grew_under_one_seed_move_nobody(lab: Lab):
    then, now = lab.chat(seed=2, num_pages=200), lab.chat(seed=2, num_pages=260)
    lab.scored(lab.adapter("new", now), now, lab.adapter("old", then))
    assert lab.decided().verdict == "promote"


def test_a_challenger_that_is_older_than_the_split_is_not_compared(lab: Lab):
    then, now = lab.chat(seed=1), lab.chat(seed=2)
    lab.scored(lab.adapter("old", then), now)
    with pytest.raises(InputRefused, match="two contents of chat/documents"):
        lab.decided()


def test_a_champion_that_learned_from_other_datasets_is_compared(lab: Lab):
    then, now = lab.chat(seed=1), lab.chat(seed=2)
    lab.scored(lab.adapter("new", now), now, lab.adapter("old", then, learned_from="pathvqa"))
    assert lab.decided().verdict == "promote"


def test_a_champion_that_is_gone_is_not_compared(lab: Lab):
    now = lab.chat(seed=2)
    champion = lab.adapter("old", now)
    lab.scored(lab.adapter("new", now), now, champion)
    shutil.rmtree(champion.directory)
    assert lab.decided().reasons[0] == "not comparable: the champion is gone, so what it learned from is not known"


def test_a_champion_whose_split_is_gone_is_not_compared(lab: Lab):
    then, now = lab.chat(seed=1), lab.chat(seed=2)
    lab.scored(lab.adapter("new", now), now, lab.adapter("old", then))
    shutil.rmtree(lab.workspace.directory("split", LINE.name, then.inputs[f"split/{LINE.name}"]))
    decision = lab.decided()
    assert decision.verdict == "inconclusive"
    assert "a directory of its making is gone" in decision.reasons[0]


def test_the_stage_before_counts_too(lab: Lab):
    then, now = lab.chat(seed=1), lab.chat(seed=2)
    half = replace(LINE.stages[0], share_of_steps=0.5)
    line = replace(LINE, stages=(replace(half, name="first", handover=Handover()), replace(half, share_before=0.5)))
    before = lab.write("first", "v1", [then, lab.base()], lambda _: {f"{TRAINED_ON}mtsamples": 3})
    adapter = lab.write("adapter", "on first", [now, lab.base(), before], lambda _: {f"{TRAINED_ON}{FORMS}": 3, f"{TRAINED_ON}x": 0})
    found = [(training.split.parent.name, training.datasets) for training in trainings(lab.workspace, line, adapter)]
    marks = [conversations.inputs[f"split/{LINE.name}"] for conversations in (now, then)]
    assert found == [(marks[0], (FORMS,)), (marks[1], ("mtsamples",))]


@pytest.mark.parametrize("stale", ["encoder", "index"])
def test_an_encoder_or_an_index_of_another_split_is_not_compared(lab: Lab, stale: str):
    """What stood beside the answers knows today's test subjects, though the adapter does not."""
    line = replace(LINE, stages=(ENCODER, *LINE.stages))
    then, now = lab.chat(seed=1), lab.chat(seed=2)
    adapter = lab.adapter("new", now)
    pairs = judged_pairs(now.directory / REFERENCES, line.gate)
    look = Look(number=1, challenger=adapter.data_version, way="w", pairs=pairs)

    def named(folder: Path, conversations: Artifact) -> dict[str, Fact]:
        (folder / "made_from").write_text(conversations.fingerprint)
        return {}

    def leaked(of_encoder: Artifact, of_index: Artifact) -> dict[str, str]:
        encoder = lab.write("encoder", "v1", [of_encoder], lambda folder: named(folder, of_encoder) | {f"{TRAINED_ON}{FORMS}": 9})
        index = lab.write("index", "v1", [of_index, encoder], lambda folder: named(folder, of_index))
        predictions = lab.write("predictions", "v1", [now, lab.base(), adapter, encoder, index], lambda _: {JUDGED_AGAINST: ""})
        return leaks(lab.workspace, line, predictions, look)

    assert leaked(now, now) == {}
    said = leaked(then, now) if stale == "encoder" else leaked(now, then)
    before, after = _split_of(lab, then), _split_of(lab, now)
    known = {"train", "validation"} if stale == "encoder" else {"train"}
    num_known = sum(after[one] == "test" and before[one] in known for one in after)
    assert said.keys() == {"adapter", "nf4"}
    assert said["adapter"].startswith(
        f"not comparable: the {stale} was made under another split and may have learned from {num_known} subjects"
    )


# -- what is served ----------------------------------------------------------------------------------------------------
def test_what_is_served_since_the_answers_were_made_is_asked_first(lab: Lab):
    now = lab.chat(seed=2)
    champion = lab.adapter("old", now)
    lab.scored(lab.adapter("new", now), now, champion)
    lab.scored(lab.adapter("newer", now), now)  # answered before the champion was promoted
    with pytest.raises(InputRefused, match="is not among them") as refusal:
        lab.promoted()
    assert refusal.value.do == "materialize documents/predictions again, and what follows from it"


def test_a_held_out_loss_is_that_of_an_adapter_validated_on_the_same_conversations(lab: Lab):
    then, now = lab.chat(seed=1), lab.chat(seed=2)
    scored = lab.scored(lab.adapter("new", now), now, lab.adapter("old", then))
    predictions = read_artifact(lab.workspace.directory("predictions", LINE.name, scored.inputs[f"predictions/{LINE.name}"]))
    assert validation_losses(lab.workspace, LINE, predictions) == {"adapter": 0.5}


# -- which look it is --------------------------------------------------------------------------------------------------
def test_deciding_again_writes_nothing_new(lab: Lab):
    now = lab.chat(seed=2)
    lab.scored(lab.adapter("new", now), now)
    first, again = lab.promoted(), lab.promoted()
    assert (first.reused, again.reused) == (False, True)
    assert (again.directory, again.facts) == (first.directory, first.facts)


def test_every_challenger_is_a_look_and_going_back_to_the_first_is_none(lab: Lab):
    now = lab.chat(seed=2)
    first = lab.scored(lab.adapter("a", now), now)
    decided = [lab.promoted()]
    lab.scored(lab.adapter("b", now), now)
    decided.append(lab.promoted())
    write_json(lab.workspace.current("scores", LINE.name), {"fingerprint": first.fingerprint})
    decided.append(lab.promoted())
    assert [artifact.facts["look"] for artifact in decided] == [1, 2, 1]
    assert decided[2].directory == decided[0].directory
    assert read_decisions(decided[1].directory)[0].alpha == pytest.approx(read_decisions(decided[0].directory)[0].alpha / 4)


def test_another_number_is_another_decision(lab: Lab):
    now = lab.chat(seed=2)
    first = lab.scored(lab.adapter("a", now), now)
    lost = lab.promoted()
    lab.scored(lab.adapter("b", now), now)
    lab.promoted()
    shutil.rmtree(lost.directory)  # against all advice
    write_json(lab.workspace.current("scores", LINE.name), {"fingerprint": first.fingerprint})
    anew = lab.promoted()
    assert (anew.facts["look"], anew.reused, anew.directory == lost.directory) == (2, False, False)


def test_another_line_has_a_budget_of_its_own(lab: Lab):
    now = lab.chat(seed=2)
    lab.scored(lab.adapter("a", now), now)
    lab.promoted()
    shutil.move(lab.workspace.step("promotion", LINE.name), lab.workspace.step("promotion", "documents_five"))
    lab.scored(lab.adapter("b", now), now)
    assert lab.promoted().facts["look"] == 1


def test_a_refused_comparison_is_no_look(lab: Lab):
    then, now = lab.chat(seed=1), lab.chat(seed=2)
    lab.scored(lab.adapter("new", now), now, lab.adapter("old", then))
    assert lab.promoted().facts["is_compared"] is False
    lab.workspace.served(LINE.name).unlink()
    lab.scored(lab.adapter("newer", now), now)
    assert lab.promoted().facts["look"] == 1


def test_a_decision_of_an_older_schema_is_still_a_look(lab: Lab):
    now = lab.chat(seed=2)
    lab.scored(lab.adapter("a", now), now)
    old = lab.promoted()
    record = read_json(old.directory / "provenance.json")
    write_json(old.directory / "provenance.json", {**record, "facts": {**record["facts"], "schema_version": 0}})
    assert read_artifact(old.directory).facts["schema_version"] == 0
    lab.scored(lab.adapter("b", now), now)
    assert lab.promoted().facts["look"] == 2
