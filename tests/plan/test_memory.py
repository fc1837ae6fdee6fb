"""Plans from a config alone. If these passed wrongly, a line would be refused that fits, be started where it freezes the machine, or
learn from another batch than its recipe says.
"""

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest

from medvl_lib import cli
from medvl_lib.audit import AUDIT, AuditRow
from medvl_lib.errors import MedVLError
from medvl_lib.hardware import PROFILES
from medvl_lib.launcher import Launcher, Weights
from medvl_lib.lines import DOCUMENTS, ENCODER, IMAGING, RADIOLOGY, TINY_MODELS, TINY_PACE, tiny, tiny_model
from medvl_lib.models import shipped
from medvl_lib.models.spec import LAYER_LISTS, Family, ModelSpec
from medvl_lib.models.weights import PACKED_WIDTH
from medvl_lib.plan.dry_run import BATCHES, Shape, Sizes, Walk, config_of
from medvl_lib.plan.memory import (
    PROCESS_BYTES,
    Length,
    Part,
    Plan,
    Planner,
    _whole_at_times,
    fitting_predictions,
    kinds_of,
    longest,
    micro_batches,
)
from medvl_lib.plan.wording import Outlook, render
from medvl_lib.route.models import planned_training
from medvl_lib.step import Call
from medvl_lib.tables import write_table
from medvl_lib.tokenization import TokenizedPicture
from medvl_lib.workspace import Workspace

CPU = replace(PROFILES["cpu"], memory_budget_bytes=10**15, memory_margin_share=0.0)
TINY = tiny(DOCUMENTS)
SHORT = Length(160, 1, 112 * 112)
GB = 1e9


def _planner(room: float, batch: int = 4, effective: int = 4) -> Planner:
    stage = TINY.stages[0]
    stage = replace(stage, recipe=replace(stage.recipe, effective_batch=effective))
    return Planner(stage, TINY.model, replace(CPU, training_batch=batch), SHORT, room=room)


def _row(number: int, split: str, num_tokens: int, side: int) -> AuditRow:
    picture = TokenizedPicture(image_id="i", width_pixels=9, height_pixels=9, seen_width_pixels=side, seen_height_pixels=side, num_tokens=4)
    return AuditRow(
        pair_id=str(number), dataset="d", split=split, num_tokens=num_tokens, num_prompt_tokens=1, num_target_tokens=1,
        has_exact_target=True, num_image_tokens=4, num_foreign_special_tokens=0, num_lost_texts=0, glyph_height_pixels=None,
        pictures=(picture,) * number,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "total"),
    [(DOCUMENTS.model, 8_292_166_656), (IMAGING.model, 10_670_220_835), (ENCODER.model, 203_155_970)],
    ids=["qwen2_5_vl", "mllama", "siglip"],
)
def test_a_published_shape_has_the_published_parameters(spec: ModelSpec, total: int):
    recipe = ENCODER.recipe if spec.family == "siglip" else None
    shape = Walk(config_of(spec), spec, PROFILES["gb10"], recipe, packed=False).shape()
    assert sum(all_ for all_, _ in shape.parameters.values()) == total


def test_weights_are_what_was_measured_of_the_published_shape():
    bytes_of = {
        packed: sum(Walk(config_of(DOCUMENTS.model), DOCUMENTS.model, PROFILES["gb10"], None, packed=packed).shape().weight_bytes.values())
        for packed in (False, True)
    }
    assert bytes_of[False] == pytest.approx(16_584_334_128, rel=1e-6)  # docs/benchmarks.md, both
    assert bytes_of[True] == pytest.approx(6_900_166_208, rel=1e-4)


def test_the_full_adapter_is_counted_on_the_language_linears_alone():
    recipe = DOCUMENTS.stages[0].recipe
    shape = Walk(config_of(DOCUMENTS.model), DOCUMENTS.model, PROFILES["gb10"], recipe, packed=True).shape()
    assert {part: own for part, (_, own) in shape.parameters.items() if own} == {"language": 161_480_704}


