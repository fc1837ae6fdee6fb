"""The datasets of the imaging line on the route that every dataset takes. If these passed wrongly, they could be read and never be used:
blocked by their own defects, split through a patient, or left without a word of their language.
"""

import json
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from medvl_lib import sample_data
from medvl_lib.audit import RULES as AUDIT_RULES
from medvl_lib.audit import write_audit
from medvl_lib.chat import PlacedPair, conversations_path, read_conversations
from medvl_lib.configured import dataset_runs
from medvl_lib.datasets.descriptions import DESCRIBE
from medvl_lib.datasets.raw_folder import INVENTED_LICENCE
from medvl_lib.dicom import IDENTIFYING
from medvl_lib.evaluation.predictions import REFERENCES, Reference
from medvl_lib.images import ImageStore
from medvl_lib.lines import DOCUMENTS, Line, tiny
from medvl_lib.models import shipped
from medvl_lib.pairs import PAIRS, REJECTIONS, SPLITS, Pair, Rejection
from medvl_lib.provenance import judge, newest
from medvl_lib.route.data import data_steps, dataset_steps
from medvl_lib.settings import Settings, read_settings
from medvl_lib.split import SPLIT, SplitRow
from medvl_lib.step import run_step
from medvl_lib.tables import read_table
from medvl_lib.workspace import Workspace

NAMES = ("knee_xray", "pad_ufes_20", "slake", "custom_reports", "roco")
SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
HEAD = 'data_root = "data"\nscale = "tiny"\nprofile = "cpu"\n'
REJECTED = {
    "knee_xray": {"labels_contradict": 1, "grade_unknown": 1, "image_unreadable": 1},
    "pad_ufes_20": {"image_missing": 1, "diagnosis_unknown": 1, "record_cut": 1, "row_missing": 1},
    "slake": {"image_missing": 1, "field_missing": 1, "response_empty": 1, "duplicate_pair": 1},
    "custom_reports": {
        "image_absent": 1, "image_missing": 1, "record_malformed": 1, "row_missing": 1, "dicom_names_patient": 1,
        "dicom_may_show_patient": 1, "response_empty": 1, "image_has_many_frames": 1, "image_unreadable": 1,
    },
    "roco": {"image_missing": 2, "record_cut": 1, "duplicate_record": 1},
}  # fmt: skip


def settings_of(root: Path, more: str) -> Settings:
    (root / "dagster_project.toml").write_text(HEAD + more, encoding="utf-8")
    return read_settings(root / "dagster_project.toml")


def through_the_dataset_steps(settings: Settings) -> dict[str, list[str]]:
    """Run and judge the steps of every dataset; the rules that did not hold, by dataset. A step behind a failed one is not run."""
    workspace, failed = Workspace(root=settings.data_root), dict[str, list[str]]()
    for run in dataset_runs(settings):
        for step in dataset_steps(run):
            verdicts = judge(workspace, run_step(workspace, step), step.rules)
            if wrong := [verdict.rule for verdict in verdicts if not verdict.outcome.passed]:
                failed[run.dataset.name] = wrong
                break
    return failed


def reasons(settings: Settings, name: str, step: str = "validated_pairs") -> Counter[str]:
    directory = newest(Workspace(root=settings.data_root), step, name).directory
    return Counter(row.reason for row in read_table(directory / REJECTIONS, Rejection))


def validated(settings: Settings, name: str) -> list[Pair]:
    return list(read_table(newest(Workspace(root=settings.data_root), "validated_pairs", name).directory / PAIRS, Pair))


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """All five, invented, through their steps."""
    root = tmp_path_factory.mktemp("imaging")
    found = settings_of(root, "".join(f"[datasets.{name}]\n" for name in NAMES))
    for name in NAMES:
        sample_data.write(name, found.raw_folder(name))
    assert through_the_dataset_steps(found) == {}
    return found


@pytest.fixture(scope="module")
def line() -> Line:
    """A line of all five, as a value."""
    return replace(
        tiny(DOCUMENTS), name="described", datasets=NAMES, rejected_share_budgets=dict.fromkeys(NAMES, 0.1),
        split=replace(DOCUMENTS.split, validation_share=0.05, test_share=0.05),  # the documents' 95/5, with a test set beside it
    )  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_invented_data_pass_but_for_what_is_broken_on_purpose(settings: Settings, name: str):
    assert reasons(settings, name) == REJECTED[name]
    assert len(validated(settings, name)) > 40


