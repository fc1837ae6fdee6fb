"""What is served. If these passed wrongly, a champion could be measured on weights that it was not trained on, something be served that was
never compared with what it replaces, or a person's decision leave no trace.
"""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from medvl_lib.benchmark import override, promotion, rollback
from medvl_lib.benchmark.promotion import PROMOTION_DECISIONS, Decision, read_decisions, winner_of
from medvl_lib.errors import InputRefused
from medvl_lib.lines import DOCUMENTS
from medvl_lib.pointer import Contender, Served, read_pointer, read_state
from medvl_lib.provenance import Artifact, judge, read_artifact, write_step
from medvl_lib.route.champion import JUDGED_AGAINST, champion_beside, champion_of, contenders_of
from medvl_lib.route.pointing import (
    ASKED,
    Moved,
    predictions_of,
    release,
    roll_back,
    serve,
    serve_anyway,
    what_is_served,
    would_be_served,
)
from medvl_lib.route.promoting import CHAMPION
from medvl_lib.tables import read_table, write_table
from medvl_lib.workspace import Workspace

ROW = Decision(
    line="documents", evaluation_id="e", gate_id="g", verdict="inconclusive", is_winner=False, decided_by="gate", reasons=("because",),
    primary_metric="pair_accuracy", challenger="adapter", claim="superiority", margin=0.0, champion="base", look=1, alpha=0.03,
    is_worn=False, num_pairs=60, num_clusters=60, num_informative_clusters=60, difference=0.1, ci_low=0.05, ci_high=0.15, p_value=0.01,
    minimum_detectable_difference=0.05,
    beats_the_floors=True, uses_the_image=True, image_difference=0.1, image_ci_low=0.05, image_ci_high=0.15,
)  # fmt: skip


def _written(workspace: Workspace, step: str, inputs: Sequence[Artifact], content: str, **facts: str) -> Artifact:
    def write(directory: Path) -> dict[str, str]:
        (directory / "content").write_text(content)
        return facts

    return write_step(workspace, step, "documents", content, inputs, write)


def _trained(workspace: Workspace, name: str, base: str = "v1") -> Contender:
    """An adapter, and the four-bit weights of a base model on which it stands."""
    model = _written(workspace, "base_model", [], f"base {base}")
    weights = _written(workspace, "nf4_model", [model], f"weights of {base}")
    return Contender(weights, _written(workspace, "adapter", [weights], f"adapter {name}"))


def _predicted(workspace: Workspace, trained: Contender, champion: Contender | None = None) -> Artifact:
    base = read_artifact(workspace.directory("base_model", "documents", trained.weights.inputs["base_model/documents"]))
    against = "" if champion is None else champion.data_version
    content = f"predictions of {trained.data_version} beside {against}"
    return _written(workspace, "predictions", [base, trained.weights, trained.adapter], content, **{JUDGED_AGAINST: against})


def _decision(workspace: Workspace, trained: Contender, *, winner: str = "adapter", against: str = "", look: int = 1) -> Artifact:
    """A decision for ``winner`` ("" for nobody), made while ``against`` was served: a data version, the base model's where it is empty."""
    predictions = _predicted(workspace, trained)
    scores = _written(workspace, "scores", [predictions], f"scores of {trained.data_version} {winner}")
    against = against or contenders_of(workspace, DOCUMENTS, predictions)["base"].data_version
    rows = [
        replace(ROW, challenger=name, look=look, verdict="promote" if name == winner else "inconclusive", is_winner=name == winner)
        for name in ("adapter", "nf4")
    ]

    def write(directory: Path) -> dict[str, str]:
        write_table(directory / PROMOTION_DECISIONS, Decision, rows)
        return {CHAMPION: against}

    decided = write_step(workspace, "promotion", "documents", f"decision {trained.data_version} {against} {winner} {look}", [scores], write)
    judge(workspace, decided, promotion.RULES)
    return decided


def _serve(workspace: Workspace, decided: Artifact, compared: str | None = None) -> Moved:
    """After the winner's answers were compared, or those of another data version."""
    winner = winner_of(read_decisions(decided.directory))
    found = contenders_of(workspace, DOCUMENTS, predictions_of(workspace, DOCUMENTS, decided))
    asked = compared or found[winner.challenger if winner else "base"].data_version
    return serve(workspace, DOCUMENTS, decided, _written(workspace, "parity", [decided], f"parity of {asked}", **{ASKED: asked}))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(root=tmp_path)


