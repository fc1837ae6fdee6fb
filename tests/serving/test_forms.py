"""One model in every form. If these passed wrongly, a parity could compare a thing with itself, or another server pass."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from medvl_lib.errors import HeavyStepFailed, MedVLError
from medvl_lib.evaluation.answering import Speaker
from medvl_lib.evaluation.parity import Heard
from medvl_lib.images import ImageStore
from medvl_lib.models.loading import load
from medvl_lib.models.merging import write_merged
from medvl_lib.serving.forms import FORMS, Question, answers
from tests.serving.conftest import CPU, Project
from tests.serving.test_app import as_evaluated

pytestmark = pytest.mark.slow


@pytest.fixture
def asked(project: Project) -> Question:
    return Question(
        model=project.model("adapter"), base=project.weights["base"], line=project.line, profile=replace(CPU, prediction_batch=2),
        workspace=project.workspace, groups=[project.conversations],
    )  # fmt: skip


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """No process of a form outlives it, but for the server that forks them."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    yield
    left = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
    assert not [child for child in left if "server" in child.name().lower()]


def test_every_form_is_asked_for_real_and_says_what_the_same_weights_say(asked: Question, project: Project, nothing_left, tmp_path: Path):
    said = answers(asked)
    assert list(said) == ["reloaded", "batched", "merged", "http"]
    alone = as_evaluated(project, "adapter")
    assert said["reloaded"] == said["http"] == {pair_id: Heard(text, 1) for pair_id, text in alone.items()}
    assert [heard.batch_size for heard in said["batched"].values()] == [2, 2, 2, 2]

    write_merged(tmp_path, project.weights["base"].directory, project.adapter.directory, project.line.model, CPU)
    speaker = Speaker(
        variant="merged", condition="as_is", loaded=load(tmp_path, project.line.model, CPU), evaluation=project.line.evaluation,
        images=ImageStore(project.workspace.images), profile=asked.profile,
    )  # fmt: skip
    assert said["merged"] == {row.pair_id: Heard(row.answer, 2) for row in speaker.answers(asked.groups)}
    assert {pair_id: heard.answer for pair_id, heard in said["merged"].items()} != alone  # other weights than it was trained on


def test_what_has_no_adapter_is_not_merged(asked: Question, project: Project):
    assert FORMS.keys() == {"reloaded", "batched", "merged", "http"}
    with pytest.raises(TypeError, match="has no adapter that could be merged"):
        FORMS["merged"](replace(asked, model=project.model("nf4")))


def test_a_server_whose_weights_cannot_be_loaded_is_told_and_does_not_wait_for_ever(asked: Question, tmp_path: Path):
    broken = replace(asked.model.weights, directory=tmp_path)
    model = replace(asked.model, parts=asked.model.parts._replace(weights=broken))
    with pytest.raises(HeavyStepFailed, match="the server that was to answer for adapter is not ready"):
        FORMS["http"](replace(asked, model=model))


def test_a_pair_that_the_server_refuses_is_named(asked: Question):
    first, *_ = asked.groups[0]
    many = replace(first, image_ids=first.image_ids * 9)
    with pytest.raises(MedVLError, match="the server answered 422") as refused:
        FORMS["http"](replace(asked, groups=[[many]]))
    assert first.pair_id in refused.value.where
