"""From a checkpoint as its publisher made it to a directory that ``loading`` reads, and from that to a packed one.

In: a ``ModelSpec``, or a base-model directory and how to pack it. Out: a new directory of weights in the library's layout, and facts about
it; or a MedVLError for a checkpoint of another family, one that is packed already, or one with pickles alone. How files come from the hub
is known to ``hub``, how the publisher of a family lays its weights out to ``llava_layout``.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from transformers import BitsAndBytesConfig

from medvl_lib.errors import MedVLError
from medvl_lib.hardware import Profile
from medvl_lib.models import hub, llava_layout, llava_med, mllama, mlx_start, qwen2_5_vl, shipped, siglip
from medvl_lib.models.counting import count_quantized
from medvl_lib.models.loading import DTYPES, MLX_QUANTIZATION, by_torch, give_memory_back, keep_autograd, quiet, require_room, serializing
from medvl_lib.models.spec import MODEL_TYPES, SKIP_MODULES, Family, ModelSpec
from medvl_lib.models.weights import WEIGHTS, Quantization, describe
from medvl_lib.progress import Report, silent
from medvl_lib.provenance import Fact

TINY = {
    "qwen2_5_vl": qwen2_5_vl.write_tiny, "mllama": mllama.write_tiny, "llava_med": llava_med.write_tiny, "siglip": siglip.write_tiny,
}  # fmt: skip
"""Writers of random weights, in the layout of each family's publisher."""


class Layout(NamedTuple):
    """How a publisher's layout is known, and brought into the library's and back."""

    is_original: Callable[[Path], bool]
    convert: Callable[[Path, Path], dict[str, Fact]]
    restore: Callable[[Path, Path, Path], None]
    config: Callable[[Path], Any]
    """The library's config of a directory in the publisher's layout."""


LAYOUTS: Mapping[Family, Layout] = {
    "llava_med": Layout(llava_layout.is_original, llava_layout.convert, llava_layout.restore, llava_layout.library_config),
}  # fmt: skip
"""Of families whose publisher's layout is not the one that the library loads."""
AS_PUBLISHED = "as_published"  # where a checkpoint lies until it is converted


def write_base(directory: Path, spec: ModelSpec, downloads: Path | None = None, report: Report = silent) -> dict[str, Fact]:
    """Bring the weights that ``spec`` names into ``directory``: the shipped small ones, copied, or fetched at the pinned revision.

    A publisher's own layout is brought into the library's. ``downloads`` is the folder where what a model of the hub needs is kept; other
    sources need none. Raises MedVLError when the shipped files are not those that were pinned, when a directory holds no safetensors, when
    the hub does not give what it lists, or when the tensors are not those of the layout.
    """
    with quiet(), serializing(directory):
        facts: dict[str, Fact] = {}
        if spec.family in LAYOUTS:
            published = directory / AS_PUBLISHED
            published.mkdir()
            _deliver(published, spec, downloads, report)
            facts = in_library_layout(published, directory, spec.family)
            shutil.rmtree(published)
        else:
            _deliver(directory, spec, downloads, report)
    _require_family(directory, spec)
    return {**describe(directory), **facts}


def _deliver(directory: Path, spec: ModelSpec, downloads: Path | None, report: Report) -> None:
    """The checkpoint as its publisher made it."""
    if spec.source == "tiny":
        _write_tiny(directory, spec)
    elif spec.source == "directory":
        _copy(Path(spec.path), directory)
    elif downloads is None:
        raise ValueError(f"{spec.hub_id} comes from the hub: name the folder of its downloads")
    else:
        hub.fetch(spec, directory, downloads, report)


def in_library_layout(published: Path, directory: Path, family: Family) -> dict[str, Fact]:
    """What the library loads, made of a checkpoint as published; one that has its layout already is taken as it is."""
    layout = LAYOUTS.get(family)
    if layout is not None and layout.is_original(published):
        facts = layout.convert(published, directory)
        if (published / shipped.ORIGIN).is_file():
            shutil.copyfile(published / shipped.ORIGIN, directory / shipped.ORIGIN)
        return facts
    if published != directory:
        for path in published.iterdir():
            path.rename(directory / path.name)
    return {}


