"""The invented hospital through the dataset's steps. If this passed wrongly, the reader's pairs would not survive the route's own rules."""

from collections import Counter
from pathlib import Path

from medvl_lib import sample_data
from medvl_lib.datasets.mimic_cxr_texts import STAGES
from medvl_lib.pairs import PAIRS, REJECTIONS, Pair, Rejection
from medvl_lib.provenance import newest
from medvl_lib.tables import read_table
from medvl_lib.workspace import Workspace
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
