"""The smoke test of a line. If these passed wrongly, a long run would begin with a batch, a template or a save that is broken, and the
doctor would have said that all is well.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from medvl_lib import prompts, smoke
from medvl_lib.chat import conversations_path
from medvl_lib.cli import main
from medvl_lib.doctor import Finding
from medvl_lib.hardware import PROFILES
from medvl_lib.lines import RADIOLOGY, tiny
from medvl_lib.models.loading import Loaded
from medvl_lib.smoke import PROBES, Bench, set_up
from medvl_lib.training.recipe import Stage

CPU = PROFILES["cpu"]
LINE = tiny(RADIOLOGY)
TOWER = r"model\.vision_tower\..*\.fc[12]"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return set_up(LINE, CPU, tmp_path_factory.mktemp("bench"))


def only(found: Iterator[Finding]) -> Finding:
    [finding] = found
    return finding


def with_recipe(bench: Bench, **changes: object) -> Bench:
    stages = tuple(replace(stage, recipe=replace(stage.recipe, **changes)) for stage in bench.line.stages)
    return replace(bench, line=replace(bench.line, stages=stages))


@pytest.mark.slow
def test_every_probe_of_a_sound_line_is_ok(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "dagster_project.toml").write_text('data_root = "data"\nscale = "tiny"\nprofile = "cpu"\n[datasets.mimic_cxr]\n')
    monkeypatch.setenv("MEDVL_SETTINGS", str(tmp_path / "dagster_project.toml"))
    assert main(["doctor", "--line", "radiology"]) == 0
    said = capsys.readouterr().out
    assert all(f"ok     {name}" in said for name in PROBES)
    assert "impression takes 4 of 8; reasoning takes 4 of 8" in said


def test_a_processor_that_counts_otherwise_than_the_audit_is_found(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    assert only(smoke.processor(bench)).level == "ok"
    loads = Bench.load

    def one_less(self: Bench, adapter: Path | None = None) -> Loaded:
        loaded = loads(self, adapter)
        loaded.processor.num_additional_image_tokens = 0  # the constructor's default: a token too few for each picture
        return loaded

    monkeypatch.setattr(Bench, "load", one_less)
    found = only(smoke.processor(bench))
    assert found.level == "wrong"
    assert "the audit counted" in found.found


def test_weights_of_another_type_are_found(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    assert only(smoke.precision(bench)).level == "ok"
    loads = Bench.load

    def half(self: Bench, adapter: Path | None = None) -> Loaded:
        loaded = loads(self, adapter)
        loaded.model.get_input_embeddings().to(torch.float16)
        return loaded

    monkeypatch.setattr(Bench, "load", half)
    assert "float16" in only(smoke.precision(bench)).found


def test_a_limit_of_memory_that_is_switched_off_is_found(bench: Bench):
    profile = replace(CPU, environment={"PYTORCH_MPS_HIGH_WATERMARK_RATIO": "0.0"})
    assert only(smoke.precision(replace(bench, profile=profile))).level == "wrong"


def test_a_recipe_that_adapts_the_vision_tower_is_found(bench: Bench):
    assert only(smoke.trained_parts(bench)).level == "ok"
    found = only(smoke.trained_parts(with_recipe(bench, lora_targets=TOWER)))
    assert (found.level, found.found.startswith("trains projector, vision, and should language, projector")) == ("wrong", True)


@pytest.mark.parametrize(("changes", "said"), [({"pin_memory": True}, "pin_memory on cpu"), ({"device": "mps", "num_workers": 2}, "Metal")])
def test_batches_that_a_machine_cannot_prepare_so_are_found(
    bench: Bench, changes: dict[str, object], said: str, monkeypatch: pytest.MonkeyPatch
):
    assert only(smoke.dataloader(bench)).level == "ok"
    found = only(smoke.dataloader(replace(bench, profile=replace(CPU, **changes))))
    assert (found.level, said in found.found) == ("wrong", True)


def test_a_target_that_is_not_the_answer_is_found(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    assert only(smoke.chat_template(bench)).level == "ok"
    monkeypatch.setattr(prompts, "render_target", lambda _, answer: answer)  # without the end token
    assert only(smoke.chat_template(bench)).level == "wrong"


def test_a_stage_that_takes_the_pairs_of_the_other_is_found(bench: Bench):
    assert only(smoke.own_pairs(bench)).level == "ok"
    first, second = bench.line.stages
    both: tuple[Stage, ...] = (replace(first, pairs={"language": "en"}), second)
    found = only(smoke.own_pairs(replace(bench, line=replace(bench.line, stages=both))))
    assert (found.level, "impression takes" in found.found) == ("wrong", True)


def test_a_probe_that_is_refused_is_a_finding_and_the_others_go_on(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(smoke, "set_up", lambda *_: bench)
    monkeypatch.setattr(smoke, "PROBES", {"own pairs": smoke.own_pairs, "dataloader": smoke.dataloader})
    train = conversations_path(bench.chat, "train")
    text = train.read_text()
    train.write_text("no conversation\n")
    try:
        levels = {finding.name: finding.level for finding in smoke.smoke(LINE, CPU)}
    finally:
        train.write_text(text)
    assert levels == {"smoke": "ok", "own pairs": "wrong", "dataloader": "ok"}
