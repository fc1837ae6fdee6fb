"""How much memory preparation takes at two sizes: raw records to audit, each step with its rules, by the steps and rules of the graph.

In: nothing but this project's generators. Out: a table on the terminal; exit status 1 where the larger size's peak is more than 1.2 times
the smaller one's.

    python benchmarks/preparation_memory.py [pubmedvision | pathvqa] [--rows 20000 200000]

Rows are invented in a publisher's layout: small pictures, five rows each, one in a hundred another one saved again; answers of 60 to 140
words (pubmedvision) or of a few (pathvqa), one in fifty a copy of an earlier one with a word changed; one row in 200 stands twice, one in
500 has no answer.

Each step runs in a fresh process, and then all of them in one. The peak is the kernel's (``ru_maxrss``). On Linux a process inherits it
from the one that starts it, so this one imports nothing of MedVL before it is a child.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from medvl_lib.step import Step
    from medvl_lib.workspace import Workspace

MAX_RATIO = 1.2
SIZES = (20_000, 200_000)
LAYOUTS = ("pubmedvision", "pathvqa")
STEPS = ("raw_records", "pairs", "validated_pairs", "split", "near_duplicates", "chat", "audit")
WHOLE = "all in one process"
NUM_BYTES_MIB = 1024 * 1024
MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024  # what ru_maxrss counts in

ROWS_PER_PICTURE = 5
COPIED_PICTURE_EVERY, COPIED_TEXT_EVERY, REPEATED_EVERY, EMPTY_EVERY = 100, 50, 200, 500
PICTURE_PIXELS = (112, 84)
NUM_WORDS = 5000
SHARD_ROWS, GROUP_ROWS = 3000, 100  # as the hub writes sets of pictures
QUESTIONS = ("What does the picture show?", "Which structures are seen?", "What is the main finding?", "Describe it.", "Is it abnormal?")


class Peak(NamedTuple):
    """What one process took."""

    seconds: float
    num_bytes: int


# -- invented rows ------------------------------------------------------------------------------------------------------
def _words(number: int) -> list[str]:
    chance = Random(number)  # noqa: S311 - a measurement, no secret
    return [f"w{chance.randrange(NUM_WORDS)}" for _ in range(chance.randint(60, 140))]


def _long_answer(number: int) -> str:
    if number % COPIED_TEXT_EVERY != COPIED_TEXT_EVERY - 1:
        return " ".join(_words(number))
    words = _words(number // 2)
    words[len(words) // 2] = "changed"
    return " ".join(words)


def _short_answer(number: int) -> str:
    return ("yes", "no", " ".join(_words(number)[:3]))[number % 3]


def _row(number: int, layout: str) -> tuple[int, str, str]:
    """Picture, question and answer of a row; the one before again where it is a repeated one."""
    if number % REPEATED_EVERY == 1:
        return _row(number - 1, layout)
    picture, question = number // ROWS_PER_PICTURE, QUESTIONS[number % ROWS_PER_PICTURE]
    answer = _long_answer(number) if layout == "pubmedvision" else _short_answer(number)
    return picture, question, "" if number % EMPTY_EVERY == EMPTY_EVERY // 2 else answer


def _picture(number: int) -> bytes:
    """A smooth picture; one in a hundred is another one saved again."""
    import io

    import numpy as np
    from PIL import Image

    is_copy = number % COPIED_PICTURE_EVERY == COPIED_PICTURE_EVERY - 1
    coarse = np.random.RandomState(number // 2 if is_copy else number).randint(0, 255, (7, 7, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize(PICTURE_PIXELS, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=60 if is_copy else 90)
    return buffer.getvalue()


def _write_pubmedvision(root: Path, num_rows: int) -> None:
    (root / "images").mkdir()
    for number in range(-(-num_rows // ROWS_PER_PICTURE)):
        (root / "images" / f"pmc_{number}_0.jpg").write_bytes(_picture(number))
    with (root / "PubMedVision_Alignment_VQA.json").open("w", encoding="utf-8") as file:
        for number in range(num_rows):
            picture, question, answer = _row(number, "pubmedvision")
            record = {
                "id": f"Alignment_VQA_{number}", "image": [f"images/pmc_{picture}_0.jpg"], "modality": "CT", "body_part": "Chest",
                "conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}],
            }  # fmt: skip
            file.write(("[" if number == 0 else ",\n") + json.dumps(record))
        file.write("]\n")


def _write_pathvqa(root: Path, num_rows: int) -> None:
    (root / "data").mkdir()
    num_test = num_rows // 10
    for part, numbers in (
        ("train", range(num_rows - 2 * num_test)),
        ("validation", range(num_rows - 2 * num_test, num_rows - num_test)),
        ("test", range(num_rows - num_test, num_rows)),
    ):
        shards = [numbers[start : start + SHARD_ROWS] for start in range(0, len(numbers), SHARD_ROWS)]
        for index, shard in enumerate(shards):
            _write_shard(root / "data" / f"{part}-{index:05d}-of-{len(shards):05d}.parquet", shard)


def _write_shard(path: Path, numbers: Sequence[int]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from medvl_lib.datasets.pathvqa import COLUMNS

    rows: list[dict[str, Any]] = []
    for number in numbers:
        picture, question, answer = _row(number, "pathvqa")
        rows.append({"image": {"bytes": _picture(picture), "path": None}, "question": question, "answer": answer})
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(list(COLUMNS.items()))), path, row_group_size=GROUP_ROWS)


# -- what runs in a process of its own ----------------------------------------------------------------------------------
def _route(root: Path, layout: str) -> "tuple[Workspace, dict[str, Step]]":
    """The workspace, and the graph's own steps for one dataset and its line, by name."""
    from medvl_lib.configured import dataset_runs, lines_of
    from medvl_lib.hardware import PROFILES
    from medvl_lib.route.data import dataset_steps
    from medvl_lib.route.line import line_steps
    from medvl_lib.settings import read_settings
    from medvl_lib.workspace import Workspace

    file = root / "settings.toml"
    file.write_text(f'data_root = "data"\nscale = "tiny"\nprofile = "cpu"\n[datasets.{layout}]\nenabled = true\nraw_path = "../raw"\n')
    settings = read_settings(file)
    (run,), line = dataset_runs(settings), lines_of(settings)[0]
    steps = {step.name: step for step in (*dataset_steps(run), *line_steps(line, PROFILES["cpu"]))}
    return Workspace(root=root / "data"), steps


