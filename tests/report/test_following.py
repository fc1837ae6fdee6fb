"""What follows a decision, in its report. If these passed wrongly, a reviewer would sign without parity's verdicts or the check on what is
served, or read a verdict that a person has long overruled.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from medvl_lib.benchmark.gate import CostLimit, Gate, Guardrail
from medvl_lib.benchmark.publish import ask
from medvl_lib.benchmark.terms import NOT_KEPT, TERMS, otherwise, read_terms
from medvl_lib.files import read_json, write_json
from medvl_lib.lines import DOCUMENTS
from medvl_lib.pointer import move_pointer, pointer_id, read_pointer
from medvl_lib.provenance import Artifact, Outcome, Rule, judge, read_artifact, write_step
from medvl_lib.report.content import Report, as_json, from_json
from medvl_lib.report.gather import find, gather, standing
from medvl_lib.report.html import read_table_of, render_html
from medvl_lib.report.markdown import render_markdown
from medvl_lib.route.reporting import report_step
from medvl_lib.step import Call
from tests.benchmark.evaluated import Evaluated, overrule
from tests.report.reported import NOW, SHOWN, reported


@pytest.fixture
def own(tmp_path: Path) -> Evaluated:
    """An evaluation that a test may go on from."""
    return reported(tmp_path)


def step(evaluated: Evaluated, name: str, inputs: Sequence[Artifact], passed: bool | None = True, version: str = "v1", **facts) -> Artifact:
    """A directory of the line, judged by one rule named after its step; not judged where ``passed`` is None."""

    def write(folder: Path) -> dict[str, object]:
        write_json(folder / "content.json", version)
        return facts

    written = write_step(evaluated.workspace, name, "documents", version, inputs, write)
    if passed is not None:
        judge(evaluated.workspace, written, [Rule(name=f"{name}_holds", sentence="", holds=lambda _: Outcome(passed=passed, found="seen"))])
    return written


def told(evaluated: Evaluated, without: Sequence[str] = ()) -> Report:
    return gather(evaluated.workspace, find(evaluated.workspace, "documents"), SHOWN, NOW, without)


def checked(page: str) -> dict[str, str]:
    return {f"{row['asset']} {row['check']}": row["verdict"] for row in read_table_of(page, "checks")}


def paragraphs(report: Report) -> str:
    return render_markdown(report).replace("\\", "")


def test_verdicts_on_what_follows_the_decision_stand_in_every_form_passed_or_failed(own):
    parity = step(own, "parity", [own.promotion], passed=False)
    step(own, "served_model", [own.promotion, parity], pointer="")
    report = told(own)
    verdicts = {"documents/parity parity_holds": "FAILED", "documents/served_model served_model_holds": "passed"}
    assert verdicts.items() <= checked(render_html(report)).items()
    for asset, verdict in (("documents/parity", "FAILED"), ("documents/served_model", "passed")):
        assert f"| {asset} | {asset.split('/')[1]}_holds | {verdict} |" in paragraphs(report)
    machine = {record["step"]: record["verdicts"] for record in json.loads(as_json(report))["records"]}
    assert [one["outcome"]["passed"] for name in ("parity", "served_model") for one in machine[name]] == [False, True]
    assert from_json(as_json(report)) == report


def test_what_is_signed_stands_on_the_first_page_with_verdict_evaluation_and_content_hash(own):
    head = render_html(told(own)).split("</header>")[0]
    for said in ('class="verdict promote"', told(own).evaluation_id, "content hash of what is served: w1-base", "Reviewed by", "Signature"):
        assert said in head
    assert render_html(told(own)).count("Signature</div>") == 1
    overrule(own, "adapter", "Dr. Adler")
    assert told(own).served_data_version == read_pointer(own.workspace, "documents").data_version
    assert "Its weights have the content hash" in paragraphs(told(own))


def test_checks_that_failed_stand_directly_below_the_verdict(own):
    assert "2 checks failed: every_test_pair_is_predicted, few_scores_are_missing." in paragraphs(told(own))
    written = step(own, "near_duplicates", [read_artifact(next(iter(own.workspace.written("chat"))))], passed=None)
    judge(own.workspace, written, [Rule(
        name="no_picture_stands_nearly_twice", sentence="", is_blocking=False,
        holds=lambda _: Outcome(passed=False, found="1 held-out pictures", offenders=("a (test) = b (train)",)),
    )])  # fmt: skip
    verdict, failed, *found = paragraphs(told(own)).split("## Verdict")[1].strip().split("\n\n")
    assert verdict.startswith("Promote: ")
    assert failed == "3 checks failed: every_test_pair_is_predicted, few_scores_are_missing, no_picture_stands_nearly_twice."
    assert found[2] == (
        "no_picture_stands_nearly_twice of documents/near_duplicates (it does not block): 1 held-out pictures: a (test) = b (train)"
    )


def test_on_how_many_pairs_it_was_asked_again_stands_beside_the_verdict(own):
    assert "Whether what would be served says what was judged had not been asked" in paragraphs(told(own))
    step(own, "parity", [own.promotion], passed=False, num_pairs=2, num_clusters=1, equal_share_http_reloaded=0.5)
    said = paragraphs(told(own)).split("## The rule")[0]
    assert "Parity: what would be served was asked again on 2 test pairs of 1 patients or documents. " in said
    assert "The same text: http against reloaded 50.0%. Not passed: parity_holds." in said


def test_what_is_not_there_yet_is_named(own):
    assert told(own).awaited == ("parity", "served_model", "report")
    assert "so that their checks are not in this table: documents/parity, documents/served_model, documents/report" in paragraphs(told(own))
    parity = step(own, "parity", [own.promotion], passed=None)
    assert told(own).awaited == ("served_model", "report")
    assert "Never judged:" in paragraphs(told(own))
    assert "documents/parity" in paragraphs(told(own)).split("Never judged:")[1].split(".")[0]
    step(own, "served_model", [own.promotion, parity], pointer="")
    step(own, "report", [own.benchmark, own.promotion, parity])
    assert told(own).awaited == ()
    assert "Not made yet" not in paragraphs(told(own))
    assert told(own, without=("report",)).awaited == ("report",)  # a step's own report is judged when it stands


def test_only_what_was_made_of_this_decision_is_told_and_of_each_step_the_newest(own):
    elsewhere = step(own, "promotion", [own.scores], passed=None, version="another decision")
    step(own, "parity", [elsewhere], version="of another decision")
    assert "parity" in told(own).awaited
    old = step(own, "parity", [own.promotion], passed=False, version="old")
    record = old.directory / "provenance.json"
    write_json(record, {**read_json(record), "finished_at": "2026-01-01T00:00:00+00:00"})
    new = step(own, "parity", [own.promotion], version="new")
    step(own, "served_model", [own.promotion, old], version="on the old one", pointer="")
    report = told(own)
    assert [record.fingerprint for record in report.records if record.step == "parity"] == [new.fingerprint]
    assert report.awaited == ("served_model", "report")


def test_checks_beside_the_route_are_told_with_what_they_stand_on(own):
    """An encoder has a base model of its own, which is no input of the answers."""
    [chat] = own.workspace.written("chat")
    base = step(own, "encoder_base_model", [])
    step(own, "encoder", [read_artifact(chat), base])
    step(own, "review_sheets", [own.scores], passed=None)
    steps = [record.step for record in told(own).records]
    assert steps.index("encoder_base_model") < steps.index("encoder")
    assert "review_sheets" not in steps


def test_a_check_on_what_was_served_before_says_so(own):
    parity = step(own, "parity", [own.promotion])
    step(own, "served_model", [own.promotion, parity], pointer=pointer_id(None))
    assert not told(own).has_moved
    overrule(own, "adapter", "Dr. Adler")
    assert told(own).has_moved
    assert "What is served has changed since documents/served_model was checked" in paragraphs(told(own))


# -- a person's decision -----------------------------------------------------------------------------------------------
def test_title_page_json_and_store_agree_on_whose_decision_is_in_force(own):
    before = told(own)
    assert (before.headline, before.in_force) == ("promote", None)
    overrule(own, "base", "Dr. Adler")
    report = told(own)
    assert report.headline == "base by decision of Dr. Adler; the gate: promote"
    page, text = render_html(report), paragraphs(report)
    assert "<title>documents: base by decision of Dr. Adler; the gate: promote</title>" in page
    assert "base by decision of Dr. Adler</span>" in page
    assert "the gate: promote</span>" in page
    assert text.startswith("# documents: base by decision of Dr. Adler; the gate: promote")
    assert "Decided by Dr. Adler, for base: Dr. Adler read forty answers. That is in force; what the gate said stays on record:" in text
    assert "When this was written, documents serves base" in text
    machine = json.loads(as_json(report))
    assert (machine["in_force"]["decided_by"], machine["decisions"][0]["verdict"]) == ("Dr. Adler", "promote")
    [served] = ask(own.workspace, "select decided_by, challenger, reasons[1] from promotion_decisions where is_served").rows
    assert served == (report.in_force.decided_by, report.in_force.challenger, report.in_force.reasons[0])


def test_a_person_who_was_overruled_in_turn_is_told_and_not_in_force(own):
    overrule(own, "base", "Dr. Adler")
    overrule(own, "nf4", "Dr. Bär")
    report = told(own)
    assert (report.in_force.decided_by, report.in_force.challenger) == ("Dr. Bär", "nf4")
    assert "Dr. Adler had decided for base: Dr. Adler read forty answers. That is not in force any more." in paragraphs(report)
    pointer = read_pointer(own.workspace, "documents")
    move_pointer(own.workspace, replace(pointer, decision_step="promotion", decision="later"))
    assert told(own).in_force is None
    assert told(own).headline == "promote"


# -- the rule ----------------------------------------------------------------------------------------------------------
def test_the_rule_that_was_applied_stands_in_words_and_for_machines(tmp_path: Path):
    gate = Gate(
        guardrails=(Guardrail(metric="hallucinated_pair_rate", margin=0.05),),
        cost_limits=(CostLimit(measure="memory_peak", max_ratio=2.0),),
    )
    made = reported(tmp_path, gate)
    report = told(made)
    shown = [(row["what"], row["rule"]) for row in read_table_of(render_html(report), "rule")]
    assert {
        ("primary metric", "pair_accuracy"), ("candidate adapter", "must be better"),
        ("candidate nf4", "may be worse by less than 0.05, if it needs less memory"),
        ("guardrail", "hallucinated_pair_rate in all not worse than the champion's by 0.05 or more"),
        ("cost limit", "memory peak at most 2.0 times the champion's"), ("fewest test pairs", 50.0), ("fewest patients or documents", 7.0),
        ("confidence, over all looks at one test set together", 0.95), ("looks at this test set so far, this one included", 1.0),
    } <= set(shown)  # fmt: skip
    assert json.loads(as_json(report))["terms"]["gate"]["guardrails"] == [
        {"metric": "hallucinated_pair_rate", "margin": 0.05, "slice": "all"}
    ]
    assert from_json(as_json(report)) == report


def test_a_decision_under_other_settings_than_today_says_which(own):
    assert told(own).decided_otherwise == ""
    today = replace(
        NOW, gate=replace(NOW.gate, min_pairs=40, primary_metric="rouge_l"), evaluation=replace(NOW.evaluation, max_answer_tokens=9)
    )
    judged = find(own.workspace, "documents")
    report = gather(own.workspace, judged, SHOWN, today)
    names = "gate.min_pairs, gate.primary_metric, evaluation.max_answer_tokens"
    assert report.decided_otherwise == f"decided under other settings: {names}"
    assert f"The settings are others by now: decided under other settings: {names}. What stands here was decided under" in paragraphs(
        report
    )
    assert standing(own.workspace, judged, today) != standing(own.workspace, judged, NOW)


def test_a_decision_of_an_earlier_version_says_that_its_settings_were_not_kept(own):
    (own.promotion.directory / TERMS).unlink()
    assert otherwise(own.promotion.directory, NOW) == NOT_KEPT
    assert read_terms(own.promotion.directory) is None


# -- identity ----------------------------------------------------------------------------------------------------------
def test_whatever_a_report_tells_anew_makes_it_another_one(own):
    judged = find(own.workspace, "documents")

    def now() -> str:
        return standing(own.workspace, judged, NOW)

    seen = [now(), now()]
    assert seen[0] == seen[1]
    parity = step(own, "parity", [own.promotion])
    seen.append(now())
    step(own, "parity", [own.promotion], passed=False)  # the same directory, judged otherwise
    seen.append(now())
    step(own, "served_model", [own.promotion, parity], pointer="")
    seen.append(now())
    overrule(own, "base", "Dr. Adler")
    seen.append(now())
    assert len(set(seen)) == 5
    step(own, "report", [own.benchmark, own.promotion])
    assert now() == seen[-1]  # a report is not about itself


def test_the_step_reads_parity_before_it_writes_and_is_another_one_for_whatever_it_tells_anew(own, tmp_path: Path):
    made = report_step(DOCUMENTS)
    assert {source.key for source in made.reads} == {
        f"{name}/documents" for name in ("benchmark", "promotion", "near_duplicates", "parity")
    }
    inputs = {"benchmark/documents": own.benchmark, "promotion/documents": own.promotion}
    assert made.observe(own.workspace, inputs) == standing(own.workspace, find(own.workspace, "documents"), NOW)
    step(own, "parity", [own.promotion])
    step(own, "report", [own.benchmark, own.promotion])  # one that was written before
    folder = tmp_path / "beside"
    folder.mkdir()
    call = Call(directory=folder, fingerprint="f", observed="", workspace=own.workspace, inputs=inputs, report=lambda _: None)
    facts = made.write(call)
    assert (facts["verdict"], facts["decided_by"]) == ("promote", "gate")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert checked(page)["documents/parity parity_holds"] == "passed"
    assert "not in this table: documents/served_model, documents/report." in page


# -- reasons -----------------------------------------------------------------------------------------------------------
def test_every_reason_stands_in_page_json_and_store_alike(own):
    report = told(own)
    page = [row["reason"] for row in read_table_of(render_html(report), "reasons-adapter")]
    machine = json.loads(as_json(report))["decisions"][0]["reasons"]
    [(stored,)] = ask(own.workspace, "select reasons from promotion_decisions where challenger = 'adapter'").rows
    assert page == machine == stored == list(report.decision.reasons)
    assert len(stored) > 5
