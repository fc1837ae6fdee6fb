"""What a model is, as literal values. No torch here: the graph reads this file when it loads."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from medvl_lib.hardware import Profile

REVISION = 2  # the small models are trained; first version of what models.preparing and the family modules write

Family = Literal["qwen2_5_vl", "mllama", "llava_med", "siglip"]
Source = Literal["tiny", "hub", "directory"]
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """The weights that a line starts from. Every field bears identity, except ``path`` (its contents do instead)."""

    family: Family
    """The architecture."""
    source: Source
    """``tiny``: the trained small model that comes with MedVL, or one built from ``seed`` where it is absent; ``hub``: ``hub_id`` at
    ``revision``; ``directory``: a checkpoint on this machine."""
    hub_id: str
    """Repository on the hub, or the tiny model's name: what reports call the model."""
    revision: str
    """Commit of the hub repository (40 hexadecimal digits); empty for the other sources."""
    seed: int
    """Seed of the random weights that stand in for an absent tiny model; 0 for the other sources."""
    path: str
    """The checkpoint's directory where the source is one; empty otherwise. Not identity: its contents are."""
    max_pixels: int
    """The most pixels (height x width) that the processor keeps of a picture; of a family whose pictures have a size of their own it must
    be that: all tiles of mllama, the square of llava_med."""

    def __post_init__(self) -> None:
        """Refuse a spec that leaves open which weights are meant."""
        if self.source == "hub" and not HUB_ID.fullmatch(self.hub_id):
            raise ValueError(f"hub_id {self.hub_id!r} is no repository of the hub: write owner/name, without an address")
        if self.max_pixels < 1:
            raise ValueError(f"max_pixels = {self.max_pixels!r} must be 1 or more")
        if self.source == "hub" and len(self.revision) != 40:
            raise ValueError(f"revision {self.revision!r} of {self.hub_id} is not a commit of 40 hexadecimal digits: pin one")
        if self.source != "hub" and self.revision:
            cure = "set revision = '' and hub_id to a name of yours"
            raise ValueError(f"revision {self.revision!r} names a commit on the hub, but source is {self.source!r}: {cure}")
        if (self.source == "directory") != bool(self.path):
            raise ValueError(f"path {self.path!r} and source {self.source!r}: a path is given exactly when the source is 'directory'")


MODEL_TYPES: Mapping[Family, str] = {
    "qwen2_5_vl": "qwen2_5_vl", "mllama": "mllama", "llava_med": "llava", "siglip": "siglip",
}  # fmt: skip
"""``model_type`` in config.json, as the library loads it."""
FAMILIES: Mapping[str, Family] = {model_type: family for family, model_type in MODEL_TYPES.items()}
LAYOUT_REVISIONS: Mapping[Family, int] = {"llava_med": 1}  # first version of models.llava_layout
"""Families whose checkpoints are brought from their publisher's layout into the library's when the base model is prepared."""
SKIP_MODULES: dict[Family, tuple[str, ...]] = {
    # matched from the start of the module's name: "visual" alone would skip nothing (transformers PR #42711)
    "qwen2_5_vl": ("lm_head", "model.visual"),
    "mllama": ("lm_head", "model.vision_model", "model.multi_modal_projector"),
    "llava_med": ("lm_head", "model.vision_tower", "model.multi_modal_projector"),
    "siglip": (),  # an encoder is small: it is never quantized
}
PARTS: dict[Family, tuple[tuple[str, str], ...]] = {
    "qwen2_5_vl": (
        ("projector", "model.visual.merger."), ("vision", "model.visual."), ("embedding", "model.language_model.embed_tokens."),
        ("language", "model.language_model."), ("head", "lm_head."),
    ),
    "mllama": (
        ("projector", "model.multi_modal_projector."), ("vision", "model.vision_model."),
        ("embedding", "model.language_model.embed_tokens."), ("language", "model.language_model."), ("head", "lm_head."),
    ),
    "llava_med": (
        ("projector", "model.multi_modal_projector."), ("vision", "model.vision_tower."),
        ("embedding", "model.language_model.embed_tokens."), ("language", "model.language_model."), ("head", "lm_head."),
    ),
    "siglip": (("vision", "vision_model."), ("text", "text_model."), ("temperature", "logit_")),
}  # fmt: skip
"""The parts of a model and how their parameters' names begin; the first that matches counts."""
NO_FLASH_ATTENTION: frozenset[Family] = frozenset({"mllama"})
"""Families whose cross-attention transformers runs by ``sdpa`` alone."""
MLX_FAMILIES: frozenset[Family] = frozenset({"qwen2_5_vl", "llava_med"})
"""Families that the engine ``mlx`` runs: those whose form in mlx-vlm is held against torch's in the suite. The others stay on torch."""


def on_its_engine(profile: Profile, family: Family) -> Profile:
    """The profile as a family runs on it: on torch and without four bits where the profile's engine does not run the family."""
    if profile.engine == "torch" or family in MLX_FAMILIES:
        return profile
    return replace(profile, engine="torch", quantization="none")


LAYER_LISTS: dict[Family, tuple[str, ...]] = {
    "qwen2_5_vl": ("model.language_model.layers", "model.visual.blocks"),
    "mllama": ("model.language_model.layers",),  # its tower hands out layers by number: that list is never cut
    "llava_med": ("model.language_model.layers",),  # its tower is read two layers before its end
    "siglip": ("vision_model.encoder.layers", "text_model.encoder.layers"),
}
"""Lists of layers that say the same over and over, and may be cut to a few of them: what a plan multiplies instead of walking."""
ONLY_WITH_PICTURES: frozenset[str] = frozenset({"MllamaCrossAttentionDecoderLayer"})
"""Classes of language layers that a batch without a picture skips."""
STORED_LANGUAGE_PREFIX: dict[Family, str | tuple[()]] = {
    "qwen2_5_vl": "model.layers.",
    "mllama": "language_model.model.layers.",
    "llava_med": "language_model.model.layers.",
    "siglip": (),  # none of them
}
"""How the tensors that may be quantized are called in a file: transformers saves the hub's names, not the modules'."""

LANGUAGE = "model.language_model."  # of every family that transformers builds from a tower, a projector and a language model
LANGUAGE_LAYERS = f"{LANGUAGE}layers."
LORA_TENSOR = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_[AB]\.weight")  # how PEFT stores the update of a module
ADAPTED = "base_model.model."  # how PEFT's names begin, before those of the base's modules
MERGE_REVISION = 1  # first version of models.merging

LANGUAGE_TARGETS = r"model\.language_model\.layers\.\d+\.(self_attn|cross_attn|mlp)\.(q|k|v|o|gate|up|down)_proj"
"""LoRA targets of a language model: a full match, since a list of suffixes would also adapt the vision blocks' own gate/up/down."""


def is_whole(tensor: str, fully_trained: Iterable[str]) -> bool:
    """Whether a tensor of an adapter is a weight of one of the modules that are trained, and kept, whole."""
    return any(re.fullmatch(rf"base_model\.model\.(.+\.)?{re.escape(name)}\.(.+\.)?(weight|bias)", tensor) for name in fully_trained)


TOWER_TARGETS = r"(vision_model|text_model)\.encoder\.layers\.\d+\.(self_attn\.(q|k|v|out)_proj|mlp\.fc[12])"
"""LoRA targets of an encoder of two towers: every linear of their layers, and not those of the pooling heads."""