def _pointer(workspace: Workspace) -> Served:
    pointer = read_pointer(workspace, "documents")
    assert pointer is not None
    return pointer


def test_a_promoted_adapter_is_served_on_its_weights_and_a_second_look_moves_nothing(workspace: Workspace):
    trained = _trained(workspace, "a")
    decision = _decision(workspace, trained)
    assert _serve(workspace, decision).served == _pointer(workspace)
    assert _pointer(workspace) == Served(
        line="documents", variant="adapter", weights_step="nf4_model", weights_fingerprint=trained.weights.fingerprint,
        adapter_step="adapter", adapter_fingerprint=trained.adapter.fingerprint, data_version=trained.data_version,
        decision_step="promotion", decision=decision.fingerprint,
    )  # fmt: skip
    assert _serve(workspace, decision).served is None


def test_four_bits_that_were_promoted_are_served_without_an_adapter(workspace: Workspace):
    trained = _trained(workspace, "a")
    moved = _serve(workspace, _decision(workspace, trained, winner="nf4"))
    assert (moved.served.variant, moved.served.adapter_step, moved.served.weights_step) == ("nf4", None, "nf4_model")
    assert moved.served.data_version == trained.weights.data_version
    assert f"documents serves nf4 (nf4_model {trained.weights.fingerprint}) by promotion" in moved.sentence


def test_without_a_winner_the_pointer_stays_where_it_was(workspace: Workspace):
    old, new = _trained(workspace, "old"), _trained(workspace, "new")
    _serve(workspace, _decision(workspace, old))
    before = _pointer(workspace)
    moved = _serve(workspace, _decision(workspace, new, winner=""))
    assert (moved.served, _pointer(workspace)) == (None, before)
    assert moved.sentence.startswith("inconclusive: because; documents serves adapter")


def test_before_the_first_promotion_the_base_model_is_served(workspace: Workspace):
    moved = _serve(workspace, _decision(workspace, _trained(workspace, "a"), winner=""))
    assert moved.sentence.endswith("documents serves the base model as it is: nothing was promoted yet")
    assert what_is_served(workspace, DOCUMENTS) in moved.sentence


def test_of_two_decisions_against_one_champion_only_the_first_is_served(workspace: Workspace):
    champion, first, second = (_trained(workspace, name) for name in ("champion", "first", "second"))
    _serve(workspace, _decision(workspace, champion))
    decisions = [_decision(workspace, trained, against=champion.data_version) for trained in (first, second)]
    assert _serve(workspace, decisions[0]).served is not None
    moved = _serve(workspace, decisions[1])
    assert moved.served is None
    assert "against another champion than is served now" in moved.sentence
    assert _pointer(workspace).data_version == first.data_version


def test_what_beat_the_base_model_of_yesterday_does_not_replace_a_champion(workspace: Workspace):
    first, second = (_trained(workspace, name) for name in ("first", "second"))
    late = _decision(workspace, second)  # decided before anything was promoted
    assert would_be_served(workspace, DOCUMENTS, late).data_version == second.data_version
    _serve(workspace, _decision(workspace, first))
    assert would_be_served(workspace, DOCUMENTS, late).data_version == first.data_version
    assert _serve(workspace, late).served is None


def test_what_was_not_compared_is_not_served(workspace: Workspace):
    trained = _trained(workspace, "a")
    decision = _decision(workspace, trained)
    with pytest.raises(InputRefused, match=f"adapter of data version {trained.data_version} was promoted, and another was compared"):
        _serve(workspace, decision, compared="another")
    elsewhere = _written(workspace, "parity", [], "of another decision", **{ASKED: trained.data_version})
    with pytest.raises(InputRefused, match="after another decision"):
        serve(workspace, DOCUMENTS, decision, elsewhere)
    assert read_pointer(workspace, "documents") is None
    assert _serve(workspace, decision).served is not None


