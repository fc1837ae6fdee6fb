"""The merged model: an adapter's update added into the 16-bit weights of the base, as an export would hold it.

In: a base directory and an adapter. Out: a directory of weights that loads without PEFT, and the hash that each tensor has in the base. An
adapter that was trained on NF4 is added to other weights than it was trained on: what that costs is what the variant ``merged`` measures.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from peft import PeftModel
from safetensors import safe_open

from medvl_lib.errors import MedVLError
from medvl_lib.files import read_json
from medvl_lib.hardware import Profile
from medvl_lib.models.hashes import tensor_sha256
from medvl_lib.models.loading import DTYPES, Loaded, give_memory_back, load, quiet, serializing
from medvl_lib.models.preparing import copy_side_files
from medvl_lib.models.spec import ADAPTED, LANGUAGE_LAYERS, LORA_TENSOR, STORED_LANGUAGE_PREFIX, ModelSpec, is_whole
from medvl_lib.models.weights import MERGED_TENSORS, MergedTensor, describe, header
from medvl_lib.provenance import Fact
from medvl_lib.tables import write_table

CONFIG = "adapter_config.json"


def load_merged(base_directory: Path, adapter: Path, spec: ModelSpec, profile: Profile) -> Loaded:
    """The base with the adapter added into its weights, by torch on every profile; raises MedVLError where a sum is no number."""
    loaded = load(base_directory, spec, replace(profile, engine="torch", quantization="none"), adapter=adapter)
    if not isinstance(loaded.model, PeftModel):
        raise TypeError(f"{adapter} gave a {type(loaded.model).__name__}, not a PeftModel")
    with quiet():
        try:
            merged = loaded.model.merge_and_unload(safe_merge=True)
        except ValueError as error:
            raise MedVLError(found=str(error), where=str(adapter), do="train again with a lower learning rate") from error
    return replace(loaded, model=merged.to(DTYPES[profile.weights_dtype]))  # what was trained whole is wider


def write_merged(directory: Path, base_directory: Path, adapter: Path, spec: ModelSpec, profile: Profile) -> dict[str, Fact]:
    """Add the adapter into the base weights and save them; returns how many linears were adapted.

    Raises MedVLError when the sum has values that are no numbers.
    """
    merged = load_merged(base_directory, adapter, spec, profile).model
    with quiet(), serializing(directory):
        merged.save_pretrained(directory)
    del merged
    give_memory_back(profile)
    copy_side_files(base_directory, directory)
    adapted = adapted_tensors(adapter, spec)
    num_linears = sum(name.startswith(STORED_LANGUAGE_PREFIX[spec.family]) for name in adapted)
    dtype = DTYPES[profile.weights_dtype]
    write_table(directory / MERGED_TENSORS, MergedTensor, (
        MergedTensor(name=name, sha256_in_base=tensor_sha256(tensor.to(dtype)), is_adapted=name in adapted)
        for name, tensor in _stored(base_directory)
    ))  # fmt: skip
    return {**describe(directory), "num_adapted_linears": num_linears, "num_replaced_tensors": len(adapted) - num_linears}


def adapted_tensors(adapter: Path, spec: ModelSpec) -> set[str]:
    """The stored names of the weights that an adapter changes: by an update, or by a copy of its own where a module is trained whole.

    Raises MedVLError for any other tensor.
    """
    found: set[str] = set()
    whole = read_json(adapter / CONFIG)["modules_to_save"] or ()
    for path in adapter.glob("*.safetensors"):
        for name in header(path):
            if is_whole(name, whole):
                found.add(name.removeprefix(ADAPTED).removeprefix("model."))  # as every family's files call what is no language model's
                continue
            update = LORA_TENSOR.fullmatch(name)
            if update is None or not update["module"].startswith(LANGUAGE_LAYERS):
                raise MedVLError(
                    found=f"{name}, which is no update of a language layer", where=str(path),
                    do="train the adapter on language layers (recipe.lora_targets) and whole modules (recipe.fully_trained) alone, or take "
                    "merged out of further_variants",
                )  # fmt: skip
            found.add(f"{STORED_LANGUAGE_PREFIX[spec.family]}{update['module'].removeprefix(LANGUAGE_LAYERS)}.weight")
    return found


def _stored(directory: Path) -> Iterator[tuple[str, torch.Tensor]]:
    for path in sorted(directory.glob("*.safetensors")):
        with safe_open(path, framework="pt") as stream:
            for name in stream.keys():  # noqa: SIM118 (no mapping)
                yield name, stream.get_tensor(name)
