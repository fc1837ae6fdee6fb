"""Cases that are similar to a picture, from the line's own index. If these passed wrongly, a patient's own case would be shown as another
one's, or a vector of one encoder be held against those of another.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from medvl_lib import case_index, cli, configured
from medvl_lib.captions import CaptionedImage, captioned_images
from medvl_lib.errors import InputMissing, InputRefused, MedVLError
from medvl_lib.hardware import PROFILES
from medvl_lib.lines import DOCUMENTS, ENCODER
from medvl_lib.models.embedding import embed_stored
from medvl_lib.models.loading import load_encoder
from medvl_lib.provenance import judge, write_step
from medvl_lib.sample_data.captioned_pictures import draw_picture
from medvl_lib.serving.cases import floor_of, similar
from medvl_lib.workspace import Workspace
from tests.matching_fixtures import SPEC, Gallery, copied

CPU = PROFILES["cpu"]
LINE = replace(DOCUMENTS, stages=(replace(ENCODER, model=SPEC), *DOCUMENTS.stages))


@pytest.fixture(scope="module")
def workspace(gallery: Gallery, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A line's conversations, an encoder and the index of both, as their steps leave them."""
    made = Workspace(root=tmp_path_factory.mktemp("workspace") / "data")
    chat = write_step(made, "chat", LINE.name, "v", [], copied(gallery.chat))
    encoder = write_step(made, "encoder", LINE.name, "v", [chat], copied(gallery.weights))

    def write(directory: Path) -> dict:
        loaded = load_encoder(gallery.weights, SPEC, CPU)

        def embedded(items: list[CaptionedImage]) -> case_index.Embedded:
            return case_index.Embedded(items, embed_stored(loaded, gallery.images, [item.image_id for item in items]))

        cases = list(captioned_images(gallery.chat, "train"))
        held_back = [replace(case, group_id=f"other {case.group_id}") for case in cases]  # as if other patients had such pictures
        return case_index.write_index(directory, embedded(cases), embedded(held_back))

    judge(made, write_step(made, "index", LINE.name, "v", [chat, encoder], write), case_index.RULES)
    return made


def test_the_nearest_training_cases_come_first_and_no_other_split(workspace: Workspace):
    found = similar(workspace, LINE, CPU, draw_picture("elsewhere", 1).png, "x.png", 30)
    assert len(found) == 24
    assert all(case.pair_id.startswith("invented/train/") for case in found)
    assert [case.similarity for case in found] == sorted((case.similarity for case in found), reverse=True)
    assert all(-1.0001 <= case.similarity <= 1.0001 for case in found)


def test_a_patient_that_the_line_knows_finds_only_others(workspace: Workspace):
    known = draw_picture("tests/train", 4).png  # of the patient of pairs 4 and 5
    found = {case.pair_id for case in similar(workspace, LINE, CPU, known, "x.png", 30)}
    assert len(found) == 22
    assert not found & {"invented/train/004", "invented/train/005"}


def test_another_encoders_vectors_are_not_held_against_it(workspace: Workspace, gallery: Gallery):
    later = write_step(workspace, "encoder", LINE.name, "w", [], copied(gallery.chat))  # no encoder at all: it must not be opened
    assert later.directory.is_dir()
    assert len(similar(workspace, LINE, CPU, draw_picture("elsewhere", 1).png, "x.png", 3)) == 3


def test_what_is_no_picture_and_a_line_without_encoder_or_index_are_told(workspace: Workspace, tmp_path: Path):
    with pytest.raises(InputRefused, match="x.txt"):
        similar(workspace, LINE, CPU, b"no picture", "x.txt", 3)
    with pytest.raises(MedVLError, match="has no encoder"):
        similar(workspace, DOCUMENTS, CPU, b"", "x", 3)
    with pytest.raises(InputMissing, match="index"):
        similar(Workspace(root=tmp_path), LINE, CPU, draw_picture("elsewhere", 1).png, "x.png", 3)


def test_the_command_line_prints_similarity_pair_and_text(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "dagster_project.toml").write_text(
        f'data_root = "{workspace.root}"\nscale = "tiny"\nprofile = "cpu"\n[datasets.clinical_documents]\n'
    )
    picture = draw_picture("elsewhere", 1)
    (tmp_path / "lesion.png").write_bytes(picture.png)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(configured, "LINES", {LINE.name: LINE})
    assert cli.main(["similar", "lesion.png", "--line", LINE.name, "-k", "3"]) == 0
    said = capsys.readouterr()
    first, *others = said.out.splitlines()
    assert len(others) == 2
    floor = floor_of(workspace, LINE)
    assert f"floor of similarity: {floor:.3f}" in said.err
    for line in (first, *others):
        assert (float(line.split()[0]) < floor) == ("below the floor" in line)
    similarity, pair_id, text = first.replace("below the floor", "").split(maxsplit=2)
    assert -1 <= float(similarity) <= 1.001
    assert text == draw_picture("tests/train", int(pair_id.rpartition("/")[2])).caption
    assert cli.main(["similar", "nowhere.png"]) == cli.REFUSED
    assert "nowhere.png" in capsys.readouterr().err