def test_a_decision_that_was_made_again_and_is_the_same_keeps_its_comparison(workspace: Workspace):
    """Settings that change no row of it give a decision another name; the comparison after it is reused, and names the first one."""
    trained = _trained(workspace, "a")
    decision = _decision(workspace, trained)
    compared = _written(workspace, "parity", [decision], "parity", **{ASKED: trained.data_version})
    scores = read_artifact(workspace.directory("scores", "documents", decision.inputs["scores/documents"]))

    def write(directory: Path) -> dict[str, str]:
        shutil.copy(decision.directory / PROMOTION_DECISIONS, directory)
        return {CHAMPION: str(decision.facts[CHAMPION])}

    again = write_step(workspace, "promotion", "documents", "under other settings", [scores], write)
    judge(workspace, again, promotion.RULES)
    assert (again.data_version, again.fingerprint != decision.fingerprint) == (decision.data_version, True)
    assert serve(workspace, DOCUMENTS, again, compared).served is not None


# -- the champion ------------------------------------------------------------------------------------------------------
def test_a_champion_stands_on_the_weights_that_it_was_trained_on(workspace: Workspace):
    old = _trained(workspace, "old")
    _serve(workspace, _decision(workspace, old))
    new = _trained(workspace, "new", base="v2")  # trained after the base model was replaced
    champion = champion_of(workspace, DOCUMENTS, contenders_of(workspace, DOCUMENTS, _predicted(workspace, new)))
    assert champion == old
    assert (champion.weights.directory / "content").read_text() == "weights of v1"


@pytest.mark.parametrize("winner", ["adapter", "nf4"])
def test_what_answers_already_is_no_further_champion(workspace: Workspace, winner: str):
    trained = _trained(workspace, "a")
    others = contenders_of(workspace, DOCUMENTS, _predicted(workspace, trained))
    assert champion_of(workspace, DOCUMENTS, others) is None
    _serve(workspace, _decision(workspace, trained, winner=winner))
    assert champion_of(workspace, DOCUMENTS, others) is None


@pytest.mark.parametrize("winner", ["adapter", "nf4"])
def test_who_answered_as_champion_is_found_again(workspace: Workspace, winner: str):
    old, new = _trained(workspace, "old"), _trained(workspace, "new", base="v2")
    served = old if winner == "adapter" else Contender(old.weights)
    predictions = _predicted(workspace, new, served)
    assert champion_beside(workspace, DOCUMENTS, predictions) == served


# -- a person's decision -----------------------------------------------------------------------------------------------
def test_a_person_may_serve_what_the_gate_did_not_promote_and_it_is_recorded(workspace: Workspace):
    trained = _trained(workspace, "a")
    gate = _decision(workspace, trained, winner="")
    moved = serve_anyway(workspace, DOCUMENTS, "adapter", by="Dr. Adler", reason="read 40 answers by hand")
    assert _pointer(workspace) == moved.served
    assert (moved.served.data_version, moved.served.decision_step) == (trained.data_version, "override")
    [row] = read_decisions(workspace.directory("override", "documents", moved.served.decision))
    assert (row.verdict, row.is_winner, row.decided_by) == ("promote", True, "Dr. Adler")
    assert row.reasons == ("read 40 answers by hand", "the gate came to no decision on this adapter: because")
    assert moved.sentence.startswith(
        "decided by Dr. Adler: read 40 answers by hand; the gate came to no decision on this adapter: because; "
    )
    assert "before `medvl serve documents` its answers have to be compared: " in moved.sentence
    assert "dg launch --assets 'documents/parity,documents/served_model'" in moved.sentence
    assert (row.difference, row.evaluation_id) == (0.1, "e")
    assert read_artifact(workspace.directory("override", "documents", moved.served.decision)).inputs == {
        "promotion/documents": gate.fingerprint
    }


def test_a_person_may_go_back_to_the_base_model(workspace: Workspace):
    trained = _trained(workspace, "a")
    _serve(workspace, _decision(workspace, trained))
    moved = serve_anyway(workspace, DOCUMENTS, "base", by="Dr. Adler", reason="complaints from the ward")
    assert (moved.served.variant, moved.served.adapter_step) == ("base", None)
    [row] = read_decisions(workspace.directory("override", "documents", moved.served.decision))
    assert (row.challenger, row.difference, row.reasons[1]) == ("base", None, "the gate did not judge base")


