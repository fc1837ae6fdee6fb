"""Probes: what a device is asked before weights are put on it, and the one mend that an answer may call for.

In: a profile. Out: nothing, where the device computes; TF32 is off. Warnings are not believed either way:
torch says of a GB10 (capability 12.1) that it was not built for it, and computes rightly there; a small product tells.

Integer products over a dimension (``image_grid_thw.prod(-1)`` in Qwen2.5-VL) are compiled on the device when they are first asked for, and
the compiler of CUDA 12.8 does not know a GB10: ``nvrtc: error: invalid value for --gpu-architecture``. Since CUDA 13 it does. So the probe
runs one, and only where that fails such products are done on the CPU from then on.
"""

import warnings
from collections.abc import Callable
from functools import cache

import torch

from medvl_lib.errors import MedVLError
from medvl_lib.hardware import Profile

FALSE_ALARM = r"(?s).*cuda capability.*"  # "... which is not within the range that this PyTorch supports"
Probe = Callable[[str], float]
"""A device -> the answer to a small calculation there, or an exception."""


def prepare(profile: Profile) -> None:
    """Let products in 32 bits be that, and ask the device once whether it computes; the CPU is not asked.

    TF32 would round their factors to 10 bits of mantissa, so that embeddings and scores depended on the GPU: it is off on every profile.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False  # torch's own default is True
    if profile.device != "cpu":
        _ask(profile.device)


@cache
def _ask(device: str) -> None:
    warnings.filterwarnings("ignore", message=FALSE_ALARM)
    require_products(device, matrix_product)
    if not multiplies_integers(device, integer_product):
        multiply_integers_on_the_cpu(device)


def matrix_product(device: str) -> float:
    """A product of two matrices of ones in 16 bits: 64."""
    ones = torch.ones(64, 64, device=device, dtype=torch.bfloat16)
    return float((ones @ ones)[0, 0])


def integer_product(device: str) -> float:
    """2 x 3, over a dimension: 6."""
    return float(torch.tensor([[2, 3]], device=device).prod(-1)[0])


def require_products(device: str, probe: Probe) -> None:
    """Raise MedVLError where the device does not multiply matrices, or wrongly."""
    try:
        found = f"a product of ones that gives {probe(device)} where 64 is right"
    except RuntimeError as error:
        found = str(error).splitlines()[0]
    if "gives 64.0 " not in found:
        raise MedVLError(
            found=found, where=f"the device {device}, torch {torch.__version__}",
            do="install a build of torch for this device (on a GB10 torch 2.11 or later, with CUDA 13), or set profile = 'cpu'",
        )  # fmt: skip


def multiplies_integers(device: str, probe: Probe) -> bool:
    """Whether the device multiplies integers over a dimension."""
    try:
        return probe(device) == 6
    except RuntimeError:  # what the compiler says of an architecture that it does not know
        return False


def multiply_integers_on_the_cpu(device: str) -> Callable[[], None]:
    """Let integer products over tensors of a device be done on the CPU; returns what undoes it."""
    original = torch.Tensor.prod

    def prod(tensor: torch.Tensor, *arguments: object, **named: object) -> torch.Tensor:
        if tensor.device.type != device or tensor.is_floating_point() or tensor.is_complex():
            return original(tensor, *arguments, **named)
        return original(tensor.cpu(), *arguments, **named).to(tensor.device)

    def undo() -> None:
        torch.Tensor.prod = original

    torch.Tensor.prod = prod
    return undo
