"""Before MLX is imported: on Linux, where it is there to be tested, products of matrices are lent to it by torch.

In: nothing. Out: nothing. ``mlx[cpu]`` brings the reference BLAS, which multiplies 32-bit matrices at 2 billion operations a second;
torch's library has the same function by the same name at ten times that and more. On a Mac neither is asked: MLX has its own.
"""

import ctypes
import importlib.util
import platform
from functools import cache
from pathlib import Path

import torch

from medvl_lib.errors import MedVLError

BLAS = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"


@cache
def prepare() -> None:
    """Let torch's names be found before those of the libraries that come with MLX; later is too late.

    Raises MedVLError where MLX is not installed.
    """
    if importlib.util.find_spec("mlx_vlm") is None:
        raise MedVLError(
            found="a profile with engine = 'mlx', and no mlx-vlm", where="the installed packages",
            do="pip install -c constraints/<platform>.txt -e '.[mlx]', or set engine = 'torch' and quantization = 'none' in the profile",
        )  # fmt: skip
    if platform.system() == "Linux" and BLAS.is_file():
        ctypes.CDLL(str(BLAS), mode=ctypes.RTLD_GLOBAL)
