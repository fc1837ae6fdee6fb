"""Whether an export answers as it was judged. If these passed wrongly, weights that say something else would carry the scores of others."""

import json
from dataclasses import replace

from medvl_lib.evaluation.parity import Answers, ParitySpec
from medvl_lib.export.comparing import Asked, Parity, as_json, compare
from tests.evaluation.test_parity import PAGE, answers, reference

SPEC = ParitySpec()
WRONG = PAGE.replace("4.1", "4.7")


def compared(
    exported: Answers, own: Answers, *, is_judged: bool = True, evaluated: Answers | None = None, served: Answers | None = None
) -> Parity:
    asked = Asked(
        variant="adapter" if is_judged else "merged", is_judged=is_judged, exported=exported, own=own,
        served=own if served is None else served, evaluated=evaluated,
    )  # fmt: skip
    return compare(asked, [reference(number) for number in range(len(exported))], SPEC)


def test_the_same_texts_hold() -> None:
    same = answers(*[PAGE] * 8)
    found = compared(same, same, evaluated=answers(*[PAGE] * 8, batch_size=8))
    assert found.refusals == ()
    assert [(row.against, row.num_equal, row.required_share) for row in found.comparisons] == [("reloaded", 8, 1.0), ("evaluated", 8, 0.99)]


def test_one_other_text_of_the_same_weights_is_too_many() -> None:
    found = compared(answers(*[PAGE] * 199, WRONG), answers(*[PAGE] * 200))
    assert len(found.refusals) == 1
    assert "199 of 200 answers are those of MedVL with the same weights" in found.refusals[0]


def test_answers_that_were_judged_in_batches_may_differ_once_in_a_hundred() -> None:
    same = answers(*[PAGE] * 100)
    assert compared(same, same, evaluated=answers(*[PAGE] * 99, WRONG, batch_size=32)).refusals == ()
    found = compared(same, same, evaluated=answers(*[PAGE] * 98, WRONG, WRONG, batch_size=32))
    assert "98 of 100 answers are those of the evaluation" in found.refusals[0]


def test_merged_weights_may_say_other_texts_but_not_worse_ones() -> None:
    better, worse = answers(*[PAGE] * 12), answers(*[WRONG] * 12)
    found = compared(better, better, is_judged=False, served=worse)
    assert found.refusals == ()
    assert found.comparisons[1].num_equal == 0
    assert {row.metric: round(row.difference, 3) for row in found.scores}["pair_accuracy"] == 0.5
    refused = compared(worse, worse, is_judged=False, served=better)
    assert any(reason.startswith("pair_accuracy is worse by 0.5000") for reason in refused.refusals)


def test_too_few_documents_show_nothing_and_have_no_interval() -> None:
    better, worse = answers(*[PAGE] * 5), answers(*[WRONG] * 5)
    found = compared(worse, worse, is_judged=False, served=better)
    assert found.refusals == ()
    assert all(row.ci_low is None and row.ci_high is None for row in found.scores)


def test_the_file_holds_figures_and_no_word_of_a_pair() -> None:
    said = answers(*[PAGE] * 7)
    found = compared(said, said, evaluated=said)
    text = json.dumps(as_json(found, {"torch": "2.13"}))
    assert json.loads(text)["holds"] is True
    assert json.loads(text)["comparisons"][0]["num_equal"] == 7
    assert "forms/test" not in text
    assert "Potassium" not in text
    broken = replace(found, refusals=("no",))
    assert as_json(broken, {})["holds"] is False
