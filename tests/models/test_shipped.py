"""The small models that come with MedVL. If these passed wrongly, a line would run on weights that nobody trained, unnoticed."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from medvl_lib.errors import MedVLError
from medvl_lib.hardware import PROFILES
from medvl_lib.lines import DOCUMENTS, tiny
from medvl_lib.models import shipped
from medvl_lib.models.preparing import write_base
from medvl_lib.models.weights import tensors
from medvl_lib.route.models import model_steps
from medvl_lib.step import run_step
from medvl_lib.workspace import Workspace
from tests.torch_fixtures import TINY

FAMILIES = sorted(shipped.PINNED)
MAX_FILE_BYTES = 12_000_000


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shipped models in a folder that a test may damage."""
    shutil.copytree(shipped.DIRECTORY, tmp_path / "tiny")
    monkeypatch.setattr(shipped, "DIRECTORY", tmp_path / "tiny")
    return tmp_path / "tiny" / TINY.family


@pytest.mark.parametrize("family", FAMILIES)
def test_the_shipped_files_are_those_that_were_pinned(family: str):
    directory = shipped.require_pinned(family)
    assert directory is not None
    assert max(path.stat().st_size for path in directory.iterdir()) <= MAX_FILE_BYTES
    assert {tensor.dtype for tensor in tensors(directory).values()} == {"BF16"}


def test_a_changed_byte_is_refused(copied: Path):
    weights = copied / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(MedVLError, match="restore the files of this version"):
        shipped.require_pinned(TINY.family)


def test_a_missing_file_is_refused(copied: Path):
    (copied / "tokenizer.json").unlink()
    with pytest.raises(MedVLError, match="pinned is"):
        shipped.require_pinned(TINY.family)


def test_the_base_model_is_the_shipped_one(tmp_path: Path):
    write_base(tmp_path, TINY)
    assert (tmp_path / "model.safetensors").read_bytes() == (shipped.DIRECTORY / TINY.family / "model.safetensors").read_bytes()
    outcome = shipped.weights_are_trained(tmp_path)
    assert outcome.passed
    assert shipped.PINNED[TINY.family] in outcome.found


def test_without_the_files_the_weights_are_random_and_a_rule_says_so(copied: Path, tmp_path: Path):
    shutil.rmtree(copied.parent)
    (tmp_path / "model").mkdir()
    write_base(tmp_path / "model", TINY)
    outcome = shipped.weights_are_trained(tmp_path / "model")
    assert not outcome.passed
    assert "random weights" in outcome.found
    assert not shipped.RULE.is_blocking


def test_a_publishers_checkpoint_is_not_asked_for_its_origin(tmp_path: Path):
    assert shipped.weights_are_trained(tmp_path).found == "a checkpoint of its publisher"


def test_random_and_trained_weights_are_two_base_models(copied: Path, tmp_path: Path):
    base, *_ = model_steps(tiny(DOCUMENTS), PROFILES["cpu"])
    assert base.observe is not None
    workspace = Workspace(root=tmp_path)
    trained = base.observe(workspace, {})
    shutil.rmtree(copied.parent)
    assert trained == shipped.PINNED[TINY.family]
    assert base.observe(workspace, {}) == shipped.RANDOM


def test_a_hub_model_is_named_by_its_revision_alone():
    base, *_ = model_steps(DOCUMENTS, PROFILES["cpu"])
    other, *_ = model_steps(replace(DOCUMENTS, model=replace(DOCUMENTS.model, revision="0" * 40)), PROFILES["cpu"])
    assert base.observe is None
    assert base.version != other.version


def test_a_random_base_model_is_written_again_when_the_trained_one_is_back(copied: Path, tmp_path: Path):
    line = replace(tiny(DOCUMENTS), name="documents")
    base, *_ = model_steps(line, PROFILES["cpu"])
    workspace = Workspace(root=tmp_path / "data")
    trained = run_step(workspace, base)
    copied.parent.rename(tmp_path / "away")
    random = run_step(workspace, base)
    (tmp_path / "away").rename(copied.parent)
    assert random.fingerprint != trained.fingerprint
    assert run_step(workspace, base).fingerprint == trained.fingerprint
