"""What 50 looks of the sensor ``raw_records_arrived`` cost over 100,000 files that do not change, beside a plain ``os.scandir`` of the same
tree.

    python benchmarks/sensor_ticks.py [--files 100000] [--ticks 50]

Both read the size and the modification time of every file, which no listing gives without asking for each; a listing of the names alone is
shown as well. Peak memory is what Python allocated above what it held before (tracemalloc, in a pass of its own: it slows what it watches),
and the growth of the process (RSS) over all looks.
"""

import argparse
import os
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import psutil

from medvl_lib.arrivals import Memory, look, next_answer

FILES_PER_FOLDER = 1000


def build(root: Path, num_files: int) -> None:
    """Small files in folders of a thousand, as a publisher of pictures ships them."""
    for first in range(0, num_files, FILES_PER_FOLDER):
        folder = root / f"p{first // FILES_PER_FOLDER:05d}"
        folder.mkdir()
        for number in range(first, min(first + FILES_PER_FOLDER, num_files)):
            (folder / f"{number:08d}.jpg").write_bytes(b"x")


def plain(folder: str, *, with_facts: bool) -> int:
    """Walk the tree with ``os.scandir`` and do nothing else."""
    count = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                count += plain(entry.path, with_facts=with_facts)
            else:
                if with_facts:
                    entry.stat()
                count += 1
    return count


def seconds(work: Callable[[], object]) -> float:
    """Of wall time."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    """Build the tree, look at it, and print what it took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--ticks", type=int, default=50)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        build(root, asked.files)
        memory = Memory()

        def tick() -> None:
            nonlocal memory
            memory, _, _ = next_answer(memory, look(root), lambda: "new")

        tick(), tick()  # the files are observed once; from now on nothing changes
        process, before = psutil.Process(), psutil.Process().memory_info().rss
        ticks, facts, names = [], [], []
        for _ in range(asked.ticks):  # in turns, so that whatever else the machine does meets all of them
            ticks.append(seconds(tick))
            facts.append(seconds(lambda: plain(name, with_facts=True)))
            names.append(seconds(lambda: plain(name, with_facts=False)))
        grown = process.memory_info().rss - before
        assert memory.observation == 1, memory  # noqa: S101 (it would not have measured what it says)
        peaks = []
        for _ in range(3):
            tracemalloc.start()
            tick()
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    own, beside, listing = (statistics.median(found) for found in (ticks, facts, names))
    print(f"{asked.ticks} ticks over {asked.files} unchanged files, medians: {own:.3f} s a tick (longest {max(ticks):.3f} s)")
    print(f"plain os.scandir with sizes and times {beside:.3f} s: {own / beside:.2f} times; names alone {listing:.3f} s")
    print(f"peak memory of a tick {max(peaks) / 1024:.0f} KiB; grew by {grown / 2**20:.2f} MiB in all; kept {len(str(memory))} characters")


if __name__ == "__main__":
    main()
