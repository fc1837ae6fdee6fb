"""How like its picture an answer sounds. If these passed wrongly, a number would be of another pair's picture, or of an empty answer."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medvl_lib.evaluation.metrics import METRICS, SIMILARITY, of_cosine
from medvl_lib.evaluation.predictions import PREDICTIONS, Prediction
from medvl_lib.evaluation.scores import SCORES, Score, write_scores
from medvl_lib.evaluation.similarities import SIMILARITIES, read_similarities, said, write_similarities
from medvl_lib.tables import read_table, write_table
from tests.evaluation.test_scores import predicted, prediction, reference

PICTURES = {"knee": np.array([1, 0], dtype=np.float32), "chest": np.array([0, 1], dtype=np.float32)}
TEXTS = {
    "A knee.": np.array([1, 0], dtype=np.float32), "A chest.": np.array([0, 1], dtype=np.float32),
    "No knee.": np.array([-1, 0], dtype=np.float32),
}  # fmt: skip
SHOWN = {"p1": ("knee",), "p2": ("knee", "chest"), "p3": ("knee",)}


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    report = reference("p1", response="A knee.", slices={"answer_type": "report"})
    return predicted(
        tmp_path, [replace(report, pair_id=pair_id) for pair_id in SHOWN],
        [prediction("p1", "A knee."), prediction("p2", "A chest."), prediction("p3", "  ")],
    )  # fmt: skip


def test_an_answer_is_held_against_its_own_pictures(answers: Path):
    assert said(answers) == ["A knee.", "A chest."]
    assert write_similarities(answers, SHOWN, PICTURES, TEXTS) == {"num_similarities": 2}
    found = read_similarities(answers)
    assert {pair_id: value for (pair_id, _, _), value in found.items()} == {"p1": 1.0, "p2": 0.5}  # the mean over two pictures


def test_scores_have_it_of_reports_and_what_says_nothing_gets_zero(answers: Path, tmp_path: Path):
    write_similarities(answers, SHOWN, PICTURES, TEXTS)
    (tmp_path / "scores").mkdir()
    write_scores(tmp_path / "scores", answers)
    rows = [row for row in read_table(tmp_path / "scores" / SCORES, Score) if row.metric == SIMILARITY]
    assert {row.pair_id: row.value for row in rows} == {"p1": 1.0, "p2": 0.5, "p3": 0.0}
    assert {row.pair_id: row.answer_state for row in rows}["p3"] == "empty"


def test_a_line_without_an_encoder_has_no_such_score(answers: Path, tmp_path: Path):
    assert not (answers / SIMILARITIES).exists()
    (tmp_path / "scores").mkdir()
    write_scores(tmp_path / "scores", answers)
    assert SIMILARITY not in {row.metric for row in read_table(tmp_path / "scores" / SCORES, Score)}


def test_what_points_away_from_a_picture_is_as_far_as_what_has_nothing_to_do_with_it():
    assert [of_cosine(value) for value in (-1.0, -0.2, 0.0, 0.4, 1.0)] == [0.0, 0.0, 0.0, 0.4, 1.0]
    assert not METRICS[SIMILARITY].is_gateable


def test_an_answer_that_nobody_embedded_is_noticed(answers: Path):
    rows = list(read_table(answers / PREDICTIONS, Prediction))
    write_table(answers / PREDICTIONS, Prediction, [*rows, replace(rows[0], condition="blank_image", answer="Unheard.")])
    with pytest.raises(KeyError, match="Unheard"):
        write_similarities(answers, SHOWN, PICTURES, TEXTS)