def test_the_gate_does_not_undo_what_a_person_decided_by_deciding_the_same_again(workspace: Workspace):
    trained = _trained(workspace, "a")
    decision = _decision(workspace, trained)
    _serve(workspace, decision)
    assert would_be_served(workspace, DOCUMENTS, decision).variant == "adapter"
    serve_anyway(workspace, DOCUMENTS, "nf4", by="Dr. Adler", reason="complaints from the ward")
    assert would_be_served(workspace, DOCUMENTS, decision).variant == "nf4"
    assert _serve(workspace, decision).served is None
    assert _pointer(workspace).variant == "nf4"


NOBODY = [
    ("", "why"), ("  ", "why"), ("gate", "why"), ("Dr. Adler", " "), ("Gate", "why"), ("GATE ", "why"), ("g\u0430te", "why"),
    ("ga\u200bte", "why"), ("\u0413\u0410", "\u200b"), ("\u200b\u2060", "why"), ("42 -", "why"), ("Dr. Adler", "\x1b[2J"[:1]),
    ("\uff27\uff21\uff34\uff25", "why"), ("\u13c0\u13aa\u13a2\u13ac", "why"), ("g\u0301ate", "why"),
]  # fmt: skip
"""Names and reasons that are none: not seen, without letters, or the gate's name."""


@pytest.mark.parametrize(("by", "reason"), NOBODY)
def test_without_a_name_or_a_reason_nothing_is_overridden(workspace: Workspace, by: str, reason: str):
    _decision(workspace, _trained(workspace, "a"), winner="")
    with pytest.raises(InputRefused, match="say who decides, and why") as refused:
        serve_anyway(workspace, DOCUMENTS, "adapter", by=by, reason=reason)
    assert str(refused.value).isascii()
    assert read_pointer(workspace, "documents") is None


def test_what_nobody_sees_or_a_terminal_obeys_is_neither_recorded_nor_printed(workspace: Workspace):
    _decision(workspace, _trained(workspace, "a"), winner="")
    moved = serve_anyway(workspace, DOCUMENTS, "adapter", by="Dr.\u200b B\u00e4r\x1b[2J", reason="read\n40 \x07answers")
    [row] = read_decisions(workspace.directory("override", "documents", moved.served.decision))
    assert (row.decided_by, row.reasons[0]) == ("Dr. B\u00e4r[2J", "read 40 answers")
    assert moved.sentence.startswith("decided by Dr. B\u00e4r[2J: read 40 answers; ")
    assert moved.sentence.isprintable()


def test_a_variant_that_did_not_answer_cannot_be_served(workspace: Workspace):
    _decision(workspace, _trained(workspace, "a"), winner="")
    with pytest.raises(InputRefused, match="int8 is not among what answered: base, nf4, adapter"):
        serve_anyway(workspace, DOCUMENTS, "int8", by="Dr. Adler", reason="why")


@pytest.mark.parametrize("changes", [{"decided_by": "gate"}, {"decided_by": " "}, {"reasons": ("", "")}])
def test_an_override_that_names_nobody_fails_its_rule(tmp_path: Path, changes: dict[str, object]):
    row = override.overridden([ROW], "adapter", by="Dr. Adler", reason="why")
    [rule] = override.RULES
    override.write_override(tmp_path, row)
    assert rule.holds(tmp_path).passed
    override.write_override(tmp_path, replace(row, **changes))
    assert not rule.holds(tmp_path).passed


# -- going back --------------------------------------------------------------------------------------------------------
ADLER = {"by": "Dr. Adler", "reason": "complaints from the ward"}


@pytest.fixture
def twice(workspace: Workspace) -> tuple[Contender, Contender]:
    """Two adapters, promoted one after the other."""
    old, new = _trained(workspace, "old"), _trained(workspace, "new")
    _serve(workspace, _decision(workspace, old))
    _serve(workspace, _decision(workspace, new, against=old.data_version))
    assert _pointer(workspace).data_version == new.data_version
    return old, new


def test_what_was_served_before_is_served_again_and_held_and_recorded(workspace: Workspace, twice: tuple[Contender, Contender]):
    old, new = twice
    before = read_state(workspace, "documents").previous
    moved = roll_back(workspace, DOCUMENTS, **ADLER)
    assert (moved.served, _pointer(workspace)) == (before, before)
    assert "held by Dr. Adler since" in moved.sentence
    hold = read_state(workspace, "documents").hold
    folder = workspace.directory(rollback.STEP, "documents", hold.record)
    [row] = read_table(folder / rollback.ROLLBACKS, rollback.Rollback)
    assert (row.from_data_version, row.to_data_version, row.decided_by) == (new.data_version, old.data_version, "Dr. Adler")
    assert (folder / "verdicts.json").is_file()


