"""Directories in the hub's layout that plain transformers, PEFT and serving engines load as they were judged.

In: a base model, perhaps an adapter, and how the line asks. Out: directories of weights with everything that stands beside them: the pixel
budget of the pictures, the chat template without a blank at its end, and greedy generation without the checkpoint's own penalties. Cards,
checksums and the comparison with what was judged belong to ``export``.
"""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from medvl_lib.files import read_json, write_json
from medvl_lib.hardware import Profile
from medvl_lib.models.llava_layout import IMAGE_TOKEN
from medvl_lib.models.loading import give_memory_back, quiet, serializing
from medvl_lib.models.merging import load_merged
from medvl_lib.models.preparing import copy_side_files
from medvl_lib.models.shipped import ORIGIN
from medvl_lib.models.spec import Family, ModelSpec
from medvl_lib.models.weights import WEIGHTS
from medvl_lib.prompts import TEMPLATE_FILES, read_prompt_format, render_opening, render_prompt
from medvl_lib.provenance import PROVENANCE, VERDICTS

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
PREPROCESSOR, PROCESSOR, GENERATION = "preprocessor_config.json", "processor_config.json", "generation_config.json"
SUMMARY = "training.json"  # what training measured: it stands in the card
READABLE = 0o644
OWN_FILES = {PROVENANCE, VERDICTS, SUMMARY, ORIGIN}  # of MedVL, not of a model
PROBE = [{"role": "user", "content": [{"type": "text", "text": "?"}]}]
WITHOUT_BLANKS = "{{%- set whole -%}}{template}{{%- endset -%}}{{{{ whole.rstrip(' ') if add_generation_prompt else whole }}}}"


def write_merged_16bit(directory: Path, base: Path, adapter: Path, spec: ModelSpec, profile: Profile) -> None:
    """The base with the adapter added into its weights, in bfloat16: summed in the profile's width, and rounded once.

    Raises MedVLError when the sum has values that are no numbers.
    """
    merged = load_merged(base, adapter, spec, profile).model.to(torch.bfloat16)
    with quiet(), serializing(directory):
        merged.save_pretrained(directory)
    del merged
    give_memory_back(profile)
    _copy_beside(base, directory)
    for path in directory.glob("*.safetensors"):
        path.chmod(READABLE)  # the library writes them for their owner alone


def copy_weights(directory: Path, source: Path) -> None:
    """A directory of weights as it is, without what only MedVL reads."""
    for path in sorted(path for pattern in WEIGHTS for path in source.glob(pattern)):
        if path.name not in OWN_FILES:
            shutil.copyfile(path, directory / path.name)


def write_adapter(directory: Path, adapter: Path, base: Path, base_name: str, base_revision: str | None) -> None:
    """The trained weights, with the name of what they belong on, and the base's tokenizer and picture processor."""
    for name in ADAPTER_FILES:
        shutil.copyfile(adapter / name, directory / name)
    config = read_json(directory / ADAPTER_FILES[0])
    write_json(directory / ADAPTER_FILES[0], {**config, "base_model_name_or_path": base_name, "revision": base_revision})
    _copy_beside(base, directory)
    (directory / "config.json").unlink()  # of whole models: a folder that has one is taken for one


def _copy_beside(base: Path, directory: Path) -> None:
    """Tokenizer, processor and template; nothing of what MedVL notes of itself and of this machine."""
    copy_side_files(base, directory)
    for name in OWN_FILES:
        (directory / name).unlink(missing_ok=True)


def write_how_it_is_asked(directory: Path, base: Path, spec: ModelSpec, max_answer_tokens: int) -> None:
    """What answers depend on beside the weights, as the evaluation has it: whoever reads these files asks as it was asked."""
    images = read_json(directory / PREPROCESSOR)
    if "longest_edge" in images.get("size", {}):
        write_json(directory / PREPROCESSOR, {**images, "size": {**images["size"], "longest_edge": spec.max_pixels}})
    if spec.family in PROCESSORS:
        write_json(directory / PROCESSOR, PROCESSORS[spec.family](read_json(base / "config.json")))
    prompts = read_prompt_format(base)
    if render_opening(prompts, PROBE) != render_prompt(prompts, PROBE):
        path = directory / TEMPLATE_FILES[0]
        path.write_text(WITHOUT_BLANKS.format(template=path.read_text(encoding="utf-8")), encoding="utf-8")
    tokens = read_json(base / "tokenizer.json")["added_tokens"]
    ids = {token["content"]: token["id"] for token in tokens}
    settings = {"eos_token_id": ids[prompts.eos_token], "pad_token_id": ids[prompts.special_tokens["pad_token"]]}
    write_json(directory / GENERATION, {
        **settings, "do_sample": False, "num_beams": 1, "repetition_penalty": 1.0, "max_new_tokens": max_answer_tokens, "use_cache": True,
    })  # fmt: skip


def _llava(config: Mapping[str, Any]) -> dict[str, object]:
    """What a processor has to know of the model: without it one token too few stands for each picture."""
    return {
        "processor_class": "LlavaProcessor", "patch_size": config["vision_config"]["patch_size"], "image_token": IMAGE_TOKEN,
        "vision_feature_select_strategy": config["vision_feature_select_strategy"], "num_additional_image_tokens": 1,
    }  # fmt: skip


def _mllama(_: Mapping[str, Any]) -> dict[str, object]:
    """An adapter's folder has no config that would say it: without it the tokenizer alone is taken for the processor."""
    return {"processor_class": "MllamaProcessor"}


PROCESSORS: Mapping[Family, Callable[[Mapping[str, Any]], dict[str, object]]] = {"llava_med": _llava, "mllama": _mllama}
"""Of families whose directories do not say it."""
