"""Hardware profiles: how things run on a machine, and why. Nothing is known here of models, recipes or lines.

In: what this machine says of itself without torch (``Machine``), and the settings. Out: a ``Profile`` with a reason for each field that
was measured or changed, and one in ``WHY`` for every other. Three fields of it, ``Numerics``, decide numbers and bear identity; all others
say only where and how fast. Probes that need torch are ``models.probes``; a plan of memory before loading is ``plan``.
Facts: the profiles' comments name them; nothing here was measured on a GB10 or an M3 Ultra.
"""

import importlib.metadata
import math
import os
import platform
import re
import resource
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Literal, NamedTuple

import psutil

from medvl_lib.errors import SettingsError
from medvl_lib.launcher import Launcher
from medvl_lib.overrides import nearest_of, override
from medvl_lib.settings import Settings

WeightsDtype = Literal["float32", "bfloat16", "float16"]
Engine = Literal["torch", "mlx"]
Quantization = Literal["nf4", "mlx-affine4", "none"]

KIB = 1024

ENGINE_QUANTIZATIONS: Mapping[Engine, tuple[Quantization, ...]] = {"torch": ("nf4", "none"), "mlx": ("mlx-affine4", "none")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Numerics:
    """The part of a profile that decides numbers: it bears identity."""

    weights_dtype: WeightsDtype
    engine: Engine
    quantization: Quantization


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How things run on a machine."""

    name: str
    device: Literal["cpu", "cuda", "mps"]
    """Where tensors live, as torch calls it."""
    weights_dtype: WeightsDtype
    """Type of every weight that is not quantized, and of the arithmetic. ``float16`` is no profile's own: it overflows in training. Bears
    identity."""
    engine: Engine
    """What trains and answers; with ``mlx`` the families that it does not run, and encoders, stay on torch. Bears identity."""
    quantization: Quantization
    """What the 4-bit variant really is, ``nf4`` with torch or ``mlx-affine4`` with mlx; ``none``: the profile has no 4-bit variant worth
    measuring. Bears identity."""
    attention: Literal["sdpa", "eager", "flash_attention_2"]
    """transformers' ``attn_implementation``; a family that has no flash attention takes ``sdpa`` in its place."""
    maps_weights: bool
    """Whether files of weights are mapped while they are loaded; False: read into memory, a shard at a time."""
    gradient_checkpointing: bool
    """Compute activations again in the backward pass: about a third more time for a fraction of the memory."""
    training_batch: int
    """Pairs per forward pass; the recipe's effective batch is reached by accumulation."""
    prediction_batch: int
    """Pairs answered at once."""
    num_workers: int
    """Processes that prepare batches beside the training process; 0: none."""
    pin_memory: bool
    """Whether batches are staged in pinned memory: of use only where a bus lies between CPU and GPU."""
    num_threads: int
    """CPU threads of torch; 0: as many as cores that this process may use."""
    memory_budget_bytes: int
    """Memory that a model and its activations may take; 0: what was free when the profile was chosen."""
    memory_margin_share: float
    """Share of the budget (0-1) that is left alone; a training that eats half of it is stopped (``training.watchdog``)."""
    compute_per_second: float
    """Floating-point operations a second in ``weights_dtype`` that the machine can do at best; 0: not stated, and no time is estimated."""
    bandwidth_bytes_per_second: float
    """Bytes a second that its memory can move at best; 0: not stated."""
    utilisation: float
    """Share (0-1) of ``compute_per_second`` that a training is taken to reach: an assumption, for estimates alone."""
    grace_seconds: float = 20.0
    """From asking a heavy process to end to killing it: a training step and its checkpoint have to fit. Where steps are longer, more."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """Variables of every heavy process."""
    launcher: Launcher = field(default_factory=Launcher)
    """Where heavy steps run: a process of this machine, several that train together, or a cluster."""

    def __post_init__(self) -> None:
        """Refuse what no machine can do."""
        for name in ("training_batch", "prediction_batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)!r} must be at least 1")
        counted = ("num_workers", "num_threads", "memory_budget_bytes", "compute_per_second", "bandwidth_bytes_per_second", "grace_seconds")
        for name in counted:
            if getattr(self, name) < 0:
                raise ValueError(f"{name} = {getattr(self, name)!r} must not be negative")
        if not 0 < self.utilisation <= 1:
            raise ValueError(f"utilisation = {self.utilisation!r} must be above 0 and at most 1")
        if not 0 <= self.memory_margin_share < 1:
            raise ValueError(f"memory_margin_share = {self.memory_margin_share!r} must be at least 0 and below 1")
        self._require_engine()

    def _require_engine(self) -> None:
        """Refuse four bits of another engine, and an engine that the device does not have."""
        if self.quantization not in ENGINE_QUANTIZATIONS[self.engine]:
            raise ValueError(
                f"quantization = {self.quantization!r} and engine = {self.engine!r}: it packs weights as "
                f"{' or '.join(ENGINE_QUANTIZATIONS[self.engine])}"
            )
        if self.engine == "mlx" and self.device == "cuda":
            raise ValueError("engine = 'mlx' and device = 'cuda': it is for Apple silicon, and for tests on a CPU")
        if self.launcher.weights == "divided" and (self.engine == "mlx" or self.device == "mps"):
            raise ValueError(
                f"launcher.weights = 'divided', engine = {self.engine!r} and device = {self.device!r}: torch divides weights between CUDA "
                "devices, or processes of a CPU"
            )


class Detection(NamedTuple):
    """A profile, and why it is what it is: field -> reason, ``name`` first."""

    profile: Profile
    reasons: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """What the NVIDIA driver says of a GPU."""

    name: str
    memory_bytes: int | None
    """Its own memory; None on a GPU that shares the system's, such as the GB10."""
    compute_capability: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a machine says of itself, without torch."""

    system: str
    """``Linux`` or ``Darwin``."""
    architecture: str
    """``x86_64``, ``aarch64`` or ``arm64``."""
    chip: str
    num_cores: int
    """Cores that this process may use."""
    available_bytes: int
    """Memory that can be taken without swapping: not "free", which counts the page cache as used."""
    gpu: Gpu | None
    torch_version: str
    """Of the installed torch, its local label included (``2.13.0+cpu``); empty where there is none."""
    flash_attention_version: str = ""
    """Of the installed flash-attn; empty where there is none."""
    mlx_version: str = ""
    """Of the installed mlx-vlm; empty where there is none."""


ENVIRONMENT = {"TOKENIZERS_PARALLELISM": "false"}  # the tokenizers' threads and worker processes that fork do not mix

CORE_COMPUTE = 25e9  # operations a second of a core in 32 bits: 46 to 69e9 on two cores with AVX2 (docs/benchmarks.md)

PROFILES: Mapping[str, Profile] = {
    "cpu": Profile(
        name="cpu", device="cpu", engine="torch", quantization="nf4", attention="sdpa", weights_dtype="float32",
        maps_weights=True, gradient_checkpointing=False, training_batch=4, prediction_batch=64, num_workers=0, pin_memory=False,
        num_threads=0, memory_budget_bytes=0, memory_margin_share=0.1, compute_per_second=0.0, bandwidth_bytes_per_second=0.0,
        utilisation=0.5, environment={
            **ENVIRONMENT, "OMP_WAIT_POLICY": "PASSIVE", "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(256 * 2**20),
        },
    ),
    "cuda": Profile(
        name="cuda", device="cuda", engine="torch", weights_dtype="bfloat16", quantization="nf4", attention="sdpa",
        maps_weights=True, gradient_checkpointing=True, training_batch=2, prediction_batch=8, num_workers=4, pin_memory=True,
        num_threads=0, memory_budget_bytes=0, memory_margin_share=0.1, compute_per_second=0.0, bandwidth_bytes_per_second=0.0,
        utilisation=0.35, environment={**ENVIRONMENT, "PYTORCH_ALLOC_CONF": "expandable_segments:True"},
    ),
    "gb10": Profile(
        name="gb10", device="cuda", engine="torch", weights_dtype="bfloat16", quantization="nf4", attention="sdpa",
        maps_weights=False, gradient_checkpointing=True, training_batch=4, prediction_batch=8, num_workers=4, pin_memory=False,
        num_threads=0, memory_budget_bytes=0, memory_margin_share=0.15, compute_per_second=125e12, bandwidth_bytes_per_second=273e9,
        utilisation=0.3, environment=ENVIRONMENT,
    ),
    "m3_ultra": Profile(
        name="m3_ultra", device="mps", engine="mlx", weights_dtype="bfloat16", quantization="mlx-affine4", attention="sdpa",
        maps_weights=False, gradient_checkpointing=True, training_batch=2, prediction_batch=4, num_workers=2, pin_memory=False,
        num_threads=0, memory_budget_bytes=0, memory_margin_share=0.15, compute_per_second=28e12, bandwidth_bytes_per_second=819e9,
        utilisation=0.3,
        environment={**ENVIRONMENT, "PYTORCH_MPS_HIGH_WATERMARK_RATIO": "0.9", "PYTORCH_MPS_LOW_WATERMARK_RATIO": "0.8",
                     "PYTORCH_ENABLE_MPS_FALLBACK": "1"},
    ),
}  # fmt: skip

_EVERYWHERE: Mapping[str, str] = {
    "device": "where tensors live; every load names it, since device_map 'auto' would split a model on unified memory",
    "engine": "bitsandbytes and its kernels are torch's",
    "quantization": "bitsandbytes, language linears alone",
    "attention": "the kernel that torch chooses",
    "maps_weights": "a mapped file is dropped again by the kernel when memory is short",
    "gradient_checkpointing": "a third more time for a fraction of the memory",
    "training_batch": "the most pairs at a time; a plan that does not fit takes fewer, the effective batch stays the recipe's",
    "prediction_batch": "the most questions at a time; a plan that does not fit takes fewer",
    "num_workers": "pictures are decoded beside the training",
    "pin_memory": "of use only where a bus lies between CPU and GPU",
    "grace_seconds": "a training step and its checkpoint have to fit",
    "num_threads": "0: as many as cores that may be used",
    "memory_budget_bytes": "0: what was free when the profile was chosen",
    "memory_margin_share": "a plan is an estimate, and other processes live too",
    "compute_per_second": "not stated: plans give bytes and no seconds",
    "bandwidth_bytes_per_second": "not stated: plans give bytes and no seconds",
    "utilisation": "an assumption of estimates, nothing else reads it",
    "environment": "the tokenizers' threads and worker processes that fork do not mix",
    "launcher": "one process of this machine, unless the settings name several or a cluster",
}
_OF_PROFILE: Mapping[str, Mapping[str, str]] = {
    "cpu": {
        "weights_dtype": "16-bit products are emulated, and slow, on CPUs without AMX or AVX512-BF16",
        "gradient_checkpointing": "time is what a CPU lacks, and the models that are trained on one are small",
        "num_workers": "small pictures are ready sooner than a worker process",
        "environment": "threads that spin while they wait are 1.3 times faster alone and 20 times slower beside another process; "
        "and glibc gives large tensors back to the system and takes them again, for a fifth of the time (docs/log.md)",
        "prediction_batch": "a token of 64 answers takes hardly longer than one of 32: unpacking four bits costs the same",
        "utilisation": "products in 32 bits reach most of it; the rest is elementwise",
    },
    "cuda": {
        "weights_dtype": "the range of 32 bits; float16 overflows in training. TF32 is off: 32 bits mean 32 bits",
        "attention": "sdpa has torch's own flash kernel; flash_attention_2 where flash-attn is installed, since it needs no padding mask",
        "pin_memory": "a bus lies between CPU and GPU",
        "memory_margin_share": "pieces between tensors, and what the driver takes",
        "environment": "pictures of many sizes fragment memory; and tokenizers' threads and worker processes that fork do not mix",
        "utilisation": "what well-fed LoRA trainings reach of the dense peak",
    },
    "gb10": {
        "weights_dtype": "as fast as float16 there, and needs no scaling of the loss",
        "attention": "already flash-efficient on sm_121; flash-attn has no wheels there",
        "maps_weights": "CPU and GPU share one memory: a mapped shard and its copy would lie in it together, the peak twice the model",
        "pin_memory": "CPU and GPU share one memory: there is no bus to stage for",
        "memory_margin_share": "running out freezes the machine instead of raising",
        "compute_per_second": "bfloat16 dense: an eighth of the petaflop that is advertised for sparse 4-bit numbers",
        "bandwidth_bytes_per_second": "LPDDR5X as published",
        "utilisation": "published trainings reach 10 % (unpacked) to 34 % (packed) of the peak",
    },
    "m3_ultra": {
        "weights_dtype": "native there; float16 trains to NaN. weights_dtype = 'float16' in [profiles.m3_ultra] is what the requirement "
        "documents used",
        "engine": "made for unified memory, with four bits that can be trained on; Llama 3.2 Vision and encoders stay on torch (MPS)",
        "quantization": "MLX's affine four bits, language linears alone: not NF4, whose kernels MPS lacks. 'none' trains in 16 bits, which "
        "512 GB hold",
        "attention": "training composes it from products there and keeps tokens x tokens numbers of each head: plans count that",
        "maps_weights": "CPU and GPU share one memory, and the mapped file would lie in it beside the copy",
        "num_workers": "two processes feed it; the trainer makes them by fork, and more gain nothing",
        "pin_memory": "CPU and GPU share one memory: there is no bus to stage for",
        "memory_margin_share": "running out swaps and freezes the machine instead of raising",
        "environment": "the default limit exceeds the RAM, so it swaps instead of failing; both watermarks are set, since the low one must "
        "not exceed the high one; 0.0, as in the requirement documents, would switch the limit off. What MPS lacks runs on the CPU",
        "compute_per_second": "80 GPU cores in 32 bits, as published by others; 16 bits are no faster there",
        "bandwidth_bytes_per_second": "as published; copies reach 82 % of it",
        "utilisation": "nobody has published a training of this size there",
    },
}
KNOWN_GPUS: Mapping[str, tuple[float, float]] = {
    "H200": (989e12, 4.8e12), "H100": (989e12, 3.35e12), "A100": (312e12, 1.9e12), "L40S": (362e12, 0.864e12), "4090": (165e12, 1.008e12),
    "3090": (71e12, 0.936e12),
}  # fmt: skip
"""Ceilings by the vendors' data sheets: operations a second (dense, bfloat16) and bytes a second, by a part of the GPU's name."""


def why(detection: "Detection") -> Iterator[tuple[str, str]]:
    """Every field of a profile with its reason: as it was found on this machine or set by hand, or as the profile has it."""
    own = _OF_PROFILE[detection.profile.name]
    for name in (item.name for item in fields(Profile) if item.name != "name"):
        yield name, detection.reasons.get(name) or own.get(name) or _EVERYWHERE[name]


def numerics(profile: Profile) -> Numerics:
    """What of a profile changes weights and scores."""
    return Numerics(weights_dtype=profile.weights_dtype, engine=profile.engine, quantization=profile.quantization)


def torch_device(profile: Profile) -> str:
    """Where torch's own tensors live: with another engine token ids and adapters alone, on the CPU, next to what hands them over."""
    return profile.device if profile.engine == "torch" else "cpu"


def process_environment(profile: Profile) -> dict[str, str]:
    """The variables of every process that computes: the profile's, its threads among them, since OpenMP reads them when torch is loaded."""
    return {**profile.environment, **({"OMP_NUM_THREADS": str(profile.num_threads)} if profile.num_threads else {})}


NOMINAL_MEMORY_BYTES: Mapping[str, int] = {"gb10": 119_700_000_000, "m3_ultra": 512_000_000_000}
"""What a plan for a machine that is not this one takes its memory to be: as the requirement documents name it. Others have no one size."""


def profile_named(settings: Settings, name: str, memory_bytes: int | None = None) -> Profile:
    """A profile for a machine that is not this one, with the settings' changes and that machine's memory (0: not known)."""
    if name not in PROFILES:
        raise unknown_profile(settings, name)
    budget = NOMINAL_MEMORY_BYTES.get(name, 0) if memory_bytes is None else memory_bytes
    profile = replace(PROFILES[name], memory_budget_bytes=budget)
    return override(profile, settings.profiles[name], settings.where("profiles", name)) if name in settings.profiles else profile


def unknown_profile(settings: Settings, name: str) -> SettingsError:
    """The refusal of a profile that does not exist."""
    return SettingsError(found=f"the profile {name!r}", where=str(settings.path), do=nearest_of(name, PROFILES))


def profile_for(settings: Settings) -> Detection:
    """The profile that the settings name, or the one detected, with this machine's numbers and the settings' changes."""
    machine = look()
    if settings.profile == "auto":
        chosen = choose(machine)
    else:
        named = _measured(PROFILES[settings.profile], machine, {"name": f"profile = {settings.profile!r} in {settings.path}"})
        chosen = _with_its_engine(named, machine)
    name = chosen.profile.name
    if name not in settings.profiles:
        return chosen
    changes, where = settings.profiles[name], settings.where("profiles", name)
    changed = override(chosen.profile, changes, where)
    return Detection(changed, {**chosen.reasons, **dict.fromkeys(changes, f"set in {where}")})


def choose(machine: Machine) -> Detection:
    """The profile of a machine; a GPU that the installed torch cannot use does not count."""
    if machine.system == "Darwin" and machine.architecture == "arm64":
        return _with_its_engine(_measured(PROFILES["m3_ultra"], machine, {"name": f"Apple silicon ({machine.chip})"}), machine)
    if machine.gpu is None:
        return _measured(PROFILES["cpu"], machine, {"name": "no NVIDIA driver answers, and this is no Apple silicon"})
    if machine.torch_version.endswith("+cpu"):
        why = f"torch {machine.torch_version} is a CPU build and cannot use the {machine.gpu.name}"
        return _measured(PROFILES["cpu"], machine, {"name": why})
    if machine.gpu.memory_bytes is None or "GB10" in machine.gpu.name:
        return _measured(PROFILES["gb10"], machine, {"name": f"{machine.gpu.name}, which shares the system's memory"})
    found = _measured(PROFILES["cuda"], machine, {"name": f"the NVIDIA driver reports a {machine.gpu.name}"})
    capability = machine.gpu.compute_capability
    if capability is None or capability >= 8:
        return _with_flash_attention(found, machine)
    why = f"compute capability {capability} has no bfloat16 (8.0 and later do), and float16 overflows in training"
    return Detection(replace(found.profile, weights_dtype="float32"), {**found.reasons, "weights_dtype": why})


def _with_flash_attention(found: Detection, machine: Machine) -> Detection:
    """Flash attention where it is installed: transformers unpads for it, while a padding mask costs sdpa its own flash kernel."""
    if not machine.flash_attention_version:
        return found
    reason = f"flash-attn {machine.flash_attention_version} is installed"
    return Detection(replace(found.profile, attention="flash_attention_2"), {**found.reasons, "attention": reason})


def _with_its_engine(found: Detection, machine: Machine) -> Detection:
    """Torch, and no four bits, where the profile's engine is an extra that is not installed."""
    if found.profile.engine == "torch" or machine.mlx_version:
        return found
    why = "mlx-vlm is not installed (pip install -c constraints/macos-arm64.txt -e '.[mlx]')"
    reasons = {**found.reasons, "engine": why, "quantization": f"{why}, and bitsandbytes has no kernels for training on MPS"}
    return Detection(replace(found.profile, engine="torch", quantization="none"), reasons)


def _measured(profile: Profile, machine: Machine, reasons: Mapping[str, str]) -> Detection:
    """A profile with this machine's threads and memory."""
    gpu_bytes = machine.gpu.memory_bytes if machine.gpu is not None and profile.name == "cuda" else None
    budget, whose = (machine.available_bytes, "memory available now") if gpu_bytes is None else (gpu_bytes, "the GPU's own memory")
    ceilings, ceiling_reasons = _ceilings(profile, machine)
    return Detection(
        replace(profile, num_threads=machine.num_cores, memory_budget_bytes=budget, **ceilings),
        {
            **reasons, "num_threads": f"{machine.num_cores} cores may be used",
            "memory_budget_bytes": f"{budget / 2**30:.1f} GiB: {whose}", **ceiling_reasons,
        },
    )  # fmt: skip


def _ceilings(profile: Profile, machine: Machine) -> tuple[dict[str, float], dict[str, str]]:
    """What a machine can do at best, where its profile leaves that to its parts: a GPU's data sheet, or its cores."""
    if profile.name == "cpu":
        why = f"{machine.num_cores} cores of {CORE_COMPUTE / 1e9:.0f} billion each, as measured with AVX2 (docs/benchmarks.md)"
        return (
            {"compute_per_second": machine.num_cores * CORE_COMPUTE, "bandwidth_bytes_per_second": 20e9},
            {"compute_per_second": why, "bandwidth_bytes_per_second": "two channels of DDR4 at about half of their best: a guess"},
        )  # fmt: skip
    known = next((name for name in KNOWN_GPUS if machine.gpu is not None and name in machine.gpu.name), None)
    if profile.name != "cuda" or known is None:
        return {}, {}
    compute, bandwidth = KNOWN_GPUS[known]
    why = f"the data sheet of a {known}"
    return (
        {"compute_per_second": compute, "bandwidth_bytes_per_second": bandwidth},
        {"compute_per_second": why, "bandwidth_bytes_per_second": why},
    )  # fmt: skip


def look() -> Machine:
    """What this machine says of itself."""
    is_mac = platform.system() == "Darwin"
    return Machine(
        system=platform.system(),
        architecture=platform.machine(),
        chip=_said("sysctl", "-n", "machdep.cpu.brand_string") if is_mac else platform.processor(),
        num_cores=(os.cpu_count() or 1) if is_mac else len(os.sched_getaffinity(0)),
        available_bytes=available_bytes(),
        gpu=None if is_mac else _gpu(),
        torch_version=_version("torch"),
        flash_attention_version=_version("flash-attn"),
        mlx_version=_version("mlx-vlm"),
    )


def available_bytes(cgroup: Path = Path("/sys/fs/cgroup/memory.max")) -> int:
    """Memory that can be taken without swapping: what the system has to give, or a container's limit where that is lower."""
    available = psutil.virtual_memory().available
    limit = cgroup.read_text().strip() if cgroup.is_file() else "max"
    return min(available, int(limit)) if limit.isdigit() else available


def room_bytes(profile: Profile) -> float:
    """What may be taken now: what the profile grants, and no more than is available where a device has no memory of its own."""
    granted = profile.memory_budget_bytes * (1 - profile.memory_margin_share) or math.inf
    return granted if profile.name == "cuda" else min(granted, available_bytes())


def _gpu() -> Gpu | None:
    """The first GPU that the driver names; None where there is none, or where ``CUDA_VISIBLE_DEVICES`` hides all."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in {"", "-1"}:
        return None
    answer = _said("nvidia-smi", "--query-gpu=name,memory.total,compute_cap", "--format=csv,noheader,nounits")
    return parse_gpu(answer.splitlines()[0]) if answer else None


def parse_gpu(line: str) -> Gpu:
    """``NVIDIA H200, 143771, 9.0`` (MiB) -> Gpu; the driver says ``[N/A]`` for what a GPU does not have."""
    name, mebibytes, capability = (part.strip() for part in line.split(","))
    return Gpu(
        name=name,
        memory_bytes=int(mebibytes) * 2**20 if mebibytes.isdigit() else None,
        compute_capability=float(capability) if re.fullmatch(r"\d+\.\d+", capability) else None,
    )


def _said(command: str, *arguments: str) -> str:
    """What a command of the system prints; empty where it does not exist or fails: then it has nothing to say of this machine."""
    program = shutil.which(command)
    if program is None:
        return ""
    ran = subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=30)  # noqa: S603 (a tool of the system)
    return ran.stdout.strip() if ran.returncode == 0 else ""


def _version(distribution: str) -> str:
    """The version of an installed package, from its metadata: importing torch takes seconds. Empty where there is none."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def peak_memory_bytes() -> int:
    """The most memory that this process has held so far: resident, swapped-out pages not counted.

    On Linux the kernel's VmHWM: ``ru_maxrss`` would count what the parent held when it started this process.
    """
    if platform.system() == "Darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        raise ValueError("/proc/self/status has no VmHWM line")
    return int(found[1]) * KIB
