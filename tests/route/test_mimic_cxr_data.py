"""The invented hospital through the dataset's steps. If this passed wrongly, the reader's pairs would not survive the route's own rules."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from medvl_lib import sample_data
from medvl_lib.configured import dataset_runs, lines_of
from medvl_lib.datasets.mimic_cxr_texts import STAGES
from medvl_lib.errors import MedVLError
from medvl_lib.hardware import PROFILES
from medvl_lib.pairs import PAIRS, REJECTIONS, Pair, Rejection
from medvl_lib.provenance import Fact, judge, newest
from medvl_lib.route.data import dataset_steps
from medvl_lib.route.line import line_steps
from medvl_lib.split import SPLIT, SplitRow
from medvl_lib.step import Call, run_step
from medvl_lib.tables import read_table, write_table
from medvl_lib.workspace import Workspace
from tests.damages import DAMAGES
from tests.route.test_imaging_data import settings_of, through_the_dataset_steps


def test_the_invented_hospital_passes_but_for_what_is_broken_on_purpose(tmp_path: Path):
    settings = settings_of(tmp_path, "[datasets.mimic_cxr]\n")
    sample_data.write("mimic_cxr", settings.raw_folder("mimic_cxr"), counts={"train": 36, "validate": 6, "test": 20})
    assert through_the_dataset_steps(settings) == {}
    directory = newest(Workspace(root=settings.data_root), "validated_pairs", "mimic_cxr").directory
    assert Counter(row.reason for row in read_table(directory / REJECTIONS, Rejection)) == {
        "findings_absent": 7, "impression_absent": 5, "findings_masked": 1, "impression_masked": 1, "report_missing": 1, "image_missing": 2,
        "duplicate_record": 1, "record_cut": 1, "row_missing": 1,
    }  # fmt: skip
    kept = list(read_table(directory / PAIRS, Pair))
    assert Counter(pair.metadata["stage"] for pair in kept).keys() == set(STAGES)
    assert {len(pair.image_ids) for pair in kept} == {1, 2}
    assert not [pair.pair_id for pair in kept if "__" in pair.request + pair.response]
    assert any("On record before the study:" in pair.request and "Diagnoses:" in pair.response for pair in kept)


def test_no_pair_is_made_from_a_record_of_the_future(tmp_path: Path):
    settings = settings_of(tmp_path, "[datasets.mimic_cxr]\n")
    sample_data.write("mimic_cxr", settings.raw_folder("mimic_cxr"), counts={"train": 2, "validate": 0, "test": 0})
    [run], workspace = dataset_runs(settings), Workspace(root=settings.data_root)
    raw, records, pairs, _ = dataset_steps(run)
    judge(workspace, run_step(workspace, raw), raw.rules)

    def write_wrongly(call: Call) -> Mapping[str, Fact]:
        facts = records.write(call)
        DAMAGES["ehr_contexts"]["no_future_information"](call.directory)
        return facts

    written = run_step(workspace, replace(records, write=write_wrongly))
    failed = [verdict.rule for verdict in judge(workspace, written, records.rules) if not verdict.outcome.passed]
    assert failed == ["no_future_information"]
    with pytest.raises(MedVLError, match="ehr_contexts"):
        run_step(workspace, pairs)


def test_both_pairs_of_a_study_are_in_one_split_and_the_publishers_test_patients_stay_in_test(tmp_path: Path):
    settings = settings_of(tmp_path, "[datasets.mimic_cxr]\n")
    sample_data.write("mimic_cxr", settings.raw_folder("mimic_cxr"), counts={"train": 36, "validate": 6, "test": 20})
    through_the_dataset_steps(settings)
    workspace = Workspace(root=settings.data_root)
    [line] = lines_of(settings)
    step = next(step for step in line_steps(line, PROFILES["cpu"]) if step.name == "split")
    written = run_step(workspace, step)
    assert all(verdict.outcome.passed for verdict in judge(workspace, written, step.rules))
    pairs = {pair.pair_id: pair for pair in read_table(newest(workspace, "validated_pairs", "mimic_cxr").directory / PAIRS, Pair)}
    rows = list(read_table(written.directory / SPLIT, SplitRow))
    of_study: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        of_study[row.pair_id.rpartition("/")[0]].add(row.split)
    assert {len(splits) for splits in of_study.values()} == {1}
    assert any(len({pair_id for pair_id in pairs if pair_id.startswith(f"{study}/")}) == 2 for study in of_study)
    assert {row.split for row in rows if pairs[row.pair_id].publisher_split == "test"} == {"test"}
    shared_out = Counter(row.split for row in rows if pairs[row.pair_id].publisher_split != "test")
    assert shared_out.keys() == {"train", "validation", "test"}
    assert shared_out["train"] > 0.6 * shared_out.total()

    moved = next(row for row in rows if row.split == "train" and row.pair_id.endswith("/reasoning"))
    write_table(written.directory / SPLIT, SplitRow, [replace(row, split="test") if row is moved else row for row in rows])
    failed = {rule.name for rule in step.rules if not rule.holds(written.directory).passed}
    assert failed == {"no_group_in_two_splits", "no_image_in_two_splits"}