def _write_tiny(directory: Path, spec: ModelSpec) -> None:
    """The trained small model, or random weights where the package came without it: the rule ``weights_are_trained`` says so then."""
    trained = shipped.require_pinned(spec.family)
    if trained is None:
        TINY[spec.family](directory, seed=spec.seed, max_pixels=spec.max_pixels)
    else:
        _copy(trained, directory)
    shipped.note_origin(directory, shipped.RANDOM if trained is None else shipped.PINNED[spec.family])


def _copy(source: Path, directory: Path) -> None:
    """Copy a checkpoint's files: the user may go on writing theirs, ours must not change."""
    files = [path for pattern in WEIGHTS for path in sorted(source.glob(pattern))]
    if not any(path.suffix == ".safetensors" for path in files):
        raise MedVLError(
            found="no *.safetensors", where=str(source), do="point [lines.<line>.model] path at a checkpoint in the hub's layout"
        )
    for path in files:
        shutil.copyfile(path, directory / path.name)


def _require_family(directory: Path, spec: ModelSpec) -> None:
    """Refuse another architecture, and weights that are quantized already: every comparison starts from 16 bit (decision 9)."""
    if not (directory / "config.json").is_file():
        raise MedVLError(
            found="no config.json", where=spec.path or f"{spec.hub_id} at {spec.revision}", do="name a checkpoint in the hub's layout"
        )
    config = json.loads((directory / "config.json").read_text())
    if packed := config.get("quantization_config") or config.get(MLX_QUANTIZATION):
        method = packed.get("quant_method", "mlx" if MLX_QUANTIZATION in config else "unknown")
        raise MedVLError(
            found=f"weights that are quantized already ({method})", where=f"config.json of {spec.path or spec.hub_id}",
            do="name the checkpoint in 16 bit: MedVL makes NF4 and int8 of it, and trains adapters on these",
        )  # fmt: skip
    found = config["model_type"]
    if found != MODEL_TYPES[spec.family]:
        raise MedVLError(
            found=f"model_type {found!r}",
            where=f"config.json of {spec.path or spec.hub_id}",
            do=f"this line is set up for {MODEL_TYPES[spec.family]!r}: name such a model",
        )


def quantization_config(quantization: Quantization, spec: ModelSpec, profile: Profile) -> BitsAndBytesConfig:
    """The language linears only. NF4 with double quantization (type and compute type are never left to the defaults, fp4 and float32).

    Or LLM.int8 (Dettmers et al. 2022, arXiv 2208.07339), whose outlier columns stay in 16 bit.
    """
    skipped = list(SKIP_MODULES[spec.family])
    if quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skipped)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=DTYPES[profile.weights_dtype], llm_int8_skip_modules=skipped,
    )  # fmt: skip


def write_quantized(
    directory: Path, base_directory: Path, quantization: Quantization, spec: ModelSpec, profile: Profile
) -> dict[str, Fact]:
    """Quantize the base model into ``directory``; returns how many linears are in four bits, per part of the model."""
    require_room(base_directory, profile, quantization)
    if quantization == "affine4":
        return _write_affine(directory, base_directory, profile)
    with quiet():
        model = by_torch(base_directory, profile, quantization_config(quantization, spec, profile))
        keep_autograd(model)
        with serializing(directory):
            model.save_pretrained(directory)
    copy_side_files(base_directory, directory)
    counts = count_quantized(model)
    del model
    give_memory_back(profile)
    return {**describe(directory), **{f"num_4bit_linears_{part}": count for part, count in counts.items()}}


def _write_affine(directory: Path, base_directory: Path, profile: Profile) -> dict[str, Fact]:
    mlx_start.prepare()
    from medvl_lib.models import mlx_weights

    with quiet(), serializing(directory):
        count = mlx_weights.write_affine(directory, base_directory, profile)
    copy_side_files(base_directory, directory)
    give_memory_back(profile)
    return {**describe(directory), "num_4bit_linears_language": count}


def copy_side_files(source: Path, directory: Path) -> None:
    """Bring what stands beside the weights and was not saved with them: tokenizer, processor, templates, origin."""
    for pattern in WEIGHTS[1:]:
        for path in source.glob(pattern):
            if not (directory / path.name).exists() and not path.name.endswith(".index.json"):
                shutil.copyfile(path, directory / path.name)
