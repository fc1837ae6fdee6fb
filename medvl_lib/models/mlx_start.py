"""Before MLX is imported: on Linux, where it is there to be tested, products of matrices are lent to it by torch.

In: nothing. Out: nothing. ``mlx[cpu]`` brings the reference BLAS, which multiplies 32-bit matrices at 2 billion operations a second and core;
torch's library has the same function by the same name at twenty times that. On a Mac neither is asked: MLX has its own.
"""

import ctypes
import platform
from functools import cache
from pathlib import Path

import torch

BLAS = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"


@cache
def prepare() -> None:
    """Let torch's names be found before those of the libraries that come with MLX; later is too late."""
    if platform.system() == "Linux" and BLAS.is_file():
        ctypes.CDLL(str(BLAS), mode=ctypes.RTLD_GLOBAL)
