"""The published shape of Qwen2.5-VL-7B: what differs from any other size of it."""

from medvl_lib.models.published import CONFIGS

_PUBLISHED = CONFIGS["Qwen/Qwen2.5-VL-7B-Instruct"]
PUBLISHED = {"text": _PUBLISHED["text_config"], "vision": _PUBLISHED["vision_config"]}

LLAVA_MED = {
    "text": {
        "vocab_size": 32064, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
    "vision": {
        "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16, "image_size": 336,
        "patch_size": 14, "projection_dim": 768,
    },
}  # fmt: skip
"""The same of LLaVA-Med v1.5: Mistral-7B and CLIP ViT-L/14-336.

Source: huggingface.co/microsoft/llava-med-v1.5-mistral-7b, config.json @ 91bb16c1; openai/clip-vit-large-patch14-336, config.json.
"""