def test_thirty_to_sixty_million_weights_of_the_published_llava_med_are_trained():
    for stage in RADIOLOGY.stages:
        shape = Walk(config_of(RADIOLOGY.model), RADIOLOGY.model, PROFILES["gb10"], stage.recipe, packed=False).shape()
        assert {part: own for part, (_, own) in shape.parameters.items() if own} == {"projector": 20_979_712, "language": 31_457_280}


def test_every_family_has_a_batch_and_says_which_layers_repeat():
    assert set(BATCHES) == set(LAYER_LISTS) == set(get_args(Family))


def test_an_unknown_checkpoint_of_the_hub_is_refused_with_the_place_to_name_it():
    with pytest.raises(MedVLError, match="no config of someone/other"):
        config_of(replace(DOCUMENTS.model, hub_id="someone/other"))


def test_cut_layers_are_multiplied_to_what_all_of_them_take():
    config = config_of(TINY.model)
    config.text_config.num_hidden_layers, config.vision_config.depth = 12, 6
    config.text_config.layer_types = ["full_attention"] * 12
    walk = Walk(config, TINY.model, CPU, TINY.stages[0].recipe, packed=True)
    sizes = Sizes(2, *SHORT)
    short, whole = walk.walk(sizes), walk._walk(sizes, {})
    assert short.peak_bytes == pytest.approx(whole.peak_bytes, rel=0.01)
    assert short.num_operations == pytest.approx(whole.num_operations, rel=0.01)


def test_chunks_of_pairs_that_are_matched_are_multiplied_to_what_all_of_them_take():
    spec = tiny_model("siglip")
    walk = Walk(config_of(spec), spec, replace(CPU, training_batch=1), ENCODER.recipe, packed=False)
    sizes = Sizes(10, 64, 1, 96 * 96)
    assert walk.walk(sizes).peak_bytes == pytest.approx(walk._walk(sizes, {}).peak_bytes, rel=0.02)


def test_micro_batches_divide_the_effective_batch():
    assert micro_batches(16, 4) == [4, 2, 1]
    assert micro_batches(6, 4) == [3, 2, 1]


def test_fewer_pairs_at_a_time_are_chosen_where_more_do_not_fit_and_the_effective_batch_stays():
    four = _planner(math.inf).plan(4)
    two = _planner(math.inf).plan(2)
    assert two.total_bytes < four.total_bytes
    assert _planner(four.total_bytes).fitting().micro_batch == 4
    chosen = _planner((two.total_bytes + four.total_bytes) / 2).fitting()
    assert (chosen.micro_batch, chosen.accumulation) == (2, 2)


def test_what_the_trainer_would_do_by_itself_is_tried_first():
    assert _planner(math.inf, batch=4, effective=6).fitting().micro_batch == 2  # gcd, as training.route has it


def test_what_cannot_fit_is_refused_with_the_numbers_before_a_model_is_loaded():
    one = _planner(math.inf).plan(1)
    with pytest.raises(MedVLError) as refused:
        _planner(one.total_bytes - 1).fitting()
    assert f"needs {one.total_bytes / GB:.2f} GB with 1 pair of at most 160 tokens at a time (weights" in refused.value.found
    assert "gradient_checkpointing = true in [profiles.cpu]" in refused.value.do


def _shared(num_processes: int, weights: Weights) -> Planner:
    launcher = Launcher(num_processes=num_processes, weights=weights)
    return Planner(TINY.stages[0], TINY.model, replace(CPU, training_batch=2, launcher=launcher), SHORT, room=math.inf)


def _held(plan: Plan, name: str) -> float:
    """Bytes of one part; 0 where there is none."""
    return sum(part.num_bytes for part in plan.parts if part.name == name)


