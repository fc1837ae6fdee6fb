"""What a report says. If these passed wrongly, a reviewer would sign for numbers, failures or checks that are not the evaluation's."""

import base64
import io
import json
import shutil
from dataclasses import replace

import pytest
from PIL import Image

from medvl_lib.benchmark.publish import ask
from medvl_lib.errors import InputMissing, InputRefused
from medvl_lib.evaluation.metrics import METRICS
from medvl_lib.files import read_json, write_json
from medvl_lib.report import gather as room
from medvl_lib.report.content import as_json, from_json
from medvl_lib.report.gather import find, gather
from medvl_lib.workspace import Workspace
from tests.benchmark.evaluated import run
from tests.report.reported import NOW, PLANTED, SHOWN, reported


def test_the_worst_pairs_are_those_of_the_lowest_score_and_of_the_largest_loss(report):
    assert [(found.pair_id, found.scores) for found in report.examples.lowest] == [
        ("p003", {"base": 0.0, "adapter": 0.0}), ("p007", {"base": 1.0, "adapter": 0.0}),
        ("p000", {"base": 0.0, "adapter": 0.5}), ("p002", {"base": 0.0, "adapter": 0.5}),
    ]  # fmt: skip
    assert [found.pair_id for found in report.examples.lost] == ["p007"]


def test_where_less_is_better_the_highest_score_is_the_worst(report, evaluated, monkeypatch: pytest.MonkeyPatch):
    decisions = (replace(report.decision, primary_metric="hallucinated_pair_rate"),)
    assert not METRICS["hallucinated_pair_rate"].is_higher_better
    monkeypatch.setattr(room, "read_decisions", lambda _: decisions)
    found = gather(evaluated.workspace, find(evaluated.workspace, "documents"), SHOWN, NOW).examples
    worst = ask(
        evaluated.workspace,
        "select max(value) from scores where metric = 'hallucinated_pair_rate' and variant = 'adapter' and condition = 'as_is'",
    ).rows[0][0]
    assert found.lowest[0].scores["adapter"] == worst


def test_an_example_has_what_was_asked_wanted_and_said_and_its_picture_scaled_down(report):
    worst = report.examples.lowest[0]
    assert (worst.request, worst.wanted, worst.said) == (PLANTED, PLANTED, {"base": "", "adapter": PLANTED})
    [picture] = worst.pictures
    image = Image.open(io.BytesIO(base64.b64decode(picture.data_uri.removeprefix("data:image/jpeg;base64,"))))
    assert image.size == (picture.width_pixels, picture.height_pixels) == (640, 160)


def test_a_long_text_is_cut_and_says_by_how_much():
    from medvl_lib.report.quotes import MAX_CHARACTERS, _cut

    assert _cut("x" * MAX_CHARACTERS) == "x" * MAX_CHARACTERS
    assert _cut("x" * (MAX_CHARACTERS + 3)).endswith("x [... 3 characters more]")


def test_what_may_not_be_shown_is_counted_and_not_quoted(report):
    found = [(withheld.dataset, withheld.licence, withheld.num_pairs) for withheld in report.examples.withheld]
    assert found == [("forms", "not stated", 1), ("secret", "CC0-1.0", 4)]
    assert {example.licence for example in report.examples.lowest} == {"CC0-1.0"}


def test_where_nothing_may_be_shown_nothing_is_quoted(evaluated):
    found = gather(evaluated.workspace, find(evaluated.workspace, "documents"), {}, NOW).examples
    assert (found.lowest, found.lost) == ((), ())
    assert [(withheld.dataset, withheld.num_pairs) for withheld in found.withheld] == [("forms", 59), ("forms", 1), ("secret", 4)]


def test_closed_answers_are_counted_by_what_was_wanted_and_said(report):
    counts = {found.variant: found.counts for found in report.confusions}
    nothing = {"yes": 0, "no": 0, "unparsable": 0}
    assert counts["adapter"] == {
        "yes": {"yes": 1, "no": 0, "unparsable": 1},
        "no": {**nothing, "unparsable": 1},
        "other": {**nothing, "no": 1},
    }
    assert counts["base"] == {"yes": {**nothing, "yes": 1, "no": 1}, "no": {**nothing, "no": 1}, "other": {**nothing, "no": 1}}