def test_a_picture_of_224_pixels_and_an_answer_of_one_word_are_good_enough(settings: Settings):
    assert any(pair.response == "Yes" for pair in validated(settings, "slake"))
    assert any(pair.response == "增大" for pair in validated(settings, "slake"))
    assert all("Kellgren-Lawrence" in pair.response for pair in validated(settings, "knee_xray"))


def test_every_pair_says_its_source_licence_and_labels(settings: Settings):
    for name in NAMES:
        for pair in validated(settings, name):
            assert pair.licence == INVENTED_LICENCE  # invented, whatever the publisher's is
            assert pair.source
            assert pair.dataset == name
            assert name in {"custom_reports", "slake", "roco"} or pair.metadata["category"]


def run_line(settings: Settings, line: Line) -> Mapping[str, Path]:
    workspace, directories = Workspace(root=settings.data_root), dict[str, Path]()
    for step in data_steps(line):
        artifact = run_step(workspace, step)
        verdicts = judge(workspace, artifact, step.rules)
        assert [verdict.rule for verdict in verdicts if verdict.is_blocking and not verdict.outcome.passed] == []
        directories[step.name] = artifact.directory
    return directories


def test_the_line_keeps_patients_pictures_and_languages_together(settings: Settings, line: Line, tmp_path: Path):
    directories = run_line(settings, line)
    rows = list(read_table(directories["split"] / SPLIT, SplitRow))
    assert {row.dataset for row in rows} == set(NAMES)
    split = {row.pair_id: row.split for row in rows}
    assert set(split.values()) == {"train", "validation", "test"}
    leaked = [pair for pair in validated(settings, "slake") if pair.publisher_split is None]
    assert len({(pair.language, pair.document_id) for pair in leaked}) == 2 * len({pair.document_id for pair in leaked}) > 0
    for document in {pair.document_id for pair in leaked}:
        assert len({split[pair.pair_id] for pair in leaked if pair.document_id == document}) == 1

    conversations = {
        conversation.pair_id: conversation
        for name in SPLITS
        for conversation in read_conversations(conversations_path(directories["chat"], name))
    }
    assert conversations.keys() == split.keys()
    knee = next(conversation for pair_id, conversation in conversations.items() if pair_id.startswith("knee_xray/"))
    assert [part.get("text") for message in knee.messages for part in message["content"]][:2] == [None, DESCRIBE["en"]]
    references = {row.pair_id: row for row in read_table(directories["chat"] / REFERENCES, Reference)}
    slices = {(row.dataset, label) for row in references.values() for label in row.slices}
    assert {("knee_xray", "category"), ("knee_xray", "agreement"), ("pad_ufes_20", "category"), ("slake", "answer_type")} <= slices
    assert Counter(row.language for row in references.values()).keys() == {"en", "zh"}

    together = list(read_table(directories["chat"] / PAIRS, PlacedPair))
    assert [row.pair_id for row in together] == [row.pair_id for row in rows]
    assert all(row.category and row.metadata["category"] == row.category for row in together if row.dataset in {"knee_xray", "pad_ufes_20"})

    model = shipped.DIRECTORY / line.model.family
    images = ImageStore(Workspace(root=settings.data_root).images)
    facts = write_audit(tmp_path, directories["chat"], model, images, line.audit, max_pixels=line.model.max_pixels)
    assert facts["num_conversations"] == len(rows)
    assert [rule.name for rule in AUDIT_RULES if not rule.holds(tmp_path).passed] == []


# -- the real samples, through settings alone --------------------------------------------------------------------------
def real(root: Path, name: str, folder: Path, budget: float = 0.1, more: str = "") -> tuple[Settings, list[str]]:
    """The steps of one dataset whose raw folder the settings name; and the rules that did not hold."""
    if not folder.is_dir():
        pytest.skip(f"{name}: no real sample at {folder}")
    found = settings_of(root, f'[datasets.{name}]\nraw_path = "{folder}"\nrejected_share_budget = {budget}\n{more}')
    return found, through_the_dataset_steps(found).get(name, [])