def test_what_is_promoted_while_the_pointer_is_held_is_not_served_and_it_is_said(workspace: Workspace, twice: tuple[Contender, Contender]):
    old, _ = twice
    roll_back(workspace, DOCUMENTS, **ADLER)
    third = _decision(workspace, _trained(workspace, "third"), against=old.data_version)
    assert would_be_served(workspace, DOCUMENTS, third).data_version == old.data_version
    moved = _serve(workspace, third)
    assert (moved.served, _pointer(workspace).data_version) == (None, old.data_version)
    assert moved.sentence.startswith("adapter was promoted, and is not served: the pointer is held (medvl release documents); ")
    with pytest.raises(InputRefused, match="the pointer is held by Dr. Adler"):
        serve_anyway(workspace, DOCUMENTS, "nf4", by="Dr. Berg", reason="why")
    release(workspace, DOCUMENTS, by="Dr. Berg", reason="it was the scanner")
    assert _pointer(workspace).data_version == old.data_version  # it moves when something is promoted, not before
    assert _serve(workspace, third).served is not None


def test_what_was_withdrawn_is_served_again_by_a_person_alone(workspace: Workspace):
    old, new = _trained(workspace, "old"), _trained(workspace, "new")
    _serve(workspace, _decision(workspace, old))
    decision = _decision(workspace, new, against=old.data_version)
    _serve(workspace, decision)
    roll_back(workspace, DOCUMENTS, **ADLER)
    moved = release(workspace, DOCUMENTS, by="Dr. Berg", reason="it was the scanner")
    assert "what was withdrawn is served again by a person alone" in moved.sentence
    later = _decision(workspace, new, against=old.data_version, look=2)  # what the next run decides, on the same answers
    for decided in (decision, later):
        assert would_be_served(workspace, DOCUMENTS, decided).data_version == old.data_version
        moved = _serve(workspace, decided, compared=old.data_version)
        assert (moved.served, _pointer(workspace).data_version) == (None, old.data_version)
        assert moved.sentence.startswith(
            f"adapter was promoted by {decided.fingerprint}, and was withdrawn before: the gate does not serve it again "
            "(medvl override documents adapter, where a person wants it); documents serves adapter"
        )
    with pytest.raises(InputRefused, match="was withdrawn") as refused:
        roll_back(workspace, DOCUMENTS, by="Dr. Berg", reason="there and back")
    assert "medvl override documents" in refused.value.do
    assert serve_anyway(workspace, DOCUMENTS, "adapter", by="Dr. Berg", reason="it was the scanner").served is not None
    assert _pointer(workspace).data_version == new.data_version
    assert _serve(workspace, later).served is None  # it is what is served, and no longer withdrawn
    assert read_state(workspace, "documents").withdrawn == ()


def test_what_was_withdrawn_stays_so_whatever_is_served_in_between(workspace: Workspace):
    old, new, third = (_trained(workspace, name) for name in ("old", "new", "third"))
    _serve(workspace, _decision(workspace, old))
    _serve(workspace, _decision(workspace, new, against=old.data_version))
    roll_back(workspace, DOCUMENTS, **ADLER)
    release(workspace, DOCUMENTS, by="Dr. Berg", reason="it was the scanner")
    assert _serve(workspace, _decision(workspace, third, against=old.data_version)).served is not None
    assert _serve(workspace, _decision(workspace, new, against=third.data_version)).served is None
    assert _pointer(workspace).data_version == third.data_version


def test_one_can_go_back_to_the_base_model_and_not_on_from_there_while_it_is_held(workspace: Workspace):
    trained = _trained(workspace, "a")
    _serve(workspace, _decision(workspace, trained))
    assert roll_back(workspace, DOCUMENTS, **ADLER).served is None
    assert "documents serves the base model as it is, as before adapter was promoted" in what_is_served(workspace, DOCUMENTS)
    before, num_records = read_state(workspace, "documents"), len(workspace.written(rollback.STEP))
    with pytest.raises(InputRefused, match="a rollback by Dr. Adler holds the pointer since .*: complaints from the ward") as refused:
        roll_back(workspace, DOCUMENTS, by="Dr. Berg", reason="it was the scanner")
    assert refused.value.do == (
        "medvl release documents --by NAME --reason TEXT, and then medvl override documents VARIANT --by NAME --reason TEXT"
    )
    assert (read_state(workspace, "documents"), len(workspace.written(rollback.STEP))) == (before, num_records)


