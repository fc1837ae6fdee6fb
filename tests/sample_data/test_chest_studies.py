"""Studies that the small LLaVA-Med learns from. If these passed wrongly, it would learn other words than the line asks for and wants, or
would have seen what the line is tested with.
"""

import pytest

from medvl_lib import sample_data
from medvl_lib.datasets import mimic_cxr, mimic_cxr_records
from medvl_lib.pairs import Draft
from medvl_lib.sample_data.chest_studies import FIRST_SEED, FRONTAL, LEARNED, PLAIN, record, seed_of, texts
from medvl_lib.sample_data.mimic_cxr import study_pictures
from medvl_lib.sample_data.mimic_patients import Patient, Study, draw_patient

SEED, NUM_PATIENTS = 7, 120


@pytest.fixture(scope="module")
def drafts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Draft]:
    """What the reader makes of a written tree, by pair id."""
    root, records = tmp_path_factory.mktemp("tree") / "raw", tmp_path_factory.mktemp("records")
    sample_data.write("mimic_cxr", root, seed=SEED, counts={"train": NUM_PATIENTS, "validate": 0, "test": 0})
    mimic_cxr_records.write(root, records)
    return {reading.pair.pair_id: reading for reading in mimic_cxr.read(root, records) if isinstance(reading, Draft)}


def plain_studies() -> list[tuple[Patient, Study]]:
    patients = [draw_patient(SEED, "train", number) for number in PLAIN if number < NUM_PATIENTS]
    return [(patient, study) for patient in patients for study in patient.studies]


def test_the_words_are_those_that_the_reader_makes_of_the_tree(drafts: dict[str, Draft]) -> None:
    number = 0
    for patient, study in plain_studies():
        for stage, wanted in texts(patient, study, SEED).items():
            pair = drafts[f"mimic_cxr/s{study.study_id}/{stage}"].pair
            assert (wanted.request, wanted.response) == (pair.request, pair.response)
            number += 1
    assert number == sum(pair_id.split("/")[1] in {f"s{study.study_id}" for _, study in plain_studies()} for pair_id in drafts) > 180


def test_the_pictures_are_those_of_the_tree(drafts: dict[str, Draft]) -> None:
    for _, study in plain_studies()[:20]:
        draft = next(item for pair_id, item in drafts.items() if f"/s{study.study_id}/" in pair_id)
        assert [image.data() for image in draft.images] == [data for _, data in study_pictures(study)]


def test_every_kind_of_fact_is_in_some_record() -> None:
    found = [record(patient, study, SEED) for patient, study in plain_studies()]
    for name in ("labs", "medications", "earlier_diagnoses", "target_diagnoses"):
        assert any(getattr(context, name) for context in found), name


def test_parts_share_no_patient_with_each_other_or_with_a_tree() -> None:
    seeds = {seed_of(part) for part in ("pretraining", "validation", "held_out", "floors", "tokenizer")}
    assert len(seeds) == 5
    assert min(seeds) >= FIRST_SEED > sample_data.SEED
    first, second = (
        {LEARNED.draw(part, number).read(f"chest_studies/{part}/{number:07d}/0") for number in range(40)} for part in ("a", "b")
    )
    assert len(first) == 40
    assert not first & second


def test_a_study_is_the_same_for_ever_and_shows_all_its_views() -> None:
    drawn = [LEARNED.draw("test", number) for number in range(60)]
    assert drawn == [LEARNED.draw("test", number) for number in range(60)]
    assert {item.num_pictures for item in drawn} == {1, 2}
    assert {item.stage for item in drawn} == {"impression", "reasoning"}
    assert {FRONTAL.draw("test", number).num_pictures for number in range(20)} == {1}
    assert all(item.read(image_id)[:2] == b"\xff\xd8" for item in drawn[:4] for image_id in item.image_ids)
