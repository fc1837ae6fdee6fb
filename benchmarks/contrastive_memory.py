"""How much memory and time a contrastive batch takes whole and in chunks: one forward and backward pass of the small encoder each.

In: nothing but this project's small encoder. Out: a table on the terminal; exit status 1 where the chunks take 40 % or more of the memory
that the whole batch does, or where their gradient is another one.

    python benchmarks/contrastive_memory.py [--batch 64] [--chunk 4] [--rounds 3]

Each runs in a fresh process. Memory is the kernel's peak (VmHWM, set back before the pass) over what the process held before it: weights,
gradients and the library are in neither. Linux only, since no other kernel sets a peak back.
"""

import argparse
import multiprocessing
import re
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

MAX_SHARE = 0.4
MAX_DIFFERENCE = 1e-5
STATUS = Path("/proc/self/status")
RESET_PEAK = "5"  # what /proc/self/clear_refs takes: man 5 proc


class Measured(NamedTuple):
    """What one way of going through a batch took."""

    extra_bytes: int
    seconds: float
    gradient: Any
    """Of every weight, in one vector."""


def held(name: str) -> int:
    """Bytes that the kernel counts for this process: VmRSS, or VmHWM."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", STATUS.read_text(), re.MULTILINE)
    if found is None:
        raise ValueError(f"{STATUS} has no {name}")
    return int(found[1]) * 1024


def measure(weights: Path, batch: int, chunk: int, rounds: int) -> Measured:
    """One forward and backward pass; of several the one with the smallest peak, and the shortest time."""
    import torch
    from transformers import SiglipModel

    from medvl_lib.training.sigmoid_loss import Matcher

    torch.set_num_threads(1)
    model = Matcher(SiglipModel.from_pretrained(weights).train(), chunk=chunk)
    torch.manual_seed(0)
    numbers, side = torch.arange(batch), model.encoder.config.vision_config.image_size
    vocabulary = model.encoder.config.text_config.vocab_size

    def given(count: int) -> dict[str, torch.Tensor]:
        return {
            "pixel_values": pictures[:count], "input_ids": texts[:count], "texts": numbers[:count], "groups": numbers[:count],
            "pictures": numbers[:count],
        }  # fmt: skip

    pictures, texts = torch.rand(batch, 3, side, side) * 2 - 1, torch.randint(1, vocabulary, (batch, 64))
    model(**given(2))["loss"].backward()  # what libraries and gradients take once
    found: list[tuple[int, float]] = []
    for _ in range(rounds):
        model.zero_grad(set_to_none=False)
        Path("/proc/self/clear_refs").write_text(RESET_PEAK)
        before, started = held("VmRSS"), time.perf_counter()
        model(**given(batch))["loss"].backward()
        found.append((held("VmHWM") - before, time.perf_counter() - started))
    gradient = torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])
    return Measured(max(extra for extra, _ in found), min(seconds for _, seconds in found), gradient.numpy())


def main() -> int:
    """Measure both, and say how they compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--chunk", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with TemporaryDirectory(prefix="medvl-") as folder:
        context = multiprocessing.get_context("spawn")
        with context.Pool(1) as pool:
            pool.apply(write_weights, (Path(folder),))
        found: dict[int, Measured] = {}
        for chunk in (0, asked.chunk):
            with context.Pool(1) as pool:  # a fresh process each
                found[chunk] = pool.apply(measure, (Path(folder), asked.batch, chunk, asked.rounds))
    whole, parts = found[0], found[asked.chunk]
    for name, item in ((f"whole batch of {asked.batch}", whole), (f"in chunks of {asked.chunk}", parts)):
        print(f"{name:<24} {item.extra_bytes / 1e6:8.1f} MB  {item.seconds:6.2f} s")
    difference = float(((whole.gradient - parts.gradient) ** 2).sum() ** 0.5 / (whole.gradient**2).sum() ** 0.5)
    share = parts.extra_bytes / whole.extra_bytes
    print(f"memory {share:.0%} (below {MAX_SHARE:.0%}), time x {parts.seconds / whole.seconds:.2f}, gradients differ by {difference:.1e}")
    return int(share >= MAX_SHARE or difference > MAX_DIFFERENCE)


def write_weights(directory: Path) -> None:
    """The small encoder, without training: memory does not ask what weights say."""
    from medvl_lib.models import siglip

    siglip.write_tiny(directory, seed=1, max_pixels=siglip.IMAGE_SIDE_PIXELS**2)


if __name__ == "__main__":
    sys.exit(main())
