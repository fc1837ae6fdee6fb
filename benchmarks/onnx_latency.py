"""How long the small encoder takes for a picture and for a text, by torch and by onnxruntime, on the CPU with the same number of threads.

In: this project's small encoder. Out: a table on the terminal. Needs the extra `export`.

    python benchmarks/onnx_latency.py [--batches 1 8 32] [--rounds 30] [--threads 1]

The two take turns, round by round, so that whatever else runs slows both; times are medians, with the 10th and 90th percentile.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from medvl_lib.hardware import PROFILES
from medvl_lib.lines import tiny_model

SPEC = tiny_model("siglip")


def seconds(work: Callable[[], object]) -> float:
    """The wall time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def told(times: list[float], num: int) -> str:
    """Milliseconds for one of ``num``."""
    low, *_, high = statistics.quantiles(times, n=10)
    return f"{statistics.median(times) / num * 1e3:8.3f} [{low / num * 1e3:.3f}, {high / num * 1e3:.3f}]"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    import torch

    from medvl_lib.models.loading import load_encoder
    from medvl_lib.models.onnx_encoder import largest_differences, session, towers, write_onnx
    from medvl_lib.models.preparing import write_base
    from medvl_lib.models.siglip import picture_tensor, text_tensor

    torch.set_num_threads(asked.threads)
    with TemporaryDirectory() as made:
        root = Path(made)
        (root / "base").mkdir()
        write_base(root / "base", SPEC)
        encoder = load_encoder(root / "base", SPEC, PROFILES["cpu"])
        drawn = np.random.RandomState(0)
        most = max(2, *asked.batches)
        whole = {
            "pixel_values": picture_tensor(encoder.processor, [drawn.randint(0, 256, (120, 120, 3), dtype=np.uint8) for _ in range(most)]),
            "input_ids": text_tensor(encoder.processor, [f"knee, grade {number}" for number in range(most)]),
        }
        write_onnx(root, encoder, {name: tensor[:2] for name, tensor in whole.items()})
        print(f"largest difference: {largest_differences(root, encoder, whole)}; {asked.threads} threads, {asked.rounds} rounds")
        print("graph          batch  torch ms each [10 %, 90 %]  onnxruntime ms each      ratio of medians")
        for tower in towers(encoder):
            graph = session(root / tower.file, asked.threads)
            for num in asked.batches:
                given = whole[tower.input_name][:num]
                fed = {tower.input_name: given.numpy()}
                with torch.inference_mode():
                    turns = [
                        (
                            seconds(lambda given=given, tower=tower: tower.module(given)),
                            seconds(lambda fed=fed, graph=graph: graph.run(None, fed)),
                        )
                        for _ in range(asked.rounds + 3)
                    ][3:]  # warmed up
                by_torch, by_onnx = (list(times) for times in zip(*turns, strict=True))
                ratio = statistics.median(by_torch) / statistics.median(by_onnx)
                print(f"{tower.file:14} {num:5}  {told(by_torch, num)}  {told(by_onnx, num)}  {ratio:.2f}")


if __name__ == "__main__":
    main()