def test_processes_that_share_the_weights_hold_a_part_of_everything_but_activations():
    alone, four = _shared(1, "copied"), _shared(4, "divided").plan(1)
    whole, shape = alone.plan(1), alone._shape
    for name in ("weights: language", "weights: vision", "gradients", "optimizer"):
        assert _held(four, name) == _held(whole, name) / 4 > 0
    activations = [[part for part in plan.parts if part.name.startswith("activations")] for plan in (whole, four)]
    assert activations[0] == activations[1]
    assert four.parameters == whole.parameters
    assert (four.num_processes, four.accumulation) == (4, whole.accumulation / 4)
    rest = sum(_held(whole, f"weights: {name}") for name in ("vision", "projector", "embedding", "head"))
    scales = shape.num_packed * (PACKED_WIDTH["nf4"] - 0.5) * 3 / 4
    norm = config_of(TINY.model).text_config.hidden_size * 4  # of the language model, and of no layer
    assert len(shape.layer_bytes) == config_of(TINY.model).text_config.num_hidden_layers
    assert sum(shape.layer_bytes) + norm == _held(whole, "weights: language")
    assert _held(four, "weights: gathered") == pytest.approx(rest + norm + 3 * max(shape.layer_bytes) + scales)


def test_what_is_loaded_whole_before_it_is_divided_is_planned_for():
    """Eight layers of 1 GB between four processes: a pass needs 2 + 3 of them, and loading 8 + 2."""
    shape = Shape({}, {"language": 8e9}, 0, 0.0, (1e9,) * 8)
    parts = [Part("weights: language", 2e9, ""), Part("process", PROCESS_BYTES, "")]
    [gathered, loading] = _whole_at_times(shape, parts, 4)
    assert (gathered.num_bytes, loading.num_bytes) == (3e9, 5e9)
    [gathered] = _whole_at_times(shape, [*parts, Part("activations: language", 6e9, "")], 4)  # more than that at another time
    assert gathered.num_bytes == 3e9


def test_processes_that_copy_the_weights_divide_the_batch_alone():
    alone, two = _shared(1, "copied"), _shared(2, "copied")
    one, other = alone.plan(2), two.fitting()
    assert (other.total_bytes, other.micro_batch, other.accumulation) == (one.total_bytes, 2, one.accumulation / 2)
    assert "2 pairs at a time in each of 2 processes" in render([Outlook(other, (), None)], two.profile)


def test_predictions_take_fewer_questions_at_a_time_and_then_are_refused():
    evaluation = replace(TINY.evaluation, max_answer_tokens=16)
    profile = replace(CPU, prediction_batch=2)
    both = fitting_predictions(evaluation, TINY.model, profile, SHORT)
    assert both.micro_batch == 2
    assert {part.name: part.num_bytes for part in both.parts}["cache"] > 0
    with pytest.raises(MedVLError, match="predictions of medvl/tiny-qwen2.5-vl needs"):
        fitting_predictions(evaluation, TINY.model, replace(profile, memory_budget_bytes=1000), SHORT)


def test_the_cache_is_keys_and_values_of_every_token():
    config = config_of(TINY.model).text_config
    walked = Walk(config_of(TINY.model), TINY.model, CPU, None, packed=False).walk(Sizes(2, *SHORT))
    head = config.hidden_size // config.num_attention_heads
    assert walked.cache_bytes == 2 * config.num_hidden_layers * config.num_key_value_heads * head * 4 * 2 * 160


def test_a_frozen_tower_holds_nothing_for_the_way_back():
    checkpointing = replace(CPU, gradient_checkpointing=True)
    walked = Walk(config_of(TINY.model), TINY.model, checkpointing, TINY.stages[0].recipe, packed=True).walk(Sizes(1, *SHORT))
    picture = 64 * 1176 * 4  # bytes of the patches that go in
    assert walked.phases["back"].get("vision", 0) < picture


def test_the_longest_of_an_audit_is_of_the_splits_that_are_asked(tmp_path: Path):
    write_table(tmp_path / AUDIT, AuditRow, [_row(1, "train", 50, 56), _row(2, "validation", 40, 84), _row(3, "test", 99, 112)])
    assert longest(tmp_path, ("train", "validation")) == Length(50, 2, 84 * 84)
    assert longest(tmp_path, ("train",), num_tokens=70).num_tokens == 70


