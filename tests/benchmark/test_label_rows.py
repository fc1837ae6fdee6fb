"""CheXpert-rule F1 through scores, rows and gate. If these passed wrongly, a model that stopped seeing pneumothoraces could be served as
long as it names the tubes, and the store would show an F1 of a label that no report has.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from medvl_lib.benchmark.gate import Candidate, Gate, Guardrail
from medvl_lib.benchmark.promotion import read_decisions
from medvl_lib.benchmark.rows import RULES
from medvl_lib.benchmark.tables import BenchmarkRow
from medvl_lib.datasets.descriptions import STAGE
from medvl_lib.evaluation.predictions import FLOORS, PREDICTIONS, REFERENCES, Prediction, Reference
from medvl_lib.provenance import require_verdicts
from medvl_lib.tables import read_table, write_table
from tests.benchmark.evaluated import Evaluated, prediction, reference, run

MICRO, MACRO = "chexpert_rule_f1_micro", "chexpert_rule_f1_macro"
NUM_STUDIES = 80
WANTED = (
    "Left pleural effusion. Chest tube in place.",
    "Small pneumothorax. Chest tube in place.",
    "No acute process.",
    "Chest tube in place.",
)
SAID = {
    "base": ("Chest tube in place.", "Small pneumothorax.", "Normal.", "Pneumothorax."),
    "nf4": ("", "", "", ""),
    "adapter": ("Left pleural effusion. Chest tube in place.", "Chest tube in place.", "Normal.", "Chest tube in place."),
    **dict.fromkeys(FLOORS, ("", "", "", "")),
}
"""What is said of the four kinds of study: the adapter sees the tubes, and no pneumothorax."""
RAILS = (Guardrail(metric=MACRO, margin=0.1, slice="label=*"),)
GATE = Gate(primary_metric=MICRO, datasets=("cxr",), candidates=(Candidate(variant="adapter"),), guardrails=RAILS)


def write_studies(folder: Path, kind: Callable[[int], int] = lambda number: number % 4) -> None:
    """Add impressions, two of each patient, to what was predicted; ``kind`` says which of the four a study is."""
    studies = [
        replace(
            reference(number), pair_id=f"cxr/{number:03}", dataset="cxr", group_id=f"subject:{number // 2}", expected=(),
            response=WANTED[kind(number)], slices={STAGE: "impression"},
        ) for number in range(NUM_STUDIES)
    ]  # fmt: skip
    said = [
        replace(prediction(variant, number, 0, NUM_STUDIES), pair_id=f"cxr/{number:03}", answer=answers[kind(number)])
        for variant, answers in SAID.items() for number in range(NUM_STUDIES)
    ]  # fmt: skip
    blank = [replace(one, condition="blank_image", answer="") for one in said if one.variant in ("adapter", "nf4")]
    write_table(folder / REFERENCES, Reference, [*read_table(folder / REFERENCES, Reference), *studies])
    write_table(folder / PREDICTIONS, Prediction, [*read_table(folder / PREDICTIONS, Prediction), *said, *blank])


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    return run(tmp_path_factory.mktemp("labels"), 60, also=write_studies, gate=GATE)


@pytest.fixture(scope="module")
def rows(evaluated: Evaluated) -> dict[tuple[str, str, str], BenchmarkRow]:
    table = read_table(evaluated.benchmark.directory / "benchmark_rows.parquet", BenchmarkRow)
    return {(row.variant, row.slice, row.metric): row for row in table if (row.dataset, row.condition) == ("cxr", "as_is")}


def test_micro_and_macro_stand_over_all_pairs_with_an_interval_over_patients(evaluated, rows):
    """Wanted tubes 60, effusions 20, pneumothoraces 20. The adapter names 60 and 20, all right: micro 160 / 180, macro (1 + 1 + 0) / 3."""
    require_verdicts(evaluated.benchmark, RULES)
    assert rows["adapter", "all", MICRO].mean == pytest.approx(160 / 180)
    assert rows["adapter", "all", MACRO].mean == pytest.approx(2 / 3)
    assert (rows["adapter", "all", MICRO].num_pairs, rows["adapter", "all", MICRO].num_clusters) == (80, 40)
    assert rows["base", "all", MICRO].mean == pytest.approx(2 * 40 / (100 + 60))
    assert rows["floor_empty", "all", MICRO].mean == 0
    assert rows["floor_empty", "all", MICRO].num_empty == 80


def test_each_label_that_is_wanted_has_a_row_of_its_own_and_no_other(rows):
    labels = {
        name: row.mean for (variant, name, metric), row in rows.items() if (variant, metric) == ("adapter", MACRO) if "label=" in name
    }
    assert labels == {"label=support_devices": 1, "label=pneumothorax": 0, "label=pleural_effusion": 1}
    assert not [name for _, name, metric in rows if metric == MICRO and name.startswith("label=")]
    assert rows["adapter", "label=no_finding", f"{MACRO}_14"].mean == pytest.approx(2 * 40 / (40 + 60))
    one = rows["base", "label=pneumothorax", MACRO]
    assert one.mean == pytest.approx(2 * 20 / (20 + 40))
    assert (one.num_pairs, one.num_clusters) == (80, 40)
    assert one.ci_low <= one.mean <= one.ci_high


def test_a_guardrail_holds_each_label_and_stops_who_no_longer_sees_pneumothoraces(evaluated):
    decision = next(one for one in read_decisions(evaluated.promotion.directory) if one.challenger == "adapter")
    said = {reason.split(" (margin")[0]: reason for reason in decision.reasons if reason.startswith("guardrail")}
    assert decision.verdict != "promote"
    assert any("label=pneumothorax" in name for name in said)
    worse = next(reason for name, reason in said.items() if "label=pneumothorax" in name)
    assert "adapter minus base is -0.667" in worse
    assert "80 pairs, 40 clusters)" in worse


def test_a_decision_counts_the_patients_of_the_leaderboard_and_says_how_many_have_a_say(tmp_path: Path):
    """Of every other patient both studies are normal, and nobody says otherwise: whose answers these are changes no sum of counts."""
    normal = partial(write_studies, kind=lambda number: 2 if number // 2 % 2 else number % 2)
    found = run(tmp_path, 60, also=normal, gate=replace(GATE, guardrails=()))
    [decision] = read_decisions(found.promotion.directory)
    table = read_table(found.benchmark.directory / "benchmark_rows.parquet", BenchmarkRow)
    [row] = [one for one in table if (one.variant, one.condition, one.metric, one.slice) == ("adapter", "as_is", MICRO, "all")]
    assert (decision.num_clusters, decision.num_informative_clusters) == (row.num_clusters, 20) == (40, 20)
    said = next(reason for reason in decision.reasons if "adapter minus base" in reason)
    assert "80 pairs, 40 clusters, 20 of which count: in the others nothing is wanted and nothing was said" in said