def test_where_nothing_was_promoted_there_is_no_way_back(workspace: Workspace):
    with pytest.raises(InputRefused, match="nothing was ever promoted"):
        roll_back(workspace, DOCUMENTS, **ADLER)
    assert not workspace.served("documents").exists()


def test_nobody_goes_back_to_damaged_files(workspace: Workspace, twice: tuple[Contender, Contender]):
    old, new = twice
    (old.adapter.directory / "content").write_text("something else")
    with pytest.raises(InputRefused, match="a damaged directory"):
        roll_back(workspace, DOCUMENTS, **ADLER)
    assert _pointer(workspace).data_version == new.data_version


@pytest.mark.parametrize(("by", "reason"), NOBODY)
def test_without_a_name_or_a_reason_nobody_goes_back(workspace: Workspace, twice: tuple[Contender, Contender], by: str, reason: str):
    before = read_state(workspace, "documents")
    with pytest.raises(InputRefused, match="say who decides, and why") as refused:
        roll_back(workspace, DOCUMENTS, by=by, reason=reason)
    assert str(refused.value).isascii()
    assert read_state(workspace, "documents") == before
    assert before.served.data_version == twice[1].data_version
    roll_back(workspace, DOCUMENTS, **ADLER)
    held = read_state(workspace, "documents")
    with pytest.raises(InputRefused, match="say who decides, and why"):
        release(workspace, DOCUMENTS, by=by, reason=reason)
    assert read_state(workspace, "documents") == held


@pytest.mark.usefixtures("twice")
def test_who_goes_back_is_recorded_held_and_printed_as_it_is_seen(workspace: Workspace):
    def recorded() -> set[tuple[str, str, str]]:
        tables = [read_table(folder / rollback.ROLLBACKS, rollback.Rollback) for folder in workspace.written(rollback.STEP)]
        return {(row.action, row.decided_by, row.reason) for rows in tables for row in rows}

    seen = {"by": "Dr.\u200b B\u00e4r\x1b[2J", "reason": "read\n40 \x07answers"}
    went = roll_back(workspace, DOCUMENTS, **seen)
    hold = read_state(workspace, "documents").hold
    assert (hold.by, hold.reason) == ("Dr. B\u00e4r[2J", "read 40 answers")
    assert recorded() == {("rollback", "Dr. B\u00e4r[2J", "read 40 answers")}
    released = release(workspace, DOCUMENTS, **seen)
    assert recorded() == {(action, "Dr. B\u00e4r[2J", "read 40 answers") for action in ("rollback", "release")}
    assert released.sentence.startswith("released by Dr. B\u00e4r[2J; ")
    assert went.sentence.isprintable()
    assert released.sentence.isprintable()


def test_what_nobody_holds_cannot_be_released(workspace: Workspace, twice: tuple[Contender, Contender]):
    with pytest.raises(InputRefused, match="the pointer is not held"):
        release(workspace, DOCUMENTS, **ADLER)


@pytest.mark.parametrize(
    "changes", [{"decided_by": " "}, {"reason": ""}, {"decided_by": "g\u0430te"}, {"decided_by": "\u200b"}, {"reason": "42 -"}]
)
def test_a_rollback_that_names_nobody_fails_its_rule(tmp_path: Path, changes: dict[str, str]):
    row = rollback.Rollback(
        line="documents", action="rollback", decided_by="Dr. Adler", reason="why", from_variant="adapter", from_data_version="a",
        to_variant="base", to_data_version="",
    )  # fmt: skip
    [rule] = rollback.RULES
    rollback.write_rollback(tmp_path, row)
    assert rule.holds(tmp_path).passed
    write_table(tmp_path / rollback.ROLLBACKS, rollback.Rollback, [replace(row, **changes)])
    assert not rule.holds(tmp_path).passed
