"""Pretraining. If these passed wrongly, the shipped weights could not be made again, or a resumed run would make others."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from medvl_lib.files import sha256_of_file
from medvl_lib.hardware import PROFILES
from medvl_lib.models.weights import tensors
from medvl_lib.pretraining import route
from medvl_lib.pretraining.recipe import PRETRAINING, Lesson
from medvl_lib.pretraining.route import ExampleCollator, ExampleSet, pretrain
from medvl_lib.sample_data.reading_pages import LEARNED
from tests.torch_fixtures import TINY

SHORT = replace(LEARNED, num_facts=(1, 1), heading_share=0.0)
RECIPE = replace(
    PRETRAINING["qwen2_5_vl"],
    lessons=(
        Lesson(num_steps=3, num_examples=2, examples=SHORT, is_alike_in_a_step=False, is_spelled=True),
        Lesson(num_steps=3, num_examples=3, examples=SHORT, is_alike_in_a_step=True, is_spelled=True),
    ),
    num_warmup_steps=2, validate_every=3, num_validation_examples=4,
)  # fmt: skip


class Interrupted(Exception):
    """Stands for a kill."""


def made(directory: Path, checkpoints: Path, stop_at: int | None = None) -> str:
    """The hash of the weights that pretraining makes, or an interruption on the way."""

    def report(facts: Mapping[str, object]) -> None:
        if facts["step"] == stop_at:
            raise Interrupted

    directory.mkdir()
    pretrain(directory, recipe=RECIPE, spec=TINY, profile=PROFILES["cpu"], checkpoints=checkpoints, report=report)
    return sha256_of_file(directory / "model.safetensors")


@pytest.mark.soak
def test_a_resumed_run_makes_the_same_weights_as_an_undisturbed_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(route, "STEPS_PER_CHECKPOINT", 2)
    undisturbed = made(tmp_path / "first", tmp_path / "first_checkpoints")
    with pytest.raises(Interrupted):
        made(tmp_path / "cut", tmp_path / "checkpoints", stop_at=5)
    assert (tmp_path / "checkpoints" / "checkpoint-4").is_dir()
    assert made(tmp_path / "second", tmp_path / "checkpoints") == undisturbed
    assert {tensor.dtype for tensor in tensors(tmp_path / "second").values()} == {"BF16"}


def test_a_row_becomes_the_pages_of_its_step(trial):
    from medvl_lib.models.loading import load

    loaded = load(trial.base, TINY, trial.profile)
    pages = ExampleSet(examples=SHORT, part="test", first=10, count=3, is_spelled=False)
    batch = ExampleCollator(processor=loaded.processor, prompts=loaded.prompts, sets=[pages])([{"index": 0}])
    assert batch["input_ids"].shape[0] == 3
    for row, page in enumerate(pages.draw()):
        answer = batch["labels"][row][batch["labels"][row] != -100]
        assert loaded.processor.tokenizer.decode(answer, skip_special_tokens=True) == page.response


def test_a_spelled_batch_asks_each_image_token_for_its_character(trial):
    """The label of a token is predicted from the token before it: a cell's character is the label one place on."""
    from medvl_lib.models.loading import load

    loaded = load(trial.base, TINY, trial.profile)
    plain, spelled = (
        ExampleCollator(processor=loaded.processor, prompts=loaded.prompts, sets=[
            ExampleSet(examples=SHORT, part="test", first=10, count=2, is_spelled=is_spelled)
        ])([{"index": 0}]) for is_spelled in (False, True)
    )  # fmt: skip
    for row, page in enumerate(ExampleSet(examples=SHORT, part="test", first=10, count=2, is_spelled=True).draw()):
        places = (spelled["input_ids"][row] == loaded.processor.image_token_id).nonzero().flatten()
        said = [loaded.processor.tokenizer.decode(label) if label != -100 else None for label in spelled["labels"][row][places + 1]]
        assert said == list(page.cell_characters)
        spelled["labels"][row][places + 1] = -100
        assert spelled["labels"][row].tolist() == plain["labels"][row].tolist()  # the answer is asked for as ever
