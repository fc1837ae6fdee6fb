"""``medvl describe``. If these passed wrongly, another model would describe a picture than the one that is served, or a DICOM file would be
shown to it otherwise than in training.
"""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medvl_lib.cli import main
from medvl_lib.datasets.descriptions import DESCRIBE
from medvl_lib.dicom import refusal
from medvl_lib.errors import MedVLError
from medvl_lib.retrieved_cases import HEADINGS, before, worded
from medvl_lib.sample_data.custom_reports import dicom
from medvl_lib.serving.describing import before_it, describe, keeps_language
from medvl_lib.serving.resident import load_resident
from medvl_lib.serving.uploads import Problem, require_picture
from tests.serving.conftest import CPU, PAGE, Project

GRAY = np.asarray(Image.open(io.BytesIO(PAGE)).convert("L"))
WINDOW = {"WindowCenter": 127.5, "WindowWidth": 256, "VOILUTFunction": "LINEAR"}
FILM = dicom(GRAY.astype(np.uint16), "1.2.3", BitsAllocated=16, BitsStored=12, HighBit=11, **WINDOW)
NAMED = dicom(GRAY.astype(np.uint16), "1.2.3", PatientName="Invented^Person", **WINDOW)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_it_is_what_the_served_model_says_to_that_question(project: Project, tmp_path: Path, language: str):
    model = project.model("adapter")
    (tmp_path / "page.png").write_bytes(PAGE)
    said = describe(tmp_path / "page.png", language, model=model, line=project.line, profile=CPU)
    assert said.variant == "adapter"
    assert said.answer == load_resident(model, project.line, CPU).answer(DESCRIBE[language], [PAGE]).answer


def test_as_many_cases_stand_before_the_question_as_in_the_evaluation(project: Project, tmp_path: Path):
    """Words beyond what the line trains on were never read before a question: the least similar case goes first."""
    model, cases = project.model("base"), ["Radiograph of a knee, grade 2.", "Radiograph of a knee, grade 3.", "A knee."]
    (tmp_path / "page.png").write_bytes(PAGE)
    whole = before_it([PAGE], "en", cases, model=model, line=project.line)
    assert (whole.num_cases, whole.preface) == (3, worded(HEADINGS["en"], cases))
    line = replace(project.line, audit=replace(project.line.audit, max_tokens=whole.num_tokens - 1))
    assert before_it([PAGE], "en", cases, model=model, line=line).preface == worded(HEADINGS["en"], cases[:2])
    none = replace(line, audit=replace(line.audit, max_tokens=1))
    assert before_it([PAGE], "en", cases, model=model, line=none).preface == ""
    said = [describe(tmp_path / "page.png", "en", model=model, line=one, profile=CPU, cases=cases) for one in (line, none)]
    asked = [before(worded(HEADINGS["en"], cases[:number]), DESCRIBE["en"]) for number in (2, 0)]
    resident = load_resident(model, line, CPU)
    assert [one.num_prompt_tokens for one in said] == [resident.answer(question, [PAGE]).num_prompt_tokens for question in asked]


def test_equal_pictures_are_counted_as_often_as_they_are_shown(project: Project):
    once, twice = (before_it([PAGE] * number, "en", ["A knee."], model=project.model("base"), line=project.line) for number in (1, 2))
    other = before_it([PAGE, FILM], "en", ["A knee."], model=project.model("base"), line=project.line)
    assert twice.num_tokens == other.num_tokens > once.num_tokens


def test_a_dicom_file_is_shown_as_its_pixels_are_in_training(project: Project, tmp_path: Path):
    (tmp_path / "film.dcm").write_bytes(FILM)
    model = project.model("base")
    said = describe(tmp_path / "film.dcm", "en", model=model, line=project.line, profile=CPU)
    assert said.answer == load_resident(model, project.line, CPU).answer(DESCRIBE["en"], [FILM]).answer


@pytest.mark.parametrize(("data", "is_stored"), [(FILM, True), (NAMED, False)])
def test_a_dicom_file_may_be_asked_about_whoever_it_names(data: bytes, is_stored: bool):
    """What would never enter the image store is still a picture to its owner: nothing of it is kept."""
    require_picture(data)  # raises where it is refused
    assert (refusal(data) is None) == is_stored


def test_a_dicom_file_without_pixels_is_refused_without_quoting_it():
    with pytest.raises(Problem) as refused:
        require_picture(dicom(None, "1.2.3", PatientName="Invented^Person"))
    assert refused.value.status == 415
    assert "Invented" not in refused.value.detail


def test_a_dicom_file_of_many_frames_is_refused_as_validation_refuses_it():
    with pytest.raises(Problem, match="3 frames") as refused:
        require_picture(dicom(np.zeros((3, 64, 64), np.uint8), "1.2.3", NumberOfFrames=3))
    assert refused.value.status == 422


@pytest.mark.parametrize(("data", "found"), [(None, "No such file"), (b"text", "4 bytes that are no picture"), (PAGE[:-400], "decoded to")])
def test_what_is_no_picture_is_refused_by_the_files_name(project: Project, tmp_path: Path, data: bytes | None, found: str):
    path = tmp_path / "page.png"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(MedVLError, match=found) as refused:
        describe(path, "en", model=project.model("base"), line=project.line, profile=CPU)
    assert refused.value.where == str(path)


def test_the_command_prints_the_answer_and_says_who_answers(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("MEDVL_SETTINGS", str(project.settings))
    (tmp_path / "page.png").write_bytes(PAGE)
    assert main(["describe", str(tmp_path / "page.png"), "--line", "documents", "--language", "zh"]) == 0
    said = capsys.readouterr()
    model = project.model("base")
    assert said.out.strip() == load_resident(model, project.line, CPU).answer(DESCRIBE["zh"], [PAGE]).answer.strip()
    assert model.sentence in said.err


@pytest.mark.parametrize(
    ("answer", "language", "is_kept"),
    [
        ("右膝X光片，2级。", "zh", True), ("CT", "zh", True), ("Radiograph of the right knee, grade 2.", "zh", False), ("", "zh", False),
        ("Radiograph of the right knee.", "en", True), ("右膝X光片。", "en", False), (" ", "en", False),
        ("这是 a radiograph of the right knee.", "zh", False),
    ],
)  # fmt: skip
def test_an_answer_in_another_language_than_asked_is_none(answer: str, language: str, is_kept: bool):
    assert keeps_language(answer, language) is is_kept


def test_the_command_says_when_the_answer_is_in_another_language(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The small model of documents writes English whatever it is asked in."""
    monkeypatch.setenv("MEDVL_SETTINGS", str(project.settings))
    (tmp_path / "page.png").write_bytes(PAGE)
    asking = ["describe", str(tmp_path / "page.png"), "--line", "documents", "--json", "--language"]
    for language, is_in_language in (("zh", False), ("en", True)):
        assert main([*asking, language]) == 0
        said = capsys.readouterr()
        told = json.loads(said.out)
        assert (told["language"], told["is_in_language"], told["variant"]) == (language, is_in_language, "base")
        assert told["answer"]
        assert ("WRONG: asked in 'zh', and answered in another language" in said.err) != is_in_language
