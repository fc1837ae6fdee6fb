"""The imaging line from raw files to its report, with both decoders. If this passed wrongly, a step would know the line that it was written
for, and a second family would end where nobody tried it.
"""

from pathlib import Path

import pytest

from medvl_lib import sample_data
from medvl_lib.benchmark.tables import BenchmarkRow, RetrievalTableRow
from medvl_lib.configured import dataset_runs, lines_of
from medvl_lib.evaluation.predictions import PREDICTIONS, Prediction
from medvl_lib.hardware import PROFILES
from medvl_lib.lines import Line
from medvl_lib.models.spec import Family
from medvl_lib.pointer import read_pointer
from medvl_lib.provenance import Artifact, judge
from medvl_lib.retrieved_cases import RETRIEVED_CASES, RetrievedCases
from medvl_lib.route.data import dataset_steps
from medvl_lib.route.line import line_steps
from medvl_lib.route.pointing import serve_anyway
from medvl_lib.serving.cases import served_index
from medvl_lib.settings import read_settings
from medvl_lib.step import run_step
from medvl_lib.tables import read_table
from medvl_lib.training import overfit
from medvl_lib.workspace import Workspace

COUNTS = {
    "knee_xray": {"graded": 20, "split": 10}, "pad_ufes_20": {"patients": 20}, "slake": {"train": 8, "validate": 2, "test": 4},
    "custom_reports": {"english": 20, "chinese": 20, "dicom": 6, "knees": 25},
}  # fmt: skip
SETTINGS = """
[lines.imaging.recipe]
max_steps = 6
max_training_pairs = 24
max_validation_pairs = 4
with_retrieved_cases = true
[lines.imaging.encoder]
max_steps = 3
effective_batch = 8
max_training_pairs = 24
max_validation_pairs = 8
[lines.imaging.evaluation]
max_pairs_per_dataset = 3
max_answer_tokens = 16
controls = ["blank_image", "retrieved_cases"]
num_retrieved_cases = 2
[lines.imaging.gate]
min_pairs = 4
min_clusters = 4
"""
MAY_FAIL = {  # of so few invented pairs, or of six steps, or of a batch with unequal numbers of pictures; none of them stops the route
    "no_text_stands_nearly_twice", "no_picture_stands_nearly_twice", "the_gate_can_decide", "beats_the_floors",
    "answers_use_the_image", "served_answers_are_the_evaluated_answers", "learns_a_few_pairs_by_heart", "loss_fell",
    "outputs_are_not_degenerate",
}  # fmt: skip
OTHER = '[lines.imaging.model]\nfamily = "qwen2_5_vl"\n'


@pytest.mark.soak  # the demo runs this line, too
@pytest.mark.parametrize(
    ("family", "more"),
    [pytest.param("mllama", ""), pytest.param("qwen2_5_vl", OTHER)],
)
def test_the_whole_line_runs_with_either_decoder(family: Family, more: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(overfit, "NUM_PAIRS", 8)
    tables = "".join(f"[datasets.{name}]\nrejected_share_budget = 0.3\n" for name in COUNTS)
    (tmp_path / "dagster_project.toml").write_text(f'data_root = "data"\nscale = "tiny"\nprofile = "cpu"\n{tables}{SETTINGS}{more}')
    settings = read_settings(tmp_path / "dagster_project.toml")
    for name, counts in COUNTS.items():
        sample_data.write(name, settings.raw_folder(name), counts=counts)
    workspace, [line] = Workspace(root=settings.data_root), lines_of(settings)
    assert (line.name, line.model.family, line.datasets) == ("imaging", family, tuple(COUNTS))
    steps = [step for run in dataset_runs(settings) for step in dataset_steps(run)] + [*line_steps(line, PROFILES["cpu"])]
    written: dict[str, Artifact] = {}
    for step in steps:
        written[step.name] = run_step(workspace, step)
        verdicts = judge(workspace, written[step.name], step.rules)
        failed = {verdict.rule: verdict.outcome.found for verdict in verdicts if not verdict.outcome.passed}
        assert failed.keys() <= MAY_FAIL, (step.name, failed)
    said = list(read_table(written["predictions"].directory / PREDICTIONS, Prediction))
    assert {"base", "nf4", "adapter", "floor_constant"} <= {prediction.variant for prediction in said}
    rows = list(read_table(written["benchmark"].directory / "benchmark_rows.parquet", BenchmarkRow))
    assert {"class_agreement", "class_macro_f1", "rouge_l", "bleu_4", "image_text_similarity"} <= {row.metric for row in rows}
    assert {row.condition for row in rows if row.variant == "adapter"} == {"as_is", "blank_image", "retrieved_cases"}
    _cases_stand_before_questions(written, said)
    _encoder_index_and_adapter_are_switched_together(workspace, line, written)
    assert {"slake", "custom_reports"} <= {row.dataset for row in rows}  # 20 or 30 patients may all be in train


def _cases_stand_before_questions(written: dict[str, Artifact], said: list[Prediction]) -> None:
    """Half of the training pairs and every test question under its condition: longer prompts, and no other pairs."""
    facts = written["decoder"].facts
    assert 0 < facts["num_pairs_with_cases"] < facts["num_training_pairs"]
    cases = {row.pair_id: row for row in read_table(written["retrieved_cases"].directory / RETRIEVED_CASES, RetrievedCases)}
    assert {"train", "validation", "test"} <= {row.split for row in cases.values()}
    lengths = {(row.condition, row.pair_id): row.num_prompt_tokens for row in said if row.variant == "adapter"}
    asked = [pair_id for condition, pair_id in lengths if condition == "retrieved_cases"]
    assert asked
    for pair_id in asked:
        assert (lengths["retrieved_cases", pair_id] > lengths["as_is", pair_id]) == bool(cases[pair_id].cases)


def _encoder_index_and_adapter_are_switched_together(workspace: Workspace, line: Line, written: dict[str, Artifact]) -> None:
    """What is served names all three, and similar cases are then looked for in that very index."""
    rows = list(read_table(written["benchmark"].directory / "retrievals.parquet", RetrievalTableRow))
    assert {row.variant for row in rows} == {"base", "trained"}
    assert serve_anyway(workspace, line, "adapter", by="Dr. Test", reason="to see what is switched").served is not None
    pointer = read_pointer(workspace, line.name)
    assert pointer is not None
    assert (pointer.encoder_fingerprint, pointer.index_fingerprint) == (written["encoder"].fingerprint, written["index"].fingerprint)
    workspace.current("index", line.name).unlink()  # whatever was trained since
    assert served_index(workspace, line).fingerprint == written["index"].fingerprint
