"""From a directory of verified weights to a model with its processor, in full width or packed, with adapters on top.

In: a base-model or quantized directory, the numerics of the profile, perhaps an adapter. Out: ``Loaded``. How such a directory is made
stands in ``preparing``, what is counted of a model in ``counting``; training, prompts and lines do not belong here.
Facts behind each choice: ``docs/decisions/0005-the-tiny-model.md`` and the comments.
"""

import gc
import json
import re
import time
import warnings
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import torch
from peft import PeftModel, load_peft_weights, set_peft_model_state_dict
from peft.utils import ModulesToSaveWrapper
from safetensors import SafetensorError
from transformers import AutoModel, AutoModelForImageTextToText, BitsAndBytesConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from medvl_lib.errors import MedVLError, WriteFailed
from medvl_lib.hardware import Engine, Profile, room_bytes
from medvl_lib.models import llava_med, mllama, mlx_start, probes, qwen2_5_vl, siglip
from medvl_lib.models.computing import computing
from medvl_lib.models.spec import ADAPTED, NO_FLASH_ATTENTION, ModelSpec, on_its_engine
from medvl_lib.models.weights import Quantization, held_bytes
from medvl_lib.prompts import PromptFormat, read_prompt_format

PROCESSORS = {
    "qwen2_5_vl": qwen2_5_vl.load_processor, "mllama": mllama.load_processor, "llava_med": llava_med.load_processor,
    "siglip": siglip.load_processor,
}  # fmt: skip
DISK_WORDS = re.compile(r"I/O error|PytorchStreamWriter|unexpected pos|No space left|File too large", re.IGNORECASE)
MLX_QUANTIZATION = "quantization"  # key of config.json where MLX packed the weights
GB = 1e9
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model that is ready to run, and what turns pictures and text into its tensors."""

    model: PreTrainedModel | PeftModel
    processor: Any
    prompts: PromptFormat
    precision: str
    """What the weights really are: ``float32``, ``nf4+bfloat16``, ..."""
    load_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedEncoder:
    """An encoder of two towers that is ready to embed pictures and texts, in 32 bits; it has no prompts, since it never answers."""

    model: PreTrainedModel | PeftModel
    processor: Any
    load_seconds: float


@contextmanager
def quiet() -> Generator[None, None, None]:
    """No progress bars of the libraries: they flood a run's logs."""
    transformers_logging.disable_progress_bar()
    yield


@contextmanager
def serializing(directory: Path) -> Generator[None, None, None]:
    """Turn what safetensors and torch say of a disk that takes no more into WriteFailed; any other error of theirs passes through."""
    try:
        yield
    except (SafetensorError, RuntimeError) as error:
        if not DISK_WORDS.search(str(error)):
            raise
        raise WriteFailed(
            found=str(error).splitlines()[0], where=str(directory),
            do="free space or raise the limit there, then start again; nothing half-written was kept",
        ) from error  # fmt: skip


def require_room(directory: Path, profile: Profile, quantization: Quantization | None = None) -> None:
    """Refuse weights that alone take more than there is: the kernel would kill whoever loads them, or the machine freeze.

    That the rest of a step fits as well is not promised: activations, gradients and answers come on top.
    """
    held, room = held_bytes(directory, profile.weights_dtype, quantization), room_bytes(profile)
    if held > room:
        precision = f"{quantization}+{profile.weights_dtype}" if quantization else profile.weights_dtype
        raise MedVLError(
            found=f"weights that take {held / GB:.1f} GB ({precision}), and room for {room / GB:.1f} GB", where=str(directory),
            do=f"free memory; or check weights_dtype, memory_budget_bytes and memory_margin_share of the profile {profile.name}; "
            "or use a machine with more memory, or a smaller model",
        )  # fmt: skip


def by_torch(
    directory: Path, profile: Profile, quantization: BitsAndBytesConfig | None = None, auto: Any = AutoModelForImageTextToText
) -> PreTrainedModel:
    """The library's model of a directory, packed on the way if ``quantization`` says how; raises MedVLError where a tensor is missing."""
    probes.prepare(profile)
    model, said = auto.from_pretrained(
        directory, dtype=DTYPES[profile.weights_dtype], attn_implementation=_attention(directory, profile),
        disable_mmap=not profile.maps_weights, output_loading_info=True, ignore_mismatched_sizes=True,  # told below, by name
        device_map={"": profile.device},  # named: "auto" splits on unified memory, and without one NF4 lands on the CPU on a Mac
        **({} if quantization is None else {"quantization_config": quantization}),
    )  # fmt: skip
    _require_all_weights(directory, said)
    return model