def _run(workspace: "Workspace", step: "Step") -> None:
    """Write one step and judge it, as the graph does."""
    from medvl_lib.errors import MedVLError
    from medvl_lib.provenance import judge
    from medvl_lib.step import run_step

    artifact = run_step(workspace, step)
    verdicts = judge(workspace, artifact, step.rules)
    if failed := [verdict for verdict in verdicts if verdict.is_blocking and not verdict.outcome.passed]:
        found = "; ".join(f"{verdict.rule}: {verdict.outcome.found}" for verdict in failed)
        raise MedVLError(found=found, where=str(artifact.directory), do="mend the invented rows, or the step")


def _child(names: Sequence[str], root: Path, layout: str, num_rows: int) -> None:
    """Write the raw files (``raw``), or run steps; the last line printed is what this process took."""
    began = time.perf_counter()
    if list(names) == ["raw"]:
        (root.parent / "raw").mkdir()
        (_write_pubmedvision if layout == "pubmedvision" else _write_pathvqa)(root.parent / "raw", num_rows)
    else:
        workspace, steps = _route(root, layout)
        for name in names:
            _run(workspace, steps[name])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS_BYTES
    print(json.dumps(Peak(time.perf_counter() - began, peak)))


# -- the measurement ----------------------------------------------------------------------------------------------------
def _measured(names: Sequence[str], root: Path, layout: str, num_rows: int) -> Peak:
    """What a fresh process takes for these steps."""
    root.mkdir(exist_ok=True)
    command = [sys.executable, __file__, layout, "--rows", str(num_rows), "--child", str(root), *names]
    answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603 - this very file
    return Peak(*json.loads(answer.stdout.splitlines()[-1]))


def _peaks(folder: Path, layout: str, num_rows: int) -> Iterator[tuple[str, Peak]]:
    """Each step in a process of its own; then, in another workspace, all in one."""
    _measured(["raw"], folder / "apart", layout, num_rows)
    for root in (folder / "apart", folder / "together"):
        _measured(["base_model"], root, layout, num_rows)
    for name in STEPS:
        yield name, _measured([name], folder / "apart", layout, num_rows)
    yield WHOLE, _measured(STEPS, folder / "together", layout, num_rows)


def _measure(layout: str, num_rows: int, scratch: Path | None) -> dict[str, Peak]:
    found: dict[str, Peak] = {}
    with TemporaryDirectory(prefix="preparation-", dir=scratch) as folder:
        for name, peak in _peaks(Path(folder), layout, num_rows):
            found[name] = peak
            speed = num_rows / peak.seconds
            print(f"{num_rows:>8} {name:<20} {peak.seconds:>8.1f} {peak.num_bytes / NUM_BYTES_MIB:>9.0f} {speed:>9.0f}", flush=True)
    return found


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Peak memory of preparation at two sizes.")
    parser.add_argument("layout", nargs="?", choices=LAYOUTS, default=LAYOUTS[0])
    parser.add_argument("--rows", nargs="+", type=int, default=SIZES, help="the sizes, the smaller one first")
    parser.add_argument("--scratch", type=Path, help="where to write: about 10 KB a row, removed at the end")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        _child(chosen.child[1:], Path(chosen.child[0]), chosen.layout, chosen.rows[0])
        return 0
    print(f"{'rows':>8} {'step':<20} {'seconds':>8} {'peak MiB':>9} {'rows/s':>9}")
    peaks = [_measure(chosen.layout, num_rows, chosen.scratch) for num_rows in chosen.rows]
    ratios = {name: peaks[-1][name].num_bytes / peak.num_bytes for name, peak in peaks[0].items()}
    print(f"peak at {chosen.rows[-1]} rows / at {chosen.rows[0]}: " + ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items()))
    return int(ratios[WHOLE] > MAX_RATIO)


if __name__ == "__main__":
    sys.exit(main())
