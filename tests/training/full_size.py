"""The published shape of Qwen2.5-VL-7B: what differs from any other size of it.

Source: huggingface.co/Qwen/Qwen2.5-VL-7B-Instruct, config.json @ cc594898.
"""

PUBLISHED = {
    "text": {
        "vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
        "num_key_value_heads": 4, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    },
    "vision": {
        "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 3584,
        "fullatt_block_indexes": [7, 15, 23, 31],
    },
}  # fmt: skip

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
