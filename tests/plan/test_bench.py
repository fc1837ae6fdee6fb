"""A line's steps with random weights. If these passed wrongly, a machine would be bought for numbers that nothing real takes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from medvl_lib.errors import MedVLError
from medvl_lib.hardware import PROFILES
from medvl_lib.lines import DOCUMENTS, IMAGING, Line, tiny
from medvl_lib.plan.bench import _cases, as_json, bench, render, with_layers
from medvl_lib.plan.dry_run import config_of

PROFILE = replace(PROFILES["cpu"], training_batch=1, prediction_batch=1)


def test_fewer_layers_are_those_of_the_language_model_alone():
    config = with_layers(config_of(DOCUMENTS.model), 3)
    assert (config.text_config.num_hidden_layers, len(config.text_config.layer_types), config.vision_config.depth) == (3, 3, 32)
    with_cross = with_layers(config_of(IMAGING.model), 5)
    assert with_cross.text_config.cross_attention_layers == [3]


def test_an_engine_that_is_not_measured_here_is_refused_and_what_it_does_not_run_is_measured_by_torch(tmp_path: Path):
    of_mlx = replace(PROFILE, engine="mlx", quantization="mlx-affine4")
    with pytest.raises(MedVLError, match="engine = 'mlx'"):
        next(bench(tiny(DOCUMENTS), of_mlx))
    cases = list(_cases(tiny(IMAGING), of_mlx, tmp_path, 64, 96 * 96, 2))
    assert {(case.profile.engine, case.profile.quantization, case.packed) for case in cases} == {("torch", "none", False)}


@pytest.mark.slow
@pytest.mark.parametrize("line", [DOCUMENTS, IMAGING], ids=lambda line: line.name)
def test_every_step_is_measured_and_its_weights_are_those_of_the_plan(line: Line):
    found = list(bench(tiny(line), PROFILE, num_tokens=64, num_pixels=96 * 96, num_layers=2))
    assert [item.step for item in found] == [*(stage.name for stage in line.stages), "predictions: base", "predictions: nf4"]
    for item in found:
        assert item.weights_bytes == pytest.approx(item.planned_weights_bytes, rel=0.15)
        assert item.peak_bytes > item.weights_bytes
        assert item.seconds > 0 < item.tokens_per_second
    base, nf4 = found[-2:]
    assert nf4.weights_bytes < base.weights_bytes
    assert [row["step"] for row in json.loads(as_json(found))] == [item.step for item in found]
    assert render(found).count("\n") >= len(found) + 3
