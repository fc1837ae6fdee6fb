"""``medvl pretrain-tiny``. If these passed wrongly, a model would get the card, or the checkpoints, of another one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medvl_lib.errors import MedVLError
from medvl_lib.models import shipped
from medvl_lib.pretraining import making, reading, route
from medvl_lib.pretraining.recipe import PRETRAINING
from medvl_lib.settings import read_settings
from medvl_lib.tables import write_table
from medvl_lib.training.steps import TRAINING_STEPS, TrainingStep
from tests.pretraining.test_card import FINDINGS, STEPS

FAMILY = "qwen2_5_vl"


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trial) -> Callable[[], list[str]]:
    """``make`` with the hours taken out: untrained weights, and findings that are at hand."""

    def pretrain(directory: Path, **_: Any) -> None:
        for path in trial.base.iterdir():
            (directory / path.name).write_bytes(path.read_bytes())
        write_table(directory / TRAINING_STEPS, TrainingStep, STEPS)

    monkeypatch.setattr(route, "pretrain", pretrain)
    monkeypatch.setattr(reading, "examine", lambda *_: iter(FINDINGS))
    settings = tmp_path / "dagster_project.toml"
    settings.write_text('data_root = "data"\nscale = "tiny"\nprofile = "cpu"\n[datasets]\n')

    def run() -> list[str]:
        said: list[str] = []
        making.make(FAMILY, tmp_path / "made", read_settings(settings), said.append)
        return said

    return run


def test_it_leaves_a_model_its_card_and_the_fingerprint_to_pin(make: Callable[[], list[str]], tmp_path: Path):
    said = make()
    model = tmp_path / "made" / "model"
    assert not (model / TRAINING_STEPS).exists()
    assert said[-1].startswith(f"contents {shipped.contents(model)}: to ship it, copy {model} to ")
    assert shipped.contents(model) in (tmp_path / "made" / "README.md").read_text(encoding="utf-8")


def test_a_second_run_does_nothing_twice(make: Callable[[], list[str]]):
    make()
    said = make()
    assert "is not trained again" in said[0]
    assert "tells of this model already" in said[1]


def test_the_card_of_another_model_is_written_anew(make: Callable[[], list[str]], tmp_path: Path):
    make()
    config = tmp_path / "made" / "model" / "config.json"
    config.write_text(config.read_text() + " ")
    assert any(sentence.startswith("examining") for sentence in make())
    assert shipped.contents(config.parent) in (tmp_path / "made" / "README.md").read_text(encoding="utf-8")


def test_a_file_and_a_folder_of_something_else_are_refused_and_left_alone(make: Callable[[], list[str]], tmp_path: Path):
    made = tmp_path / "made"
    made.write_text("mine")
    with pytest.raises(MedVLError, match="a file"):
        make()
    assert made.read_text() == "mine"
    made.unlink()
    made.mkdir()
    (made / "notes.txt").write_text("mine")
    with pytest.raises(MedVLError, match="something else"):
        make()
    assert [path.name for path in made.iterdir()] == ["notes.txt"]


def test_a_folder_of_another_recipe_is_refused(make: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch):
    make()
    monkeypatch.setitem(PRETRAINING, FAMILY, replace(PRETRAINING[FAMILY], learning_rate=1.0))
    with pytest.raises(MedVLError, match="name an empty folder"):
        make()
