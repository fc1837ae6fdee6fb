"""The merged model: an adapter's update added into the 16-bit weights of the base, as an export would hold it.

In: a base directory and an adapter. Out: a directory of weights that loads without PEFT, and the hash that each tensor has in the base. An
adapter that was trained on NF4 is added to other weights than it was trained on: what that costs is what the variant ``merged`` measures.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import torch
from peft import PeftModel
from safetensors import safe_open

from medvl_lib.errors import MedVLError
from medvl_lib.hardware import Profile
from medvl_lib.models.loading import DTYPES, copy_side_files, load, quiet, serializing
from medvl_lib.models.spec import STORED_LANGUAGE_PREFIX, ModelSpec
from medvl_lib.models.weights import MERGED_TENSORS, MergedTensor, describe, header
from medvl_lib.provenance import Fact
from medvl_lib.tables import write_table

MODULE = "base_model.model."  # how PEFT calls the model that it wraps
LAYERS = ".layers."


def write_merged(directory: Path, base_directory: Path, adapter: Path, spec: ModelSpec, profile: Profile) -> dict[str, Fact]:
    """Add the adapter into the base weights and save them; returns how many linears were adapted.

    Raises MedVLError when the sum has values that are no numbers.
    """
    model = load(base_directory, spec, profile, adapter=adapter).model
    if not isinstance(model, PeftModel):
        raise TypeError(f"{adapter} gave a {type(model).__name__}, not a PeftModel")
    with quiet(), serializing(directory):
        try:
            merged = model.merge_and_unload(safe_merge=True)
        except ValueError as error:
            raise MedVLError(found=str(error), where=str(adapter), do="train again with a lower learning rate") from error
        merged.save_pretrained(directory)
    copy_side_files(base_directory, directory)
    adapted = adapted_tensors(adapter, spec)
    dtype = DTYPES[profile.weights_dtype]
    write_table(directory / MERGED_TENSORS, MergedTensor, (
        MergedTensor(name=name, sha256_in_base=_sha256(tensor.to(dtype)), is_adapted=name in adapted)
        for name, tensor in _stored(base_directory)
    ))  # fmt: skip
    return {**describe(directory), "num_adapted_linears": len(adapted)}


def adapted_tensors(adapter: Path, spec: ModelSpec) -> set[str]:
    """The stored names of the weights that an adapter changes; raises ValueError for a tensor outside the language layers."""
    found: set[str] = set()
    for path in adapter.glob("*.safetensors"):
        for name in header(path):
            module, is_update, _ = name.removeprefix(MODULE).partition(".lora_")
            _, is_layer, place = module.partition(LAYERS)
            if not (is_update and is_layer and module.startswith("model.language_model.")):
                raise ValueError(f"{name} is no update of a language layer")
            found.add(f"{STORED_LANGUAGE_PREFIX[spec.family]}{place}.weight")
    return found


def _stored(directory: Path) -> Iterator[tuple[str, torch.Tensor]]:
    for path in sorted(directory.glob("*.safetensors")):
        with safe_open(path, framework="pt") as stream:
            for name in stream.keys():  # noqa: SIM118 (no mapping)
                yield name, stream.get_tensor(name)


def _sha256(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().view(-1).view(torch.uint8).numpy()).hexdigest()
