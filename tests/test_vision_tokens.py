"""Picture sizes and token counts. If these passed wrongly, the audit would count other image tokens than the processor makes, and a
model would read a cut or a foreign picture without an error.
"""

import json
import random
from pathlib import Path

import pytest

from medvl_lib.errors import MedVLError
from medvl_lib.vision_tokens import SeenPicture, read_sizing

PROCESSOR = {"patch_size": 14, "merge_size": 2, "size": {"shortest_edge": 3136, "longest_edge": 1_003_520}}


def model_directory(
    path: Path, file: str = "preprocessor_config.json", processor: object = PROCESSOR, model_type: str = "qwen2_5_vl"
) -> Path:
    (path / "config.json").write_text(json.dumps({"model_type": model_type}))
    (path / file).write_text(json.dumps(processor))
    return path


def test_measured_counts_of_qwen2_5_vl(tmp_path):
    sizing = read_sizing(model_directory(tmp_path), max_pixels=28 * 28 * 1280)
    assert sizing(256, 256) == SeenPicture(height_pixels=252, width_pixels=252, num_tokens=81)
    assert sizing(448, 448).num_tokens == 256
    assert sizing(1024, 1024).num_tokens == 1225


def test_a_large_page_shrinks_to_the_given_budget_and_a_thumbnail_grows(tmp_path):
    sizing = read_sizing(model_directory(tmp_path), max_pixels=28 * 28 * 100)
    assert sizing(2339, 1654) == SeenPicture(height_pixels=308, width_pixels=224, num_tokens=88)
    assert sizing(20, 30) == SeenPicture(height_pixels=56, width_pixels=84, num_tokens=6)


@pytest.mark.parametrize(
    ("file", "processor"),
    [
        ("preprocessor_config.json", {"patch_size": 14, "merge_size": 2, "min_pixels": 3136, "max_pixels": 12_845_056}),
        ("preprocessor_config.json", {**PROCESSOR, "min_pixels": None}),
        ("processor_config.json", {"processor_class": "X", "image_processor": PROCESSOR}),
    ],
)
def test_every_spelling_of_the_processor_file_is_read_alike(tmp_path, file, processor):
    sizing = read_sizing(model_directory(tmp_path, file, processor), max_pixels=1_003_520)
    assert sizing(20, 30) == SeenPicture(height_pixels=56, width_pixels=84, num_tokens=6)


def test_the_arithmetic_is_that_of_transformers_on_200_random_sizes(tmp_path):
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize

    processor = Qwen2VLImageProcessorPil(size={"shortest_edge": 3136, "longest_edge": 28 * 28 * 150})
    processor.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "qwen2_5_vl"}')
    sizing, draw = read_sizing(tmp_path, max_pixels=28 * 28 * 150), random.Random(7)
    for _ in range(200):
        height, width = draw.randint(8, 2500), draw.randint(20, 1500)
        if max(height, width) <= 200 * min(height, width):
            seen = sizing(height, width)
            assert (seen.height_pixels, seen.width_pixels) == smart_resize(height, width, 28, 3136, 28 * 28 * 150)
            assert seen.num_tokens * 4 == processor.get_number_of_image_patches(height, width)


def test_real_pixels_give_the_grid_that_was_computed(tmp_path):
    import numpy as np
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    Qwen2VLImageProcessorPil(size={"shortest_edge": 3136, "longest_edge": 28 * 28 * 20}).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "qwen2_5_vl"}')
    processor, sizing = Qwen2VLImageProcessorPil.from_pretrained(tmp_path), read_sizing(tmp_path, max_pixels=28 * 28 * 20)
    for height, width in ((300, 200), (90, 400), (33, 31)):
        grid = processor(np.zeros((height, width, 3), np.uint8))["image_grid_thw"][0]
        assert int(grid.prod()) == 4 * sizing(height, width).num_tokens


def test_an_unknown_family_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(MedVLError, match=r"'mamba_vl'.*\n.*config.json\n.*qwen2_5_vl"):
        read_sizing(model_directory(tmp_path, model_type="mamba_vl"), max_pixels=1)


def test_a_missing_number_is_named_and_never_defaulted(tmp_path):
    with pytest.raises(MedVLError, match="no 'merge_size'"):
        read_sizing(model_directory(tmp_path, processor={"patch_size": 14, "size": {"shortest_edge": 1}}), max_pixels=1)


def test_a_ribbon_is_refused_as_the_processor_refuses_it(tmp_path):
    with pytest.raises(ValueError, match="5001 x 25 pixels"):
        read_sizing(model_directory(tmp_path), max_pixels=1_003_520)(25, 5001)
