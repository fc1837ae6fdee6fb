"""The published shape of Qwen2.5-VL-7B: what differs from any other size of it."""

from medvl_lib.models.published import CONFIGS

_PUBLISHED = CONFIGS["Qwen/Qwen2.5-VL-7B-Instruct"]
PUBLISHED = {"text": _PUBLISHED["text_config"], "vision": _PUBLISHED["vision_config"]}
