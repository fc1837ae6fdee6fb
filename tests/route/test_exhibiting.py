"""What the UI shows of each step. If these passed wrongly, a picture or table of the graph would say something else than what was
written.
"""

from dataclasses import replace
from pathlib import Path
from xml.etree.ElementTree import fromstring

import numpy as np
import pytest

from medvl_lib.benchmark.promotion import read_decisions
from medvl_lib.benchmark.publish import ask
from medvl_lib.evaluation.galleries import Vectors, write_retrieval
from medvl_lib.exhibits import ShownTable
from medvl_lib.hardware import PROFILES
from medvl_lib.lines import DOCUMENTS, ENCODER, tiny
from medvl_lib.report.gather import find, gather
from medvl_lib.report.results import controls
from medvl_lib.route.exhibiting import exhibits_of
from medvl_lib.route.line import line_steps
from tests.benchmark.evaluated import Evaluated
from tests.evaluation.test_galleries import item
from tests.report.reported import NOW, SHOWN, reported
from tests.training.test_overfit import write_losses

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    return reported(tmp_path_factory.mktemp("exhibited"))


def exhibit(step: str, name: str, directory: Path):
    [found] = [exhibit for exhibit in exhibits_of(DOCUMENTS)[step] if exhibit.name == name]
    return found.show(directory)


def records(table: ShownTable) -> list[dict[str, object]]:
    return [dict(zip([column.name for column in table.columns], row, strict=True)) for row in table.rows]


def test_steps_that_judge_or_train_show_more_than_counts():
    steps = {step.name: [exhibit.name for exhibit in step.exhibits] for step in line_steps(tiny(DOCUMENTS), PROFILES["cpu"])}
    assert {name: names for name, names in steps.items() if names} == {
        "overfit": ["loss"], "adapter": ["loss"], "scores": ["answers"], "benchmark": ["leaderboard", "intervals"],
        "promotion": ["decision", "reasons"], "parity": ["forms", "scores"], "report": ["page"],
    }  # fmt: skip


def test_an_encoder_shows_its_loss_by_pair_and_its_recall(tmp_path: Path):
    line = replace(DOCUMENTS, stages=(ENCODER, *DOCUMENTS.stages))
    shown = {step.name: [exhibit.name for exhibit in step.exhibits] for step in line_steps(line, PROFILES["cpu"])}
    assert (shown["encoder"], shown["retrieval"], shown["index"]) == (["loss"], ["recall"], [])
    one = Vectors(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32))
    write_retrieval(tmp_path, [item(0, "x"), item(1, "y")], ["a", "b"], {"base": one, "trained": one})
    [recall] = exhibits_of(line)["retrieval"]
    rows = records(recall.show(tmp_path))
    assert [(row["variant"], row["direction"], row["cutoff"], row["recall"], row["chance"]) for row in rows[:2]] == [
        ("base", "image_to_text", 1, 1.0, 0.5), ("base", "image_to_text", 5, 1.0, 1.0),
    ]  # fmt: skip
    write_losses(tmp_path, 10.0, 2.0)
    [curve] = exhibits_of(line)["encoder"][0].show(tmp_path)
    assert curve.caption == "Loss of the stage encoder in nats per pair, by optimizer step"


def test_the_leaderboard_is_that_of_the_view_best_first(evaluated: Evaluated):
    shown = [
        (row["dataset"], row["metric"], row["condition"], row["variant"], row["mean"])
        for row in records(exhibit("benchmark", "leaderboard", evaluated.benchmark.directory))
    ]
    stored = ask(evaluated.workspace, "select dataset, metric, condition, variant, mean from leaderboard").rows
    assert sorted(shown) == sorted(stored)
    of_one = [mean for dataset, metric, condition, _, mean in shown if (metric, condition) == ("pair_accuracy", "as_is")]
    assert of_one == sorted(of_one, reverse=True)


def test_the_intervals_are_those_of_the_report_by_the_metric_that_decides(evaluated: Evaluated):
    [picture] = exhibit("benchmark", "intervals", evaluated.benchmark.directory)
    drawn = fromstring(picture.svg)  # noqa: S314 (our own drawing)
    report = gather(evaluated.workspace, find(evaluated.workspace, "documents"), SHOWN, NOW)
    in_page = fromstring(next(block for block in controls(report) if not isinstance(block, str)).svg)  # noqa: S314 (our own drawing)
    assert [text.text for text in drawn.iter(f"{SVG}text")] == [text.text for text in in_page.iter(f"{SVG}text")]
    assert picture.caption == "pair_accuracy on forms, with 95 % intervals, 60 pairs of 60 clusters (0 to 1, higher is better)"
    assert (drawn.get("width"), drawn.find(f"{SVG}style") is not None) == ("720", True)


def test_answers_are_counted_by_variant_metric_and_state(evaluated: Evaluated):
    shown = records(exhibit("scores", "answers", evaluated.scores.directory))
    counted = {
        (row["variant"], row["answer_state"]): row["num_answers"]
        for row in shown if (row["condition"], row["metric"]) == ("as_is", "pair_accuracy")
    }  # fmt: skip
    assert (counted["adapter", "empty"], counted["adapter", "complete"]) == (2, 58)  # pages 5 and 7; on page 3 it says something wrong
    assert (counted["base", "empty"], counted["floor_empty", "empty"]) == (59, 60)
    total = sum(row["num_answers"] for row in shown)
    assert ask(evaluated.workspace, "select count(*) from scores").rows == [(total,)]
    assert sum(row["num_unscored"] for row in shown) == 4  # one closed question of two variants by two metrics
    assert shown[0]["condition"] == "as_is"


def test_the_decision_has_every_number_and_every_reason(evaluated: Evaluated):
    decisions = read_decisions(evaluated.promotion.directory)
    rows = records(exhibit("promotion", "decision", evaluated.promotion.directory))
    assert [row["challenger"] for row in rows] == ["adapter"]
    assert all(getattr(decision, name) == value for decision, row in zip(decisions, rows, strict=True) for name, value in row.items())
    assert list(rows[0])[:2] == ["challenger", "verdict"]
    reasons = records(exhibit("promotion", "reasons", evaluated.promotion.directory))
    assert [row["reason"] for row in reasons] == [reason for decision in decisions for reason in decision.reasons]


def test_the_loss_is_drawn_through_the_steps_that_were_written(evaluated: Evaluated):
    [picture] = exhibit("adapter", "loss", evaluated.adapter.directory)
    [curve, *_] = fromstring(picture.svg).findall(f"{SVG}polyline")  # noqa: S314 (our own drawing)
    assert len(curve.get("points").split()) == 2
    assert "stage adapter" in picture.caption


def test_the_event_log_stays_thin(evaluated: Evaluated):
    """A picture of ten variants or a curve weighs a few kB; it stays in the log for ever."""
    [intervals] = exhibit("benchmark", "intervals", evaluated.benchmark.directory)
    assert len(intervals.svg) < 8_000
