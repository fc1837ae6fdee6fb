"""Whether two forms say the same. If these passed wrongly, a server that says something else than what was judged would be called the same,
or a promotion be stopped for a rounding error.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import sacrebleu

from medvl_lib.evaluation.parity import (
    ANSWERS,
    SCORES,
    Answers,
    ComparedAnswer,
    ComparedScore,
    Form,
    Heard,
    ParitySpec,
    compared_scores,
    first_difference,
    rules,
    write_parity,
)
from medvl_lib.evaluation.predictions import Reference
from medvl_lib.pairs import Triple
from medvl_lib.tables import read_table

SPEC = ParitySpec()
PAGE = "Potassium: 4.1 mmol/L\nSodium: 139 mmol/L"


def reference(number: int, group: int | None = None) -> Reference:
    expected = (Triple(term="Potassium", value="4.1", unit="mmol/L"), Triple(term="Sodium", value="139", unit="mmol/L"))
    return Reference(
        pair_id=f"forms/test/{number:03d}", dataset="forms", split="test", group_id=f"d{number if group is None else group}", language="en",
        licence="CC0-1.0", request="List every term.", response=PAGE, expected=expected, slices={}, glyph_height_pixels=None,
    )  # fmt: skip


def answers(*texts: str, batch_size: int = 1) -> Answers:
    return {reference(number).pair_id: Heard(text, batch_size) for number, text in enumerate(texts)}


def written(directory: Path, forms: dict[Form, Answers], *, num_groups: int | None = None) -> dict[str, str]:
    """Writes the comparison; returns the rules that fail, and what they found."""
    directory.mkdir()
    references = [reference(number, None if num_groups is None else number % num_groups) for number in range(len(forms["evaluated"]))]
    write_parity(directory, forms, references, SPEC)
    outcomes = {rule.name: rule.holds(directory) for rule in rules(SPEC, 20)}
    return {name: found.found for name, found in outcomes.items() if not found.passed}


def forms(num_pairs: int, *, evaluated_in: int = 1, **said: Answers) -> dict[Form, Answers]:
    """Every form saying the same, but for those that are named."""
    same: dict[Form, Answers] = {
        "evaluated": answers(*[PAGE] * num_pairs, batch_size=evaluated_in), "reloaded": answers(*[PAGE] * num_pairs),
        "batched": answers(*[PAGE] * num_pairs, batch_size=evaluated_in), "http": answers(*[PAGE] * num_pairs),
    }  # fmt: skip
    return {**same, **said}  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("text", "other", "place"), [("K: 4.1", "K: 4.1", None), ("K: 4.1", "K: 4.7", 5), ("K", "K: 4.1", 1), ("K: 4.1", "", 0), ("", "", None)]
)
def test_the_first_difference_is_where_the_texts_part(text: str, other: str, place: int | None):
    assert first_difference(text, other) == place
    assert first_difference(other, text) == place


def test_forms_that_say_the_same_pass_every_rule(tmp_path: Path):
    assert written(tmp_path / "parity", forms(20)) == {}


def test_one_other_text_of_200_is_too_many_where_pairs_are_answered_alone(tmp_path: Path):
    other = answers(*[PAGE] * 199, PAGE.replace("139", "138"))
    failed = written(tmp_path / "http", forms(200, http=other))
    assert list(failed) == ["http_answers_are_the_served_answers"]
    assert failed["http_answers_are_the_served_answers"].startswith(
        "http: 199 of 200 answers are those of reloaded, the others part from it at character 32 or later; most in "
    )
    failed = written(tmp_path / "alone", forms(200, reloaded=other, http=other))
    assert list(failed) == ["served_answers_are_the_evaluated_answers"]


def test_two_other_texts_of_200_are_allowed_where_they_were_answered_in_batches_and_three_are_not(tmp_path: Path):
    for number, is_allowed in ((2, True), (3, False)):
        other = answers(*[PAGE] * (200 - number), *[PAGE.replace("139", "138")] * number)
        failed = written(tmp_path / str(number), forms(200, evaluated_in=32, reloaded=other, http=other))
        assert list(failed) == ([] if is_allowed else ["served_answers_are_the_evaluated_answers"])


def test_a_text_of_a_batch_of_one_at_the_end_is_held_to_the_letter(tmp_path: Path):
    """The last batch of 33 pairs holds one: nothing was padded for it."""
    evaluated = {**answers(*[PAGE] * 200, batch_size=32), **answers(PAGE)}
    other = answers(PAGE.replace("139", "138"), *[PAGE] * 199)
    failed = written(tmp_path / "parity", forms(200, evaluated=evaluated, reloaded=other, http=other))
    assert list(failed) == ["served_answers_are_the_evaluated_answers"]


def test_few_other_texts_with_a_shown_difference_of_scores_are_too_many(tmp_path: Path):
    """Both pairs of each of two documents lose a point: no resample of these clusters is without a loss."""
    other = answers(*[PAGE] * 198, *["Potassium: 4.1 mmol/L"] * 2)
    failed = written(tmp_path / "parity", forms(200, evaluated_in=32, reloaded=other, http=other), num_groups=2)
    assert list(failed) == ["served_answers_are_the_evaluated_answers"]
    assert "most in term_recall -0.0050 [-0.0050, -0.0050]" in failed["served_answers_are_the_evaluated_answers"]


def test_the_difference_of_scores_is_paired_and_clustered():
    said, there = answers(PAGE, "Potassium: 4.1 mmol/L", ""), answers(PAGE, PAGE, "Sodium: 139 mmol/L")
    references = [reference(0), reference(1), reference(2)]
    found = {row.metric: row for row in compared_scores("merged", said, "batched", there, references, SPEC)}
    row = found["pair_accuracy"]
    assert (row.mean, row.mean_against, row.difference) == (0.5, pytest.approx(5 / 6), pytest.approx(-1 / 3))
    assert row.ci_low == pytest.approx(-0.5)
    assert row.ci_high == 0.0
    assert (row.num_pairs, row.num_clusters) == (3, 3)
    assert {"term_recall", "value_recall", "hallucinated_pair_rate"} <= set(found)
    assert "closed_accuracy" not in found


def test_a_corpus_metric_is_compared_over_all_pairs_at_once_and_languages_apart():
    """BLEU of two pages together is not the mean of theirs; a page without expected facts is a transcription."""
    pages = ("The heart is of normal size and shape .", "No effusion is seen on either side today .", "心脏大小正常，未见胸腔积液。")
    references = [
        replace(reference(number), expected=(), response=text, language="zh" if number == 2 else "en") for number, text in enumerate(pages)
    ]  # fmt: skip
    there = answers(*pages)
    said = answers(pages[0], "No effusion is seen .", pages[2])
    found = [row for row in compared_scores("merged", said, "batched", there, references, SPEC) if row.metric == "bleu_4"]
    assert [(row.num_pairs, row.mean_against) for row in found] == [(2, pytest.approx(100)), (1, pytest.approx(100))]
    assert len({row.signature for row in found}) == 2
    english, chinese = found
    together = sacrebleu.corpus_bleu([pages[0], "No effusion is seen ."], [list(pages[:2])], lowercase=True).score
    assert english.mean == pytest.approx(together)
    assert english.difference == pytest.approx(together - 100)
    assert (chinese.difference, chinese.ci_low) == (0, None)


def test_merged_weights_that_say_something_else_warn_and_do_not_block(tmp_path: Path):
    merged = answers(*["Potassium: 4.1 mmol/L"] * 20, batch_size=32)
    failed = written(tmp_path / "parity", forms(20, evaluated_in=32, merged=merged))
    assert list(failed) == ["merging_changes_no_score"]
    assert failed["merging_changes_no_score"].startswith(
        "0 of 20 answers stay the same in 16 bit; merged minus adapter: term_recall -0.5000"
    )
    assert [rule.name for rule in rules(SPEC, 20) if not rule.is_blocking] == ["merging_changes_no_score"]


def test_other_texts_of_merged_weights_that_score_the_same_do_not_warn(tmp_path: Path):
    merged = answers(*[f"{PAGE}\n"] * 20, batch_size=32)
    assert written(tmp_path / "parity", forms(20, evaluated_in=32, merged=merged)) == {}


def test_on_few_pairs_nothing_says_that_merging_changes_no_score_and_nothing_is_blocked(tmp_path: Path):
    merged = answers(*[f"{PAGE}\n"] * 2, batch_size=32)
    failed = written(tmp_path / "parity", forms(2, evaluated_in=32, merged=merged))
    assert list(failed) == ["merging_changes_no_score"]
    assert failed["merging_changes_no_score"].startswith(
        "not decidable with 2 pairs (needed: 20): 0 of 2 answers stay the same in 16 bit; "
    )


def test_no_text_is_kept(tmp_path: Path):
    other = answers(*[PAGE.replace("139", "138")] * 5)
    written(tmp_path / "parity", forms(5, http=other))
    for path in (tmp_path / "parity").iterdir():
        assert b"Potassium" not in path.read_bytes()
    assert [row.first_difference for row in read_table(tmp_path / "parity" / ANSWERS, ComparedAnswer) if row.form == "http"] == [32] * 5
    assert {row.form for row in read_table(tmp_path / "parity" / SCORES, ComparedScore)} == {"reloaded", "batched", "http"}


def test_a_pair_that_a_form_did_not_answer_is_no_comparison(tmp_path: Path):
    with pytest.raises(KeyError, match="forms/test/004"):
        written(tmp_path / "parity", forms(5, http=answers(*[PAGE] * 4)))


@pytest.mark.parametrize(
    ("name", "value"), [("max_pairs", 0), ("min_equal_share", 0.5), ("min_equal_share", 1.1), ("confidence", 1.0), ("confidence", 0.5)]
)
def test_bounds_that_compare_nothing_or_let_everything_pass_are_refused(name: str, value: float):
    with pytest.raises(ValueError, match=f"{name} = {value}"):
        replace(SPEC, **{name: value})
