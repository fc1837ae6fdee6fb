"""The invented hospital through the dataset's steps. If this passed wrongly, the reader's pairs would not survive the route's own rules."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from medvl_lib import sample_data
from medvl_lib.datasets.mimic_cxr_texts import STAGES
from medvl_lib.errors import MedVLError
from medvl_lib.lines import dataset_runs
from medvl_lib.pairs import PAIRS, REJECTIONS, Pair, Rejection
from medvl_lib.provenance import Fact, judge, newest
from medvl_lib.route.data import dataset_steps
from medvl_lib.step import Call, run_step
from medvl_lib.tables import read_table
from medvl_lib.workspace import Workspace
from tests.damages import DAMAGES
from tests.route.test_imaging_data import settings_of, through_the_dataset_steps


def test_the_invented_hospital_passes_but_for_what_is_broken_on_purpose(tmp_path: Path):
    settings = settings_of(tmp_path, "[datasets.mimic_cxr]\n")
    sample_data.write("mimic_cxr", settings.raw_folder("mimic_cxr"))
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
