"""Whether what is served is what was judged. If these passed wrongly, a line could serve weights that nobody evaluated, or that changed
since, and a green sign would say that all is well.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from medvl_assets.line_assets import served_model as served_asset
from medvl_lib.benchmark import promotion
from medvl_lib.benchmark.promotion import PROMOTION_DECISIONS, Decision
from medvl_lib.benchmark.terms import NOT_KEPT, Terms, write_terms
from medvl_lib.chat import _line as conversation_line
from medvl_lib.chat import conversations_path, to_conversation
from medvl_lib.errors import InputRefused
from medvl_lib.evaluation import parity
from medvl_lib.evaluation.parity import Answers, Form, Heard
from medvl_lib.evaluation.predictions import PREDICTIONS, REFERENCES, VARIANTS, Prediction, Reference, VariantMeasurement
from medvl_lib.evaluation.spec import first_asked
from medvl_lib.files import read_json
from medvl_lib.hardware import PROFILES, Profile
from medvl_lib.lines import DOCUMENTS, Line, tiny
from medvl_lib.pairs import Pair
from medvl_lib.pointer import Served, move_pointer, pointer_id, read_pointer
from medvl_lib.provenance import Artifact, Outcome, judge, read_artifact, resolve, write_step
from medvl_lib.route.champion import JUDGED_AGAINST
from medvl_lib.route.models import model_steps
from medvl_lib.route.parity import (
    CIRCUMSTANCES,
    chosen_pairs,
    circumstances,
    decided_otherwise,
    evaluated,
    in_groups,
    judge_served,
    parity_step,
    require_compared,
    served_model_is_the_evaluated_model,
)
from medvl_lib.route.pointing import ASKED, release, roll_back, serve, serve_anyway
from medvl_lib.route.promoting import CHAMPION
from medvl_lib.serving.served import served_model
from medvl_lib.step import run_step
from medvl_lib.tables import write_table
from medvl_lib.workspace import Workspace
from tests.evaluation.test_parity import reference
from tests.route.test_pointing import ROW

LINE = tiny(DOCUMENTS)
CPU = PROFILES["cpu"]
MEASURED = VariantMeasurement(
    variant="base", model="m", weights_data_version="", precision="float32", num_parameters=1, num_quantized_parameters=0, load_seconds=1.0,
    memory_after_load_bytes=1, memory_peak_bytes=1, adapter_bytes=None, stands_on=None, round=0,
)  # fmt: skip


class Lab:
    """A workspace with a real base model, an adapter of one file, and an evaluation that measured both."""

    def __init__(self, root: Path) -> None:
        self.workspace = Workspace(root=root)
        [base, *_] = model_steps(LINE, CPU)
        self.base = run_step(self.workspace, base)
        judge(self.workspace, self.base, base.rules)
        self.nf4 = self.write("nf4_model", [self.base], "four bits")
        self.adapter = self.write("adapter", [self.nf4], "adapter")
        self.references = [reference(number) for number in range(4)]

    def write(self, step: str, inputs: Sequence[Artifact], content: str) -> Artifact:
        def write(directory: Path) -> dict[str, str]:
            (directory / "content").write_text(content)
            return {}

        return write_step(self.workspace, step, LINE.name, content, inputs, write)

    def decided(self, winner: str, versions: dict[str, str]) -> Artifact:
        """A decision for ``winner`` on an evaluation that measured these data versions."""

        def predict(directory: Path) -> dict[str, str]:
            write_table(directory / VARIANTS, VariantMeasurement, [
                replace(MEASURED, variant=name, weights_data_version=version) for name, version in versions.items()
            ])  # fmt: skip
            write_table(directory / REFERENCES, Reference, self.references)
            return {JUDGED_AGAINST: ""}

        predictions = write_step(self.workspace, "predictions", LINE.name, "v1", [self.base, self.nf4, self.adapter], predict)
        scores = self.write("scores", [predictions], "scores")

        def decide(directory: Path) -> dict[str, str]:
            verdict = "promote" if winner else "inconclusive"
            row = replace(ROW, challenger=winner or "adapter", verdict=verdict, is_winner=bool(winner))
            write_table(directory / PROMOTION_DECISIONS, Decision, [row])
            return {CHAMPION: self.base.data_version}

        found = write_step(self.workspace, "promotion", LINE.name, f"decision for {winner}", [scores], decide)
        judge(self.workspace, found, promotion.RULES)
        return found

    def compared(self, decided: Artifact, data_version: str, http: str = "K: 4.1") -> Artifact:
        """The parity of these weights, whose server says ``http`` to every page."""

        def said(text: str) -> Answers:
            return {row.pair_id: Heard(text, 1) for row in self.references}

        forms: dict[Form, Answers] = {**dict.fromkeys(("evaluated", "reloaded", "batched"), said("K: 4.1")), "http": said(http)}
        found = write_step(
            self.workspace, "parity", LINE.name, f"{data_version} {http}", [decided],
            lambda directory: {
                **parity.write_parity(directory, forms, self.references, LINE.parity), ASKED: data_version,
                CIRCUMSTANCES: json.dumps({**circumstances(LINE, CPU, served_model(self.workspace, LINE)), "weights": data_version}),
            },
        )  # fmt: skip
        judge(self.workspace, found, parity.rules(LINE.parity, LINE.gate.min_pairs))
        return found

    def promoted(self) -> Served:
        """The adapter, evaluated, decided for, compared and served."""
        decided = self.decided("adapter", self.versions)
        moved = serve(self.workspace, LINE, decided, self.compared(decided, self.versions["adapter"]))
        assert moved.served is not None
        return moved.served

    @property
    def versions(self) -> dict[str, str]:
        from medvl_lib.pointer import Contender

        return {
            "base": self.base.data_version, "nf4": self.nf4.data_version, "adapter": Contender(self.nf4, self.adapter).data_version,
        }  # fmt: skip

    def checked(self) -> Outcome:
        return served_model_is_the_evaluated_model(self.workspace, LINE)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


# -- the check on what is served ---------------------------------------------------------------------------------------
def test_what_was_evaluated_and_compared_is_served_and_the_check_says_by_how_much_it_differs(lab: Lab):
    lab.promoted()
    found = lab.checked()
    assert found.passed, found.found
    assert found.found.startswith(f"documents serves adapter (nf4_model {lab.nf4.fingerprint}, adapter {lab.adapter.fingerprint}) by")
    assert found.found.endswith("http: 4 of 4 answers are those of reloaded")


def test_where_nothing_was_promoted_the_base_model_is_held_against_its_evaluation(lab: Lab):
    decided = lab.decided("", lab.versions)
    assert "no parity of documents has passed its checks yet" in lab.checked().found
    lab.compared(decided, lab.base.data_version)
    found = lab.checked()
    assert found.passed, found.found
    assert found.found.startswith("documents serves the base model as it is: nothing was promoted yet; reloaded: 4 of 4")


def test_a_file_that_was_changed_after_the_evaluation_is_found(lab: Lab):
    lab.promoted()
    (lab.adapter.directory / "content").write_text("ADAPTER")
    found = lab.checked()
    assert not found.passed
    assert "content has other contents than were written" in found.found
    assert found.offenders == (str(lab.adapter.directory),)


def test_weights_that_are_gone_are_found(lab: Lab):
    lab.promoted()
    (lab.nf4.directory / "provenance.json").unlink()
    found = lab.checked()
    assert not found.passed
    assert found.offenders == (str(lab.nf4.directory),)


def test_a_pointer_to_another_adapter_than_was_evaluated_is_found_with_both_versions(lab: Lab):
    served = lab.promoted()
    other = lab.write("adapter", [lab.nf4], "another adapter")
    move_pointer(lab.workspace, replace(served, adapter_fingerprint=other.fingerprint))
    found = lab.checked()
    assert not found.passed
    assert f"where {served.data_version} was evaluated" in found.found


def test_weights_of_which_the_evaluation_measured_others_are_found_with_both_versions(lab: Lab):
    decided = lab.decided("adapter", {**lab.versions, "adapter": "0123456789abcdef"})
    serve(lab.workspace, LINE, decided, lab.compared(decided, lab.versions["adapter"]))
    found = lab.checked()
    assert not found.passed
    assert found.found.startswith(f"adapter was evaluated as 0123456789abcdef, and {lab.versions['adapter']} is served")


def test_a_comparison_of_something_else_or_one_that_failed_is_none(lab: Lab):
    lab.promoted()
    decided = lab.decided("adapter", lab.versions)
    lab.compared(decided, lab.base.data_version)
    pointer = read_pointer(lab.workspace, LINE.name)
    move_pointer(lab.workspace, replace(pointer, variant="nf4", adapter_step=None, adapter_fingerprint=None,
                                        data_version=lab.nf4.data_version))  # fmt: skip
    assert f"answers of {lab.base.data_version} were compared, and {lab.nf4.data_version} is served" in lab.checked().found
    lab.compared(decided, lab.nf4.data_version, http="K: 4.7")  # its checks fail, so the one before stays the current one
    assert "no passing verdict" in lab.checked().found


def test_what_a_person_went_back_to_was_compared_when_it_was_promoted_and_a_later_failure_of_it_counts(lab: Lab):
    served = lab.promoted()
    decided = lab.decided("adapter", lab.versions)
    lab.compared(decided, lab.base.data_version)
    move_pointer(lab.workspace, replace(served, variant="base", adapter_step=None, adapter_fingerprint=None, data_version="another"))
    roll_back(lab.workspace, LINE, by="Dr. Adler", reason="complaints from the ward")
    assert lab.checked().passed
    release(lab.workspace, LINE, by="Dr. Adler", reason="it was the scanner")
    assert lab.checked().passed  # who lets the pointer go takes nothing from what it stays on
    lab.compared(decided, lab.versions["adapter"], http="K: 4.7")
    assert "no passing verdict" in lab.checked().found


def test_who_goes_back_to_what_was_never_compared_is_told_how_it_is(lab: Lab):
    decided = lab.decided("adapter", lab.versions)
    compared = lab.compared(decided, lab.versions["adapter"])
    hint = "before `medvl serve documents` its answers have to be compared: "
    why = {"by": "Dr. Adler", "reason": "complaints from the ward"}
    serve(lab.workspace, LINE, decided, compared)
    for variant in ("nf4", "adapter"):
        serve_anyway(lab.workspace, LINE, variant, **why)
    assert hint in roll_back(lab.workspace, LINE, **why).sentence
    assert not lab.checked().passed
    release(lab.workspace, LINE, **why)
    lab.compared(decided, lab.nf4.data_version)
    serve_anyway(lab.workspace, LINE, "adapter", **why)
    assert hint not in roll_back(lab.workspace, LINE, **why).sentence
    assert lab.checked().passed


def test_what_a_person_decided_is_held_against_the_evaluation_that_the_person_overrode(lab: Lab):
    decided = lab.decided("", lab.versions)
    serve_anyway(lab.workspace, LINE, "adapter", by="Dr. Adler", reason="read 40 answers by hand")
    assert not lab.checked().passed  # nobody has compared its answers
    lab.compared(decided, lab.versions["adapter"])
    assert lab.checked().passed
    pointer = read_pointer(lab.workspace, LINE.name)
    assert pointer is not None
    assert pointer.decision_step == "override"


def test_the_check_leaves_its_verdict_beside_what_it_was_said_of(lab: Lab):
    decided = lab.decided("adapter", lab.versions)
    compared = lab.compared(decided, lab.versions["adapter"])
    serve(lab.workspace, LINE, decided, compared)
    verdict = judge_served(lab.workspace, LINE, decided, compared)
    assert (verdict.rule, verdict.is_blocking, verdict.outcome) == ("served_model_is_the_evaluated_model", True, lab.checked())
    written = resolve(lab.workspace, "served_model", LINE.name, [])
    assert written.inputs == {decided.key: decided.fingerprint, compared.key: compared.fingerprint}
    assert (written.facts["variant"], written.facts["pointer"]) == ("adapter", pointer_id(read_pointer(lab.workspace, LINE.name)))
    assert read_json(written.directory / "verdicts.json")["verdicts"][0]["outcome"]["found"] == verdict.outcome.found


def test_a_check_that_fails_leaves_that_too_and_the_same_pointer_is_the_same_directory(lab: Lab):
    lab.promoted()
    [decided] = lab.workspace.written("promotion")
    [compared] = lab.workspace.written("parity")
    first = judge_served(lab.workspace, LINE, read_artifact(decided), read_artifact(compared))
    (lab.adapter.directory / "content").write_text("ADAPTER")
    second = judge_served(lab.workspace, LINE, read_artifact(decided), read_artifact(compared))
    assert (first.outcome.passed, second.outcome.passed) == (True, False)
    [written] = lab.workspace.written("served_model")
    assert read_json(written / "verdicts.json")["verdicts"][0]["outcome"]["passed"] is False


def test_the_asset_serves_checks_and_publishes_what_is_served(lab: Lab):
    decided = lab.decided("adapter", lab.versions)
    lab.compared(decided, lab.versions["adapter"])
    assert not lab.workspace.store.is_file()
    result = dg.materialize([served_asset(LINE)], resources={"workspace": lab.workspace}, instance=dg.DagsterInstance.ephemeral())
    assert result.success
    [evaluation] = result.get_asset_check_evaluations()
    assert (evaluation.check_name, evaluation.passed) == ("served_model_is_the_evaluated_model", True)
    [written] = lab.workspace.written("served_model")
    assert read_json(written / "verdicts.json")["verdicts"][0]["rule"] == "served_model_is_the_evaluated_model"
    assert lab.workspace.store.is_file()


# -- before it is served -----------------------------------------------------------------------------------------------
def test_what_was_compared_is_served_with_a_sentence_on_how(lab: Lab):
    lab.promoted()
    said = require_compared(lab.workspace, LINE, CPU, served_model(lab.workspace, LINE))
    assert said.startswith("reloaded: 4 of 4 answers are those of evaluated")


def test_what_was_decided_under_other_settings_is_served_and_says_which(lab: Lab):
    lab.promoted()
    model = served_model(lab.workspace, LINE)
    assert decided_otherwise(lab.workspace, LINE, model) == NOT_KEPT
    directory = lab.workspace.directory("promotion", "documents", read_pointer(lab.workspace, "documents").decision)
    gate = replace(LINE.gate, min_pairs=7, primary_metric="rouge_l")
    write_terms(directory, Terms(gate=gate, evaluation=LINE.evaluation))
    assert decided_otherwise(lab.workspace, LINE, model) == "decided under other settings: gate.min_pairs, gate.primary_metric"
    write_terms(directory, Terms(gate=LINE.gate, evaluation=LINE.evaluation))
    assert decided_otherwise(lab.workspace, LINE, model) == ""


def test_a_base_model_that_nobody_evaluated_is_served_and_says_so(lab: Lab):
    assert decided_otherwise(lab.workspace, LINE, served_model(lab.workspace, LINE)) == ""
    assert require_compared(lab.workspace, LINE, CPU, served_model(lab.workspace, LINE)) == "it was never evaluated"
    lab.decided("", lab.versions)
    with pytest.raises(InputRefused, match="no parity of documents"):
        require_compared(lab.workspace, LINE, CPU, served_model(lab.workspace, LINE))


def test_the_base_model_that_a_person_went_back_to_is_served_though_nobody_compared_it(lab: Lab):
    """Else what was taken back for harm would leave nothing that answers; what is known to answer otherwise is not served."""
    served = lab.promoted()
    said = roll_back(lab.workspace, LINE, by="Dr. Adler", reason="complaints from the ward").sentence
    assert "documents serves the base model as it is, as before adapter was promoted" in said
    assert "have to be compared" not in said
    assert "its answers were not compared with those that were evaluated" in said
    assert not lab.checked().passed  # the check in the graph still says so
    model = served_model(lab.workspace, LINE)
    assert model.sentence.startswith("documents serves the base model as it is, as before adapter was promoted")
    assert "Adler" not in model.sentence  # /health says it to anybody
    assert require_compared(lab.workspace, LINE, CPU, model).startswith("its answers were not compared")
    decided = read_artifact(lab.workspace.directory("promotion", "documents", served.decision))
    lab.compared(decided, lab.base.data_version, http="something else")
    with pytest.raises(InputRefused):
        require_compared(lab.workspace, LINE, CPU, model)


def test_what_was_compared_before_needs_no_other_comparison_when_a_person_serves_it(lab: Lab):
    lab.promoted()
    roll_back(lab.workspace, LINE, by="Dr. Adler", reason="complaints from the ward")
    release(lab.workspace, LINE, by="Dr. Adler", reason="it was the scanner")
    moved = serve_anyway(lab.workspace, LINE, "adapter", by="Dr. Adler", reason="it was the scanner")
    assert "have to be compared" not in moved.sentence


def test_what_a_person_decided_is_not_served_before_its_answers_were_compared(lab: Lab):
    decided = lab.decided("", lab.versions)
    lab.compared(decided, lab.base.data_version)
    serve_anyway(lab.workspace, LINE, "adapter", by="Dr. Adler", reason="read 40 answers by hand")
    with pytest.raises(InputRefused, match="were compared") as refused:
        require_compared(lab.workspace, LINE, CPU, served_model(lab.workspace, LINE))
    assert refused.value.do == "materialize documents/parity and documents/served_model, or serve it --unchecked"


@pytest.mark.parametrize(
    ("line", "profile", "said"),
    [
        (replace(LINE, evaluation=replace(LINE.evaluation, max_answer_tokens=7)), CPU, "settings is"),
        (LINE, replace(CPU, prediction_batch=3), "prediction_batch is 3"),
        (LINE, replace(CPU, device="cuda"), "device is cuda"),
    ],
    ids=["settings", "batch", "device"],
)
def test_other_circumstances_than_those_of_the_comparison_are_refused_by_name(lab: Lab, line: Line, profile: Profile, said: str):
    lab.promoted()
    with pytest.raises(InputRefused, match=f"other circumstances than its answers were compared in: {said}"):
        require_compared(lab.workspace, line, profile, served_model(lab.workspace, line))


# -- what is asked -----------------------------------------------------------------------------------------------------
def test_the_step_is_another_one_for_other_weights_and_the_same_for_the_same(lab: Lab):
    step = parity_step(LINE, CPU)
    assert step.observe is not None

    def observed(winner: str) -> str:
        return step.observe(lab.workspace, {f"promotion/{LINE.name}": lab.decided(winner, lab.versions)})

    assert lab.versions["adapter"] in observed("adapter")
    assert lab.base.data_version in observed("")
    assert observed("adapter") == observed("adapter")
    elsewhere = parity_step(LINE, replace(CPU, prediction_batch=1))
    assert elsewhere.version == step.version
    assert elsewhere.observe(lab.workspace, {f"promotion/{LINE.name}": lab.decided("adapter", lab.versions)}) != observed("adapter")


def test_the_first_test_pairs_are_asked_in_the_order_of_the_evaluation(tmp_path: Path):
    """Of two datasets; the benchmark split is never asked, and each dataset is a group of its own."""
    workspace = Workspace(root=tmp_path)
    rows = [replace(reference(number), pair_id=f"{name}/test/{number}", dataset=name) for name in ("forms", "notes") for number in range(9)]
    rows.append(replace(reference(99), split="benchmark"))

    def converse(directory: Path) -> dict[str, str]:
        pairs = [
            Pair(
                pair_id=row.pair_id, dataset=row.dataset, image_ids=("a" * 64,), request=row.request, response=row.response,
                expected=row.expected, subject_id=None, document_id="d", publisher_split="test", language="en", source="s",
                licence="CC0-1.0", metadata={},
            ) for row in rows if row.split == "test"
        ]  # fmt: skip
        lines = "".join(conversation_line(to_conversation(pair)) for pair in pairs)
        conversations_path(directory, "test").write_text(lines, encoding="utf-8")
        return {}

    def predict(directory: Path) -> dict[str, str]:
        write_table(directory / REFERENCES, Reference, rows)
        write_table(directory / PREDICTIONS, Prediction, (
            Prediction(
                pair_id=row.pair_id, variant=variant, condition=condition, answer=f"{variant} {condition}", num_prompt_tokens=9,
                num_answer_tokens=5, is_cut=False, latency_seconds=1.0, batch_id=0, batch_size=2,
            ) for row in rows for variant, condition in (("base", "as_is"), ("adapter", "as_is"), ("adapter", "blank_image"))
        ))  # fmt: skip
        return {}

    chat = write_step(workspace, "chat", LINE.name, "v1", [], converse)
    predictions = write_step(workspace, "predictions", LINE.name, "v1", [chat], predict)
    line = replace(LINE, parity=replace(LINE.parity, max_pairs=7))
    chosen = chosen_pairs(predictions, line)
    tested = [row for row in rows if row.split == "test"]
    everything = first_asked(tested, replace(LINE.evaluation, max_pairs_per_dataset=0), lambda row: row.pair_id)
    assert [row.pair_id for row in chosen] == [row.pair_id for row in everything[:7]]
    groups = in_groups(workspace, line, predictions, chosen)
    assert sorted(item.pair_id for group in groups for item in group) == sorted(row.pair_id for row in chosen)
    for group in groups:
        assert len({item.dataset for item in group}) == 1
        asked = [row.pair_id for row in everything if row.dataset == group[0].dataset]
        assert [item.pair_id for item in group] == asked[: len(group)]
    said = evaluated(predictions, "adapter")
    assert len(said) == 19
    assert set(said.values()) == {Heard("adapter as_is", 2)}