def test_every_directory_behind_the_decision_is_recorded_after_its_inputs(report, evaluated):
    steps = [record.step for record in report.records]
    assert set(steps) == {"chat", "audit", "adapter", "predictions", "scores", "benchmark", "promotion"}
    assert steps.index("chat") < steps.index("audit") < steps.index("predictions") < steps.index("scores") < steps.index("promotion")
    [scores] = [record for record in report.records if record.step == "scores"]
    assert scores.fingerprint == evaluated.scores.fingerprint
    assert {verdict.rule: verdict.outcome.passed for verdict in scores.verdicts} == {
        "every_test_pair_is_predicted": False, "no_answer_is_scored_twice": True, "scores_are_in_range": True,
        "few_scores_are_missing": False,
    }  # fmt: skip


def test_the_json_has_every_verdict_on_every_directory_word_by_word(report, evaluated):
    """Numbers and offenders as the checks said them, of each directory that the decision stands on."""
    told = {f"{record['step']}/{record['name']}/{record['fingerprint']}": record for record in json.loads(as_json(report))["records"]}
    judged = list(evaluated.workspace.root.glob("*/*/[!.]*/verdicts.json"))
    assert len(judged) >= 3
    for path in judged:
        said = told[path.parent.relative_to(evaluated.workspace.root).as_posix()]["verdicts"]
        assert [
            {"rule": one["rule"], "bounds": one["bounds"], "is_blocking": one["is_blocking"], "outcome": one["outcome"]} for one in said
        ] == (read_json(path)["verdicts"])
    assert sum(len(record["verdicts"]) for record in told.values()) == sum(len(read_json(path)["verdicts"]) for path in judged)


def test_the_audit_is_told_by_dataset_and_split(report):
    [part] = report.audit.parts
    assert (part.dataset, part.split, part.num_conversations, part.mean_tokens, part.longest_tokens) == ("forms", "test", 60, 129.5, 159)
    assert (part.mean_image_tokens, part.mean_target_tokens, part.smallest_glyph_pixels) == (16, 40, 8)
    assert report.audit.limits["max_tokens"] == 4096


def test_the_json_holds_the_whole_report(report):
    assert from_json(as_json(report)) == report


def test_a_named_evaluation_is_reported_and_an_unknown_one_refused_with_the_known_ones(report, evaluated):
    assert find(evaluated.workspace, "documents", report.evaluation_id).benchmark.fingerprint == evaluated.benchmark.fingerprint
    with pytest.raises(InputMissing) as refusal:
        find(evaluated.workspace, "documents", "e1")
    assert refusal.value.do == f"name one of {report.evaluation_id}"


def test_the_decision_is_the_one_on_the_same_scores(tmp_path):
    first = run(tmp_path, 8)
    second = run(tmp_path, 8, weights="w2")
    assert find(first.workspace, "documents").promotion.fingerprint == second.promotion.fingerprint
    earlier = find(first.workspace, "documents", str(first.benchmark.facts["evaluation_id"]))
    assert earlier.promotion.fingerprint == first.promotion.fingerprint


def test_what_was_not_measured_or_not_decided_on_is_said_with_its_cure(tmp_path):
    with pytest.raises(InputMissing, match="no evaluation of documents"):
        find(Workspace(root=tmp_path), "documents")
    workspace = run(tmp_path, 8).workspace
    for path in workspace.written("promotion"):
        path.rename(path.with_name(f".{path.name}"))
    with pytest.raises(InputMissing, match="no decision on evaluation"):
        find(workspace, "documents")


def test_what_did_not_pass_is_no_evaluation(tmp_path):
    evaluated = run(tmp_path, 8)
    verdicts = evaluated.promotion.directory / "verdicts.json"
    said = read_json(verdicts)
    said["verdicts"][0]["outcome"]["passed"] = False
    write_json(verdicts, said)
    with pytest.raises(InputMissing, match="no decision on evaluation"):
        find(evaluated.workspace, "documents")


def test_a_damaged_directory_is_not_reported_on(tmp_path):
    evaluated = reported(tmp_path)
    (evaluated.predictions.directory / "predictions.parquet").write_bytes(b"cut off")
    with pytest.raises(InputRefused, match="a damaged directory"):
        gather(evaluated.workspace, find(evaluated.workspace, "documents"), SHOWN, NOW)


def test_a_directory_that_is_gone_is_named(tmp_path):
    evaluated = reported(tmp_path)
    [audited] = evaluated.workspace.written("audit")
    shutil.rmtree(audited)
    with pytest.raises(InputMissing) as refusal:
        gather(evaluated.workspace, find(evaluated.workspace, "documents"), SHOWN, NOW)
    assert refusal.value.where == str(audited)
