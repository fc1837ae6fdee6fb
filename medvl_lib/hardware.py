"""Hardware profiles: how things run on a machine, and why. A low floor: nothing is known here of models, recipes or lines.

In: what this machine says of itself without torch (``Machine``), and the settings. Out: a ``Profile`` with a reason for each field that
was measured or changed. Three fields of it, ``Numerics``, decide numbers and bear identity; all others say only where and how fast.
Probes that need torch, and a plan of memory before loading, come with the first profile that needs them.
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
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

import psutil

from medvl_lib.settings import Settings, override

WeightsDtype = Literal["float32", "bfloat16"]
Engine = Literal["torch"]
Quantization = Literal["nf4", "none"]

KIB = 1024


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
    """Type of every weight that is not quantized, and of the arithmetic. Bears identity."""
    engine: Engine
    """What trains and answers. Bears identity."""
    quantization: Quantization
    """What the 4-bit variant really is; ``none``: the profile has no 4-bit variant worth measuring. Bears identity."""
    attention: Literal["sdpa", "eager"]
    """transformers' ``attn_implementation``."""
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
    """Share of the budget (0-1) that is left alone."""
    grace_seconds: float = 20.0
    """From asking a heavy process to end to killing it: a training step and its checkpoint have to fit. Where steps are longer, more."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """Variables of every heavy process."""

    def __post_init__(self) -> None:
        """Refuse what no machine can do."""
        for name in ("training_batch", "prediction_batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)!r} must be at least 1")
        for name in ("num_workers", "num_threads", "memory_budget_bytes", "grace_seconds"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} = {getattr(self, name)!r} must not be negative")
        if not 0 <= self.memory_margin_share < 1:
            raise ValueError(f"memory_margin_share = {self.memory_margin_share!r} must be at least 0 and below 1")


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


ENVIRONMENT = {"TOKENIZERS_PARALLELISM": "false"}  # the tokenizers' threads and worker processes that fork do not mix

PROFILES: Mapping[str, Profile] = {
    "cpu": Profile(
        name="cpu", device="cpu", engine="torch", quantization="nf4", attention="sdpa",
        weights_dtype="float32",  # bfloat16 products are emulated, and slow, on CPUs without AMX or AVX512-BF16
        gradient_checkpointing=False, training_batch=4,
        prediction_batch=64,  # a token of 64 answers takes hardly longer than one of 32: unpacking four bits costs the same
        num_workers=0,  # small pictures are ready sooner than a worker process
        pin_memory=False, num_threads=0, memory_budget_bytes=0, memory_margin_share=0.1,
        environment={
            **ENVIRONMENT,
            # threads that spin while they wait: 1.3 times faster alone, 20 times slower beside another process (docs/log.md)
            "OMP_WAIT_POLICY": "PASSIVE",
            # glibc gives every large tensor back to the system and takes it again: a fifth of the time went into empty pages (docs/log.md)
            "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(256 * 2**20),
        },
    ),
    "cuda": Profile(
        name="cuda", device="cuda", engine="torch", weights_dtype="bfloat16", quantization="nf4", attention="sdpa",
        gradient_checkpointing=True, training_batch=2, prediction_batch=8, num_workers=4, pin_memory=True, num_threads=0,
        memory_budget_bytes=0, memory_margin_share=0.1,
        environment={**ENVIRONMENT, "PYTORCH_ALLOC_CONF": "expandable_segments:True"},  # pictures of many sizes fragment memory
    ),
    "gb10": Profile(
        name="gb10", device="cuda", engine="torch", weights_dtype="bfloat16", quantization="nf4",
        attention="sdpa",  # already flash-efficient on sm_121; flash-attn has no wheels there
        gradient_checkpointing=True, training_batch=4, prediction_batch=8, num_workers=4,
        pin_memory=False,  # CPU and GPU share one memory: there is no bus to stage for
        num_threads=0, memory_budget_bytes=0,
        memory_margin_share=0.15,  # running out freezes the machine instead of raising
        environment=ENVIRONMENT,
    ),
    "m3_ultra": Profile(
        name="m3_ultra", device="mps", engine="torch",
        weights_dtype="bfloat16",  # never float16: it trains to NaN there
        quantization="none",  # bitsandbytes has no kernels for training on MPS; 512 GB hold a 16-bit LoRA
        attention="sdpa", gradient_checkpointing=True, training_batch=2, prediction_batch=4, num_workers=0, pin_memory=False,
        num_threads=0, memory_budget_bytes=0, memory_margin_share=0.15,
        # The default limit exceeds the RAM: it swaps instead of failing. 0.0 would switch the limit off.
        environment={**ENVIRONMENT, "PYTORCH_MPS_HIGH_WATERMARK_RATIO": "0.9", "PYTORCH_MPS_LOW_WATERMARK_RATIO": "0.8",
                     "PYTORCH_ENABLE_MPS_FALLBACK": "1"},
    ),
}  # fmt: skip


def numerics(profile: Profile) -> Numerics:
    """What of a profile changes weights and scores."""
    return Numerics(weights_dtype=profile.weights_dtype, engine=profile.engine, quantization=profile.quantization)


def process_environment(profile: Profile) -> dict[str, str]:
    """The variables of every process that computes: the profile's, its threads among them, since OpenMP reads them when torch is loaded."""
    return {**profile.environment, **({"OMP_NUM_THREADS": str(profile.num_threads)} if profile.num_threads else {})}


def profile_for(settings: Settings) -> Detection:
    """The profile that the settings name, or the one detected, with this machine's numbers and the settings' changes."""
    machine = look()
    if settings.profile == "auto":
        chosen = choose(machine)
    else:
        chosen = _measured(PROFILES[settings.profile], machine, {"name": f"profile = {settings.profile!r} in {settings.path}"})
    name = chosen.profile.name
    if name not in settings.profiles:
        return chosen
    changes, where = settings.profiles[name], settings.where("profiles", name)
    changed = override(chosen.profile, changes, where)
    return Detection(changed, {**chosen.reasons, **dict.fromkeys(changes, f"set in {where}")})


def detect() -> Detection:
    """The profile of this machine."""
    return choose(look())


def choose(machine: Machine) -> Detection:
    """The profile of a machine; a GPU that the installed torch cannot use does not count."""
    if machine.system == "Darwin" and machine.architecture == "arm64":
        return _measured(PROFILES["m3_ultra"], machine, {"name": f"Apple silicon ({machine.chip})"})
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
        return found
    why = f"compute capability {capability} has no bfloat16 (8.0 and later do), and float16 overflows in training"
    return Detection(replace(found.profile, weights_dtype="float32"), {**found.reasons, "weights_dtype": why})


def _measured(profile: Profile, machine: Machine, reasons: Mapping[str, str]) -> Detection:
    """A profile with this machine's threads and memory."""
    gpu_bytes = machine.gpu.memory_bytes if machine.gpu is not None and profile.name == "cuda" else None
    budget, whose = (machine.available_bytes, "memory available now") if gpu_bytes is None else (gpu_bytes, "the GPU's own memory")
    return Detection(
        replace(profile, num_threads=machine.num_cores, memory_budget_bytes=budget),
        {**reasons, "num_threads": f"{machine.num_cores} cores may be used", "memory_budget_bytes": f"{budget / 2**30:.1f} GiB: {whose}"},
    )


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
        torch_version=_torch_version(),
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


def _torch_version() -> str:
    """The installed torch's version, from its metadata: importing it takes seconds."""
    try:
        return importlib.metadata.version("torch")
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