def test_attention_on_mps_keeps_what_a_flash_kernel_does_not():
    recipe, sizes = TINY.stages[0].recipe, Sizes(1, *SHORT)
    there, here = (
        Walk(config_of(TINY.model), TINY.model, replace(CPU, device=device), recipe, packed=False).walk(sizes) for device in ("mps", "cpu")
    )
    heads, layers = 4, 4
    assert there.peak_bytes - here.peak_bytes > layers * heads * 160 * 160 * 4


def test_a_training_step_is_planned_from_what_its_audit_found_and_takes_fewer_pairs_at_a_time(tmp_path: Path):
    write_table(tmp_path / AUDIT, AuditRow, [_row(1, "train", 160, 112)])
    seen: list[dict] = []
    call = Call(
        directory=tmp_path, fingerprint="f", observed="", workspace=Workspace(root=tmp_path), report=seen.append,
        inputs={f"audit/{TINY.name}": SimpleNamespace(directory=tmp_path)},
    )  # fmt: skip
    weights = shipped.DIRECTORY / "qwen2_5_vl"
    roomy = replace(CPU, quantization="none")
    stage = TINY.stages[0]
    assert planned_training(call, TINY, stage, TINY.model, roomy, weights) is roomy
    two = Planner(stage, TINY.model, roomy, SHORT, weights).plan(2).total_bytes
    tight = replace(roomy, memory_budget_bytes=round(two * 1.05))
    assert planned_training(call, TINY, stage, TINY.model, tight, weights) == replace(tight, training_batch=2)
    assert [told["pairs_at_a_time"] for told in seen] == [4, 2]
    with pytest.raises(MedVLError, match="there is room for 0.00 GB"):
        planned_training(call, TINY, stage, TINY.model, replace(roomy, memory_budget_bytes=1000), weights)


def test_the_command_prints_the_plan_of_another_machine_and_says_by_its_status_whether_it_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    settings = tmp_path / "dagster_project.toml"
    settings.write_text('data_root = "d"\nscale = "tiny"\nprofile = "cpu"\n[datasets.mtsamples]\n')
    monkeypatch.setenv("MEDVL_SETTINGS", str(settings))
    asked = ["plan", "documents", "--profile", "gb10", "--tokens", "160", "--pixels", "12544", "--json"]
    assert cli.main(asked) == 0
    adapter, predictions = json.loads(capsys.readouterr().out)
    assert (adapter["step"], predictions["step"]) == ("adapter", "predictions")
    assert adapter["room_bytes"] == pytest.approx(119.7e9 * 0.85)
    assert adapter["estimate"]["num_steps"] == TINY_PACE["qwen2_5_vl"][0]
    assert cli.main([*asked, "--memory", "0.01"]) == 1
    assert cli.main(["plan", "documents", "--profile", "gb11"]) == 2
    assert "did you mean 'gb10'?" in capsys.readouterr().err


def test_every_part_has_its_kind():
    assert set(kinds_of(_planner(math.inf).plan(1).parts)) == {"weights", "gradients", "optimizer", "activations", "process"}


@pytest.mark.parametrize("family", TINY_MODELS)
def test_the_small_models_are_planned_as_they_are_shipped(family: Family):
    spec = tiny_model(family)
    shape = Walk(config_of(spec), spec, PROFILES["cpu"], ENCODER.recipe if family == "siglip" else None, packed=False).shape()
    assert 1e6 < sum(total for total, _ in shape.parameters.values()) < 1e7


@pytest.mark.parametrize("family", ["qwen2_5_vl", "mllama", "llava_med"])
@pytest.mark.parametrize("num_tokens", [40, 600], ids=["pictures longer than the text", "text longer"])
def test_a_batch_of_several_pictures_each_is_walked(family: Family, num_tokens: int):
    spec = tiny_model(family)
    walk = Walk(config_of(spec), spec, PROFILES["cpu"], None, packed=False)
    one, several = (walk.walk(Sizes(2, num_tokens, count, 112 * 112)).peak_bytes for count in (1, 3))
    assert one < several
