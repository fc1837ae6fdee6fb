"""The real model's shape, without its weights. If these passed wrongly, the adapter would sit on the vision blocks too, as it did in the
requirement documents' run: 28,876,800 parameters more, from a list of suffixes that also matches the tower's own projections.
"""

from dataclasses import replace

import torch
from transformers import (
    CLIPVisionConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    MistralConfig,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)

from medvl_lib.lines import DOCUMENTS, MODELS, RADIOLOGY
from medvl_lib.models.counting import parameters_by_part
from medvl_lib.models.loading import Loaded
from medvl_lib.training.route import adapt
from tests.training.full_size import LLAVA_MED, PUBLISHED

CONFIG = Qwen2_5_VLConfig(text_config=PUBLISHED["text"], vision_config=PUBLISHED["vision"], tie_word_embeddings=False)


def test_the_full_models_adapter_has_161480704_parameters_all_in_the_language_model():
    with torch.device("meta"):
        model = Qwen2_5_VLForConditionalGeneration(CONFIG)
    assert sum(parameter.numel() for parameter in model.parameters()) == 8_292_166_656  # the published total
    loaded = Loaded(model=model, processor=None, prompts=None, precision="bfloat16", load_seconds=0.0)
    with torch.device("meta"):
        adapted = adapt(loaded, DOCUMENTS.model, DOCUMENTS.stages[0].recipe)
    assert all(".language_model.layers." in name for name, parameter in adapted.named_parameters() if parameter.requires_grad)
    assert parameters_by_part(adapted, "qwen2_5_vl") == {
        "projector": (44_574_464, 0), "vision": (631_975_680, 0), "embedding": (544_997_376, 0),
        "language": (6_525_621_760 + 161_480_704, 161_480_704), "head": (544_997_376, 0),
    }  # fmt: skip


def test_the_curriculum_trains_30_to_60_million_parameters_of_either_model():
    """As the requirement document has it: on LLaVA-Med with its projector, which is trained whole there."""
    recipe = RADIOLOGY.answering[0].recipe
    with torch.device("meta"):
        qwen = Qwen2_5_VLForConditionalGeneration(CONFIG)
        text, vision = MistralConfig(**LLAVA_MED["text"]), CLIPVisionConfig(**LLAVA_MED["vision"])
        llava = LlavaForConditionalGeneration(LlavaConfig(text_config=text, vision_config=vision))
        found = {
            family: parameters_by_part(
                adapt(Loaded(model=model, processor=None, prompts=None, precision="", load_seconds=0.0), MODELS[family], one), family
            )
            for family, model, one in (
                ("qwen2_5_vl", qwen, replace(recipe, fully_trained=(), fully_trained_rate=0.0)),
                ("llava_med", llava, recipe),
            )
        }  # fmt: skip
    trains = {family: {part: count.trainable for part, count in parts.items() if count.trainable} for family, parts in found.items()}
    assert trains == {"qwen2_5_vl": {"language": 30_277_632}, "llava_med": {"language": 31_457_280, "projector": 20_979_712}}
    assert all(30e6 <= sum(counts.values()) <= 60e6 for counts in trains.values())
