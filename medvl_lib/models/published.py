"""The shapes of the published checkpoints as values: what can be known of a model before a byte of it is fetched. No torch here.

In: nothing. Out: config.json of each checkpoint that a line starts from, as far as it decides shapes; what is left out is the library's
default and equals the file's. The parameters that they give are held against the published totals (``tests/models/test_published.py``).
Sources: the repositories' config.json at the revisions of ``lines.MODELS``; ``medvl_lib/plan`` builds the shapes without memory.
"""

from collections.abc import Mapping
from typing import Any

CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "Qwen/Qwen2.5-VL-7B-Instruct": {
        "model_type": "qwen2_5_vl", "tie_word_embeddings": False,
        "image_token_id": 151655, "video_token_id": 151656, "vision_start_token_id": 151652, "vision_end_token_id": 151653,
        "text_config": {
            "vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
            "num_key_value_heads": 4, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
        },
        "vision_config": {
            "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 3584,
            "fullatt_block_indexes": [7, 15, 23, 31],
        },
    },
    "meta-llama/Llama-3.2-11B-Vision-Instruct": {
        "model_type": "mllama", "image_token_index": 128256,
        "text_config": {
            "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 40, "num_attention_heads": 32,
            "num_key_value_heads": 8, "cross_attention_layers": [3, 8, 13, 18, 23, 28, 33, 38],
        },
        "vision_config": {
            "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_global_layers": 8, "attention_heads": 16,
            "image_size": 560,  # the class default is 448
            "patch_size": 14, "max_num_tiles": 4, "vision_output_dim": 7680, "intermediate_layers_indices": [3, 7, 15, 23, 30],
        },
    },
    "microsoft/llava-med-v1.5-mistral-7b": {  # as it is converted: with two rows more and filled up to a multiple of 64
        "model_type": "llava", "image_token_index": 32000, "image_seq_length": 576, "vision_feature_layer": -2,
        "text_config": {
            "model_type": "llama", "vocab_size": 32064, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 8,
        },
        "vision_config": {
            "model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
            "num_attention_heads": 16, "image_size": 336, "patch_size": 14, "projection_dim": 768,
        },
    },
    "google/siglip-base-patch16-224": {
        "model_type": "siglip",
        "text_config": {
            "vocab_size": 32000, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
            "max_position_embeddings": 64,
        },
        "vision_config": {
            "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12, "image_size": 224,
            "patch_size": 16,
        },
    },
}  # fmt: skip
"""Repository on the hub -> what of its config.json decides shapes."""