@pytest.mark.real_data
def test_real_skin_lesions(tmp_path: Path):
    found, wrong = real(tmp_path, "pad_ufes_20", SHARED / "PAD-UFES-20")
    assert wrong == ["rejected_share_is_within_budget"]  # 98 % of the rows have no picture there, and that is said first
    found, wrong = real(tmp_path, "pad_ufes_20", SHARED / "PAD-UFES-20", budget=0.99)
    assert wrong == []
    assert reasons(found, "pad_ufes_20") == {"image_missing": 1334}
    assert Counter(pair.metadata["category"] for pair in validated(found, "pad_ufes_20")) == {
        "BCC": 12, "ACK": 6, "SEK": 5, "NEV": 2, "SCC": 1,
    }  # fmt: skip
    details = [
        row.detail for row in read_table(newest(Workspace(root=found.data_root), "pairs", "pad_ufes_20").directory / REJECTIONS, Rejection)
    ]
    assert all(detail.startswith("PAT_") and ".png: " in detail for detail in details)


@pytest.mark.real_data
def test_real_knees_of_224_pixels(tmp_path: Path):
    found, wrong = real(tmp_path, "knee_xray", SHARED / "knee-KL224")
    assert wrong == []
    assert reasons(found, "knee_xray") == {}
    pairs = validated(found, "knee_xray")
    assert Counter((pair.publisher_split, pair.metadata["category"]) for pair in pairs) == {
        (split, f"KL {grade}"): count for split, count in (("train", 5), ("validation", 2), ("test", 3)) for grade in range(5)
    }


@pytest.mark.real_data
def test_real_questions_without_pictures_are_all_rejected_and_counted_by_part_and_language(tmp_path: Path):
    found, wrong = real(tmp_path, "slake", SHARED / "SLAKE", budget=1.0)
    assert wrong == ["pairs_were_read"]
    assert reasons(found, "slake", "pairs") == {"image_missing": 7394}
    directory = newest(Workspace(root=found.data_root), "pairs", "slake").directory
    places = Counter(tuple(row.pair_id.split("/")[1:3]) for row in read_table(directory / REJECTIONS, Rejection))
    assert places == {
        ("train", "en"): 2534, ("train", "zh"): 2508, ("validation", "en"): 561, ("validation", "zh"): 629, ("test", "en"): 606,
        ("test", "zh"): 556,
    }  # fmt: skip


@pytest.mark.real_data
def test_real_captions_without_pictures(tmp_path: Path):
    found, wrong = real(tmp_path, "roco", SHARED / "roco", budget=1.0)
    assert wrong == ["pairs_were_read"]
    assert reasons(found, "roco", "pairs") == {"image_missing": 400}


@pytest.mark.real_data
def test_real_dialogues_without_pictures(tmp_path: Path):
    found, wrong = real(tmp_path, "custom_reports", SHARED / "chinese-medical-dialogue", budget=1.0)
    assert wrong == ["pairs_were_read"]
    assert reasons(found, "custom_reports", "pairs") == {"image_absent": 400}


@pytest.mark.real_data
def test_real_dicom_files(tmp_path: Path):
    files = sorted((SHARED / "dicom-samples").rglob("*.dcm"))
    if not files:
        pytest.skip(f"custom_reports: no DICOM samples at {SHARED}")
    raw = tmp_path / "reports"
    raw.mkdir()
    for file in files:
        shutil.copyfile(file, raw / file.name)
    rows = [json.dumps({"image": file.name, "text": f"The file {file.name}.", "language": "en"}) for file in files]
    (raw / "reports.jsonl").write_text("\n".join(rows), encoding="utf-8")
    found, wrong = real(tmp_path, "custom_reports", raw, budget=1.0)
    assert wrong == ["pairs_were_read"]
    assert reasons(found, "custom_reports", "pairs") == {"dicom_names_patient": 14}

    vouched = f"[dicom]\npseudonyms = {json.dumps(list(IDENTIFYING))}\nidentity_removed = true\npixels_reviewed = true\n"
    (raw / "custom_reports.toml").write_text(vouched, encoding="utf-8")
    found, wrong = real(tmp_path, "custom_reports", raw, budget=1.0)
    assert wrong == []
    assert reasons(found, "custom_reports") == {"image_unreadable": 3, "image_has_many_frames": 2}
    assert len(validated(found, "custom_reports")) == 9