def _attention(directory: Path, profile: Profile) -> str:
    """The profile's attention, or ``sdpa`` where the family has no flash attention."""
    family = json.loads((directory / "config.json").read_text())["model_type"]
    return "sdpa" if profile.attention == "flash_attention_2" and family in NO_FLASH_ATTENTION else profile.attention


def _require_all_weights(directory: Path, said: Mapping[str, Any]) -> None:
    """Refuse weights that are not those of their config.json: the library fills in random numbers for what is absent, and goes on."""
    for what in ("missing_keys", "mismatched_keys", "unexpected_keys"):
        if names := sorted(map(str, said.get(what) or ())):
            raise MedVLError(
                found=f"{len(names)} {what.removesuffix('_keys')} tensors, the first is {names[0]}", where=str(directory),
                do="bring the checkpoint's own config.json and weights, whole: no number is made up for a tensor that is not there",
            )  # fmt: skip


def keep_autograd(model: torch.nn.Module) -> None:
    """Close the AVX512-BF16 trap: an evaluation pass would repack 4-bit weights in place, and every later backward lose gradients."""
    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False


def hold_packed_as(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Hold the bytes of 4-bit weights as numbers of a type: not a bit changes, and bitsandbytes reads them whatever they are called."""
    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            module.quant_state = state = getattr(module.weight, "quant_state", None) or module.quant_state
            module.quant_storage = dtype
            module.weight = bnb.nn.Params4bit(
                module.weight.detach().reshape(-1).view(dtype).unsqueeze(1), requires_grad=False, quant_state=state,
                blocksize=state.blocksize, compress_statistics=state.nested, quant_type=state.quant_type, quant_storage=dtype,
                bnb_quantized=True, module=module,
            )  # fmt: skip


def load(directory: Path, spec: ModelSpec, profile: Profile, *, adapter: Path | None = None, is_trainable: bool = False) -> Loaded:
    """Load a directory of weights (full width or packed, as its config.json says), with an adapter on top where one is given.

    Raises MedVLError where they are packed in a form that only another engine reads.
    """
    started = time.perf_counter()
    profile = on_its_engine(profile, spec.family)
    require_room(directory, profile)
    _require_readable(directory, profile)
    with quiet():
        model = BUILDERS[profile.engine](directory, profile)
    keep_autograd(model)
    # said at every product of an int8 model; how its inputs are cast is LLM.int8's own
    warnings.filterwarnings("ignore", message="MatMul8bitLt: inputs will be cast")
    held = _packed_as(directory)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter, is_trainable=is_trainable)
        _widen_whole_modules(model, "default", adapter)
    model.eval()
    return Loaded(
        model=model, processor=PROCESSORS[spec.family](directory, max_pixels=spec.max_pixels), prompts=read_prompt_format(directory),
        precision=f"{held}+{profile.weights_dtype}" if held else profile.weights_dtype,
        load_seconds=time.perf_counter() - started,
    )  # fmt: skip


def _by_mlx(directory: Path, profile: Profile) -> PreTrainedModel:
    mlx_start.prepare()
    from medvl_lib.models.mlx_engine import load_shell  # an extra, and only where it is asked for

    return load_shell(directory, profile)


BUILDERS: Mapping[Engine, Callable[[Path, Profile], PreTrainedModel]] = {"torch": by_torch, "mlx": _by_mlx}
"""Who builds a model of a directory in full width or packed."""
PACKED_FOR: Mapping[str, Engine] = {"nf4": "torch", "int8": "torch", "mlx-affine4": "mlx"}


def _packed_as(directory: Path) -> str:
    """How a directory's weights are packed, as its config.json says; empty where they are not."""
    config = json.loads((directory / "config.json").read_text())
    if MLX_QUANTIZATION in config:
        return "mlx-affine4"
    packed = config.get("quantization_config")
    return "" if packed is None else "nf4" if packed.get("load_in_4bit") else "int8"


def _require_readable(directory: Path, profile: Profile) -> None:
    """Refuse weights that another engine packed."""
    held = _packed_as(directory)
    if held and PACKED_FOR[held] != profile.engine:
        raise MedVLError(
            found=f"weights in {held}, which the engine {profile.engine} does not read", where=str(directory),
            do=f"run it on a profile with engine = '{PACKED_FOR[held]}'; an adapter that stands on them goes with every engine: put it on "
            "the 16-bit base",
        )  # fmt: skip


def fill_whole_modules(model: Any) -> None:
    """Give modules that are trained whole the base's values, where an engine has them and the model has their shapes alone."""
    engine = computing(model)
    if engine is not None:
        for name, module in whole_modules(model).items():
            for inner, parameter in module.modules_to_save["default"].named_parameters():
                engine.fill(f"{name}.{inner}", parameter)


def load_encoder(directory: Path, spec: ModelSpec, profile: Profile) -> LoadedEncoder:
    """Load an encoder's directory of weights, in 32 bits on every profile.

    It is small; and its temperature is kept as a logarithm, which 16 bits would round in steps of 1/32: by up to 1.6 %.
    """
    started = time.perf_counter()
    wide = replace(profile, weights_dtype="float32")
    require_room(directory, wide)
    with quiet():
        model = by_torch(directory, wide, auto=AutoModel)
    model.eval()
    processor = PROCESSORS[spec.family](directory, max_pixels=spec.max_pixels)
    return LoadedEncoder(model=model, processor=processor, load_seconds=time.perf_counter() - started)


def give_memory_back(profile: Profile) -> None:
    """Return to the device what dropped models held: torch keeps it for itself otherwise, and no other process can have it."""
    gc.collect()
    if profile.engine == "mlx":
        mlx_start.prepare()
        import mlx.core as mx

        mx.clear_cache()
    if profile.device == "cuda":
        torch.cuda.empty_cache()
    elif profile.device == "mps":
        torch.mps.empty_cache()


def attach(loaded: Loaded, adapters: Mapping[str, Path]) -> Loaded:
    """The same weights with adapters on top, each under its name; which of them speaks is chosen at every answer."""
    model = loaded.model
    for name, directory in adapters.items():
        if isinstance(model, PeftModel):
            model.load_adapter(str(directory), adapter_name=name)
        else:
            model = PeftModel.from_pretrained(model, directory, adapter_name=name)
        _widen_whole_modules(model, name, directory)
    model.eval()
    return replace(loaded, model=model)


def take_instead(loaded: Loaded, name: str, directory: Path) -> Loaded:
    """The same weights with this adapter alone on them, whichever lay there before.

    To have none speak, let the one that is there be silent, as ``answering`` does: taken off by the library, it leaves the modules that
    it has whole in the base's place.
    """
    others = [other for other in loaded.model.peft_config if other != name] if isinstance(loaded.model, PeftModel) else []
    if not isinstance(loaded.model, PeftModel) or name not in loaded.model.peft_config:
        loaded = attach(loaded, {name: directory})
    if isinstance(loaded.model, PeftModel):
        loaded.model.set_adapter(name)  # before the others go: the library would choose one by itself
        for other in others:
            loaded.model.delete_adapter(other)
    return loaded


def free_bytes(profile: Profile) -> float:
    """How much memory other weights may take beside those that are loaded."""
    return float(torch.cuda.mem_get_info()[0]) if profile.device == "cuda" else room_bytes(profile)


def whole_modules(model: torch.nn.Module) -> dict[str, ModulesToSaveWrapper]:
    """The modules that adapters have whole beside the base's own, by their names in the base."""
    wrapped = ((name, module) for name, module in model.named_modules() if isinstance(module, ModulesToSaveWrapper))
    return {name.removeprefix(ADAPTED): module for name, module in wrapped}


def _widen_whole_modules(model: PeftModel, name: str, adapter: Path) -> None:
    """Hold the modules that an adapter has whole in 32 bits, as they were trained: PEFT rounds them to the base's type."""
    whole = [wrapper.modules_to_save[name] for wrapper in whole_modules(model).values() if name in wrapper.modules_to_save]
    for module in whole:
        module.float()
    if whole:
        set_peft_model_state_dict(model, load_peft_weights(str(adapter), device=str(model.device)), adapter_name=name)
