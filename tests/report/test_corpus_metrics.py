"""Reports and closed questions in the page. If these passed wrongly, a BLEU of 30 would be read as a share, one over two languages would be
left out unseen, or a matrix would count left as no.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from medvl_lib.benchmark.tables import BenchmarkRow
from medvl_lib.evaluation.predictions import PREDICTIONS, REFERENCES, Prediction, Reference
from medvl_lib.report.content import Confusions, Report
from medvl_lib.report.html import read_table_of, render_html
from medvl_lib.report.markdown import render_markdown
from medvl_lib.report.quotes import MIN_ASKED, Answered, confusions
from medvl_lib.tables import read_table, write_table
from tests.benchmark.evaluated import Evaluated, run
from tests.benchmark.written_reports import odd, write_questions, write_reports


def _rare_questions(folder: Path) -> None:
    """Three questions whose labels no other has: base is right, wrong and unreadable."""
    references, answers = list(read_table(folder / REFERENCES, Reference)), list(read_table(folder / PREDICTIONS, Prediction))
    organs = next(row for row in references if row.dataset == "sides")
    answer = next(row for row in answers if (row.variant, row.condition) == ("base", "as_is"))
    for number, said in enumerate(("the lung", "heart", "heart or lung")):
        pair_id = f"sides/organ{number}"
        references.append(replace(organs, pair_id=pair_id, group_id=pair_id, response="lung", labels=("heart", "lung", f"organ{number}")))
        answers.append(replace(answer, pair_id=pair_id, answer=said))
    write_table(folder / REFERENCES, Reference, references)
    write_table(folder / PREDICTIONS, Prediction, answers)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    def also(folder: Path) -> None:
        write_reports(folder, odd)
        write_questions(folder)
        _rare_questions(folder)

    return run(tmp_path_factory.mktemp("texts"), 60, also=also)


@pytest.fixture(scope="module")
def told(report: Report, texts: Evaluated) -> Report:
    """The report of another evaluation with these rows and answers."""
    rows = tuple(read_table(texts.benchmark.directory / "benchmark_rows.parquet", BenchmarkRow))
    return replace(report, benchmark_rows=rows, confusions=confusions(answered(texts)))


def answered(texts: Evaluated) -> Answered:
    nowhere = Path("nowhere")
    return Answered(predictions=texts.predictions.directory, scores=texts.scores.directory, chat=nowhere, images=nowhere, metric="bleu_4")


def test_each_language_has_a_table_with_its_range_and_signature(told: Report):
    page, text = render_html(told), render_markdown(told)
    rows = {row.slice: row.mean for row in told.benchmark_rows if (row.variant, row.metric, row.dataset) == ("base", "bleu_4", "bilingual")}
    assert rows.keys() == {"language=en", "language=zh"}
    for name, mean in rows.items():
        [base] = [row for row in read_table_of(page, f"compared-bilingual-bleu_4-{name}") if row["variant"] == "base"]
        assert base["mean"] == mean
        tokenizer = {"language=en": "13a", "language=zh": "zh"}[name]
        assert f"bleu_4 on bilingual, {name}, test split (0 to 100, higher is better; nrefs:1|case:lc|eff:no|tok:{tokenizer}|" in page
    assert "bleu_4 on bilingual, language=zh" in text
    assert read_table_of(page, "compared-notes-bleu_4")
    assert not read_table_of(page, "compared-notes-bleu_4-language=en")  # the row over all has it


def test_wrong_languages_and_masks_stand_in_every_row(told: Report):
    page = render_html(told)
    [adapter] = [row for row in read_table_of(page, "compared-bilingual-rouge_l-language=zh") if row["variant"] == "adapter"]
    assert adapter["wrong language"] == 1
    masked = [row for row in read_table_of(page, "every-row") if row["masked"]]
    assert {(row["variant"], row["dataset"]) for row in masked} == {("adapter", "notes"), ("adapter", "bilingual")}


def test_the_metrics_say_their_range_and_the_ways_of_cutting(told: Report):
    page = render_html(told)
    tops = {row["metric"]: row["from 0 to"] for row in read_table_of(page, "metrics")}
    assert (tops["bleu_4"], tops["rouge_l"]) == (100, 1)
    ways = {(row["metric"], row["dataset"]) for row in read_table_of(page, "signatures")}
    assert ways == {(metric, dataset) for metric in ("bleu_4", "rouge_l") for dataset in ("bilingual", "notes")}


def test_declared_labels_have_a_matrix_and_rare_sets_one_together(texts: Evaluated):
    found = {(one.variant, one.labels): one.counts for one in confusions(answered(texts))}
    nothing = {"left": 0, "right": 0, "unparsable": 0}
    assert found["base", ("left", "right")] == {
        "left": {"left": 8, "right": 0, "unparsable": 4}, "right": {"left": 8, "right": 0, "unparsable": 4}, "other": nothing,
    }  # fmt: skip
    assert found["nf4", ("left", "right")]["left"] == {**nothing, "unparsable": 12}
    assert found["adapter", ("left", "right")]["right"] == {**nothing, "right": 12}
    assert found["base", ()] == {"any": {"right": 1, "wrong": 1, "unparsable": 1}}
    assert MIN_ASKED > 3


def test_a_matrix_is_named_by_its_labels(told: Report):
    page = render_html(told)
    assert "base on sides, left or right: number of pairs" in page
    assert [row["wanted"] for row in read_table_of(page, "confusion-sides-base-left-right")] == ["left", "right", "other"]
    assert "base on sides, choices that few questions have: number of pairs" in page
    assert [one for one in told.confusions if isinstance(one, Confusions) and not one.labels]


def test_described_classes_have_a_matrix(texts: Evaluated, tmp_path: Path):
    """Twelve knees of three grades: named rightly, one too low, and not at all, four times each."""
    reference = next(read_table(texts.predictions.directory / REFERENCES, Reference))
    answer = next(read_table(texts.predictions.directory / PREDICTIONS, Prediction))
    labels = ("KL 0=grade 0", "KL 1=grade 1", "KL 2=grade 2")
    said = {"KL 0": "A knee of grade 0.", "KL 1": "A knee of grade 0.", "KL 2": "A knee of grade 1 or grade 2."}
    knees = {f"knees/{number}": f"KL {number % 3}" for number in range(12)}
    write_table(tmp_path / REFERENCES, Reference, (
        replace(reference, pair_id=pair_id, dataset="knees", split="test", response=f"A knee of grade {category[-1]}.", labels=labels,
                slices={"category": category})
        for pair_id, category in knees.items()
    ))  # fmt: skip
    write_table(tmp_path / PREDICTIONS, Prediction, (
        replace(answer, pair_id=pair_id, variant="base", condition="as_is", answer=said[category]) for pair_id, category in knees.items()
    ))  # fmt: skip
    [matrix] = confusions(replace(answered(texts), predictions=tmp_path))
    assert matrix.labels == ("KL 0", "KL 1", "KL 2")
    nothing = {"KL 0": 0, "KL 1": 0, "KL 2": 0, "unparsable": 0}
    assert matrix.counts == {
        "KL 0": {**nothing, "KL 0": 4}, "KL 1": {**nothing, "KL 0": 4}, "KL 2": {**nothing, "unparsable": 4}, "other": nothing,
    }  # fmt: skip
