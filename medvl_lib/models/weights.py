"""What stands in a directory of weights, read from the files alone. No torch here.

In: a directory in the hub's layout. Out: its tensors by name, and the rules that base and NF4 models must pass. Loading is ``loading``'s.
Source of the layout: github.com/huggingface/safetensors, README @ v0.8 (8 bytes of length, a JSON header, then the tensors).
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from medvl_lib.files import read_json
from medvl_lib.models import shipped
from medvl_lib.models.spec import STORED_LANGUAGE_PREFIX
from medvl_lib.provenance import Fact, Outcome, Rule

WEIGHTS = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")  # what a checkpoint needs; pickles are not loaded
NF4_MARK, INT8_MARK = ".quant_state.bitsandbytes__nf4", ".SCB"  # what bitsandbytes writes beside a packed weight
NEEDED = ("config.json", "tokenizer.json", "tokenizer_config.json", "preprocessor_config.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """A tensor as a safetensors header lists it."""

    dtype: str
    shape: tuple[int, ...]
    end: int
    """Offset of its last byte after the header."""


def header(path: Path) -> dict[str, StoredTensor]:
    """The tensors of one file; raises ValueError when the file is shorter than its header says."""
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        entries = json.loads(stream.read(length))
    tensors = {
        name: StoredTensor(dtype=entry["dtype"], shape=tuple(entry["shape"]), end=entry["data_offsets"][1])
        for name, entry in entries.items() if name != "__metadata__"
    }  # fmt: skip
    wanted = 8 + length + max((tensor.end for tensor in tensors.values()), default=0)
    if path.stat().st_size != wanted:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes, its header describes {wanted}")
    return tensors


def tensors(directory: Path) -> dict[str, StoredTensor]:
    """The tensors of every safetensors file below ``directory``."""
    return {name: tensor for path in sorted(directory.glob("*.safetensors")) for name, tensor in header(path).items()}


def num_values(directory: Path) -> int:
    """How many numbers the tensors of a directory hold: the parameters, where nothing is quantized."""
    return sum(math.prod(tensor.shape) for tensor in tensors(directory).values())


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
    return Outcome(passed=count > 0 and not missing, found=f"{count} tensors, {len(missing)} files missing", offenders=tuple(missing))


def _only_language_linears(directory: Path, mark: str, bits: str) -> Outcome:
    family = read_json(directory / "config.json")["model_type"]
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
