"""What stands in a directory of weights, read from the files alone. No torch here.

In: a directory in the hub's layout. Out: its tensors by name, and the rules that base, quantized and merged models must pass. Loading is
``loading``'s.
Source of the layout: github.com/huggingface/safetensors, README @ v0.8 (8 bytes of length, a JSON header, then the tensors).
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

from medvl_lib.files import read_json
from medvl_lib.models import shipped
from medvl_lib.models.spec import FAMILIES, STORED_LANGUAGE_PREFIX
from medvl_lib.provenance import Fact, Outcome, Rule
from medvl_lib.tables import Column, read_table

WEIGHTS = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")  # what a checkpoint needs; pickles are not loaded
NF4_MARK, INT8_MARK = ".quant_state.bitsandbytes__nf4", ".SCB"  # what bitsandbytes writes beside a packed weight
MERGED_TENSORS = "merged_tensors.parquet"
CHUNK_BYTES = 1 << 26
AFFINE_MARK = ".scales"  # what MLX writes beside one
AFFINE_BITS, AFFINE_GROUP = 4, 64  # equally spaced levels; a scale and an offset for each group of so many weights
Quantization = Literal["nf4", "int8", "affine4"]
FOUR_BITS: Mapping[str, Quantization] = {"nf4": "nf4", "mlx-affine4": "affine4"}
"""What a profile calls its four bits -> how steps and variants are called that have them. They are never called each other's name."""
FOUR_BIT_FORMS = tuple(FOUR_BITS.values())
"""A line's weights in four bits are one of these, as its profile's engine packs them."""
PACKED_WIDTH: Mapping[Quantization, float] = {
    "nf4": (4 + 8 / 64 + 32 / (64 * 256)) / 8, "int8": 1.0, "affine4": (AFFINE_BITS + 2 * 16 / AFFINE_GROUP) / 8,
}  # fmt: skip
"""Bytes of a packed weight: NF4 with double quantization has a scale of 8 bits for 64 of them, and one of 32 bits for 256 scales; MLX's
affine form has a scale and an offset of 16 bits for 64 (of 32 bits where the weights were)."""
FULL_WIDTH = {"F32", "F16", "BF16"}
NEEDED = ("config.json", "tokenizer.json", "tokenizer_config.json", "preprocessor_config.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """A tensor as a safetensors header lists it."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    """Offset of its first byte after the header."""
    end: int
    """Offset behind its last byte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedTensor:
    """A tensor of a merged model, beside the base that it came from."""

    name: Annotated[str, Column("the tensor's name in the files")]
    sha256_in_base: Annotated[str, Column("SHA-256 of its bytes in the base, in the merged model's type")]
    is_adapted: Annotated[bool, Column("whether the adapter has an update for it")]


def header(path: Path) -> dict[str, StoredTensor]:
    """The tensors of one file; raises ValueError when the file is shorter than its header says."""
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        entries = json.loads(stream.read(length))
    tensors = {
        name: StoredTensor(dtype=entry["dtype"], shape=tuple(entry["shape"]), begin=entry["data_offsets"][0], end=entry["data_offsets"][1])
        for name, entry in entries.items() if name != "__metadata__"
    }  # fmt: skip
    wanted = 8 + length + max((tensor.end for tensor in tensors.values()), default=0)
    if path.stat().st_size != wanted:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes, its header describes {wanted}")
    return tensors


def tensors(directory: Path) -> dict[str, StoredTensor]:
    """The tensors of every safetensors file below ``directory``."""
    return {name: tensor for path in sorted(directory.glob("*.safetensors")) for name, tensor in header(path).items()}


def tensor_hashes(directory: Path) -> dict[str, str]:
    """SHA-256 of the stored bytes of every tensor."""
    found: dict[str, str] = {}
    for path in sorted(directory.glob("*.safetensors")):
        with path.open("rb") as stream:
            start = 8 + int.from_bytes(stream.read(8), "little")
            for name, tensor in header(path).items():
                stream.seek(start + tensor.begin)
                found[name] = _sha256(stream, tensor.end - tensor.begin)
    return found


def _sha256(stream: BinaryIO, num_bytes: int) -> str:
    found = hashlib.sha256()
    while num_bytes > 0:
        part = stream.read(min(num_bytes, CHUNK_BYTES))
        found.update(part)
        num_bytes -= len(part) or num_bytes
    return found.hexdigest()


def num_values(directory: Path) -> int:
    """How many numbers the tensors of a directory hold: the parameters, where nothing is quantized."""
    return sum(math.prod(tensor.shape) for tensor in tensors(directory).values())


def held_bytes(directory: Path, weights_dtype: str, quantization: Quantization | None = None) -> int:
    """Bytes that a directory's tensors take in memory: what is no packed weight is held in ``weights_dtype``, however it is stored.

    With ``quantization``: what they will take once the language linears are packed.
    """
    width = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0}[weights_dtype]
    prefix = STORED_LANGUAGE_PREFIX[FAMILIES[read_json(directory / "config.json")["model_type"]]]
    held = 0.0
    for name, tensor in tensors(directory).items():
        if tensor.dtype not in FULL_WIDTH:
            held += tensor.end - tensor.begin
        else:
            is_packed = quantization is not None and name.startswith(prefix) and len(tensor.shape) == 2
            held += math.prod(tensor.shape) * (PACKED_WIDTH[quantization] if is_packed else width)
    return round(held)


def describe(directory: Path) -> dict[str, Fact]:
    """How many tensors and bytes a directory of weights holds."""
    return {
        "num_tensors": len(tensors(directory)),
        "num_bytes": sum(path.stat().st_size for path in directory.glob("*.safetensors")),
    }


def shards(directory: Path) -> list[str]:
    """The weight files that the index of a checkpoint in several parts names; none where it is one file."""
    indexes = sorted(directory.glob("*.safetensors.index.json"))
    return sorted({name for index in indexes for name in read_json(index)["weight_map"].values()})


def weights_are_whole(directory: Path) -> Outcome:
    """Config, tokenizer, processor and every part of the weights are there, and each part is as long as its header says."""
    missing = [name for name in (*NEEDED, *shards(directory)) if not (directory / name).is_file()]
    try:
        count = len(tensors(directory))
    except (ValueError, KeyError) as error:
        return Outcome(passed=False, found=f"a weight file cannot be read: {error}")
    named = f": {', '.join(missing[:3])}" if missing else ""
    return Outcome(
        passed=count > 0 and not missing, found=f"{count} tensors, {len(missing)} files missing{named}", offenders=tuple(missing)
    )


def _only_language_linears(directory: Path, mark: str, bits: str) -> Outcome:
    family = FAMILIES[read_json(directory / "config.json")["model_type"]]
    quantized = [name.removesuffix(mark) for name in tensors(directory) if name.endswith(mark)]
    astray = [name for name in quantized if not name.startswith(STORED_LANGUAGE_PREFIX[family])]
    return Outcome(
        passed=bool(quantized) and not astray, offenders=tuple(astray[:10]),
        found=f"{len(quantized)} linears in {bits} bits, {len(astray)} of them outside the language model",
    )  # fmt: skip


def only_language_linears_are_in_four_bits(directory: Path) -> Outcome:
    """The vision tower, the projector and the output head keep their full width; the language linears do not."""
    return _only_language_linears(directory, NF4_MARK, "four")


def only_language_linears_are_in_eight_bits(directory: Path) -> Outcome:
    """The vision tower, the projector and the output head keep their full width; the language linears do not."""
    return _only_language_linears(directory, INT8_MARK, "eight")


def only_adapted_linears_differ_from_the_base(directory: Path) -> Outcome:
    """The same tensors as in the base; those with an update differ from it, the others do not by a byte."""
    rows = {row.name: row for row in read_table(directory / MERGED_TENSORS, MergedTensor)}
    try:
        found = tensor_hashes(directory)
    except (ValueError, KeyError) as error:
        return Outcome(passed=False, found=f"a weight file cannot be read: {error}")
    changed = {name for name, row in rows.items() if name in found and found[name] != row.sha256_in_base}
    adapted = {name for name, row in rows.items() if row.is_adapted}
    astray = sorted((rows.keys() ^ found.keys()) | (changed ^ adapted))
    return Outcome(
        passed=bool(adapted) and not astray, offenders=tuple(astray[:10]),
        found=f"{len(changed)} of {len(rows)} tensors differ from the base, {len(adapted)} have an update, {len(astray)} are astray",
    )  # fmt: skip


def only_language_linears_are_in_affine_four_bits(directory: Path) -> Outcome:
    """The vision tower, the projector and the output head keep their full width; the language linears do not."""
    return _only_language_linears(directory, AFFINE_MARK, "affine four")


BASE_RULES = (
    Rule(name="weights_are_whole", sentence="Every file of the model is there and as long as its header says.", holds=weights_are_whole),
    shipped.RULE,
)
NF4_RULES = (
    *BASE_RULES,
    Rule(
        name="only_language_linears_are_in_four_bits",
        sentence="The language model's linears are in four bits; vision tower, projector and head are not.",
        holds=only_language_linears_are_in_four_bits,
    ),
)
INT8_RULES = (
    *BASE_RULES,
    Rule(
        name="only_language_linears_are_in_eight_bits",
        sentence="The language model's linears are in eight bits; vision tower, projector and head are not.",
        holds=only_language_linears_are_in_eight_bits,
    ),
)
AFFINE4_RULES = (
    *BASE_RULES,
    Rule(
        name="only_language_linears_are_in_affine_four_bits",
        sentence="The language model's linears are in MLX's affine four bits; vision tower, projector and head are not.",
        holds=only_language_linears_are_in_affine_four_bits,
    ),
)
MERGED_RULES = (
    *BASE_RULES,
    Rule(
        name="only_adapted_linears_differ_from_the_base", sentence="What the adapter does not change is the base, byte for byte.",
        holds=only_adapted_linears_differ_from_the_base,
    ),
)  # fmt: skip
