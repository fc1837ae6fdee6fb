"""``make demo``: materialize the whole graph on the data of the settings, measure what it took, and print the leaderboard.

In: the settings. Out: words on the terminal. The graph is started the way a user would, with Dagster's own command; its log goes to a file.
Where a dataset's raw folder is the default one and empty, invented data are written there first.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from medvl_assets.instance import instance_home
from medvl_assets.jobs import EVERYTHING
from medvl_lib.benchmark.publish import ask
from medvl_lib.benchmark.terminal import render_table
from medvl_lib.configured import dataset_runs, lines_of
from medvl_lib.errors import InputMissing, MedVLError
from medvl_lib.hardware import profile_for
from medvl_lib.lines import Line
from medvl_lib.models import shipped
from medvl_lib.route.pointing import what_is_served
from medvl_lib.sample_data import write
from medvl_lib.settings import VARIABLE, Settings, read_settings
from medvl_lib.workspace import Workspace

PROJECT = Path(__file__).parents[1]  # where `dg` finds [tool.dg] in pyproject.toml
SAMPLE_SECONDS = 0.5
SEES_LIBRARIES = psutil.LINUX
FINISHED = re.compile(r'STEP_SUCCESS - Finished execution of step "(?P<step>[^"]+)" in (?P<took>\S+)\.$')
TORCH = "libtorch"  # a library that only a process that imported torch has mapped


class Taken(NamedTuple):
    """What a run took."""

    status: int
    seconds: float
    peak_bytes: int
    """Largest sum over all processes of the memory that is theirs alone or their share (PSS), sampled."""
    num_torch_processes: int | None
    """None where the system does not tell which libraries a process has loaded (macOS)."""


def main() -> int:
    """Run the demo; returns the exit status."""
    try:
        settings = read_settings()
        lines_of(settings)  # a wrong number or name is refused here, before anything is started
        dataset_runs(settings)
        workspace = Workspace(root=settings.data_root)
        fill(settings)
        _say(f"profile {profile_for(settings).profile.name}, scale {settings.scale}, data below {settings.data_root}")
        for line in lines_of(settings):
            if line.model.source == "tiny" and shipped.identity(line.model.family) == shipped.RANDOM:
                _say(f"NOTE: {line.name} runs on random weights, since {shipped.DIRECTORY} is not there: no score of it means anything")
        log = workspace.demo_log
        _say(f"everything is materialized, some fifteen minutes on two cores, much less where most of it is there already; log: {log}")
        taken = run(instance_home(workspace), settings.path, log)
        if taken.status:
            _say(failure(log))
            _say(f"the graph failed with status {taken.status}; the whole log is {log}; `make demo` again goes on where it stopped")
            return 1
        show(workspace, lines_of(settings))
    except MedVLError as error:
        _say(str(error))
        return 2
    except KeyboardInterrupt:  # the run got it, too, and has ended by itself
        _say("stopped; `make demo` again goes on where it stopped")
        return 130
    _say(
        f"{taken.seconds:.0f} s of wall time, {taken.peak_bytes / 2**30:.2f} GiB summed peak memory, "
        + ("" if taken.num_torch_processes is None else f"{taken.num_torch_processes} processes imported torch; ")
        + f"log: {log}"
    )
    return 0


def fill(settings: Settings) -> None:
    """Write invented data where a dataset's default raw folder is empty; what lies behind a URL is the run's to mirror."""
    for name in settings.enabled_datasets():
        if settings.dataset(name).raw_url:
            continue
        folder = settings.dataset(name).raw_path
        if folder is not None and not folder.is_dir():
            raise InputMissing(
                found="a file, where a folder should be" if folder.is_file() else "no such folder", where=str(folder),
                do=f"mend [datasets.{name}] raw_path in {settings.path}: the folder that holds the publisher's files",
            )  # fmt: skip
        if folder is None:
            written = write(name, settings.own_raw_folder(name))
            _say(f"{name}: invented data {'written to' if written.is_new else 'or yours found in'} {written.root}")


def run(home: str, settings: Path, log: Path) -> Taken:
    """Materialize everything with ``dg launch``, sampling the memory of its process tree."""
    started, peak, torch_processes = time.monotonic(), 0, set[int]()
    with log.open("wb") as stream:
        process = psutil.Popen(
            [str(Path(sys.executable).with_name("dg")), "launch", "--job", EVERYTHING], stdout=stream, stderr=subprocess.STDOUT,
            cwd=PROJECT, env={**os.environ, "DAGSTER_HOME": home, VARIABLE: str(settings)},
        )  # fmt: skip
        with log.open("rb") as written, _waited_for(process):
            while process.poll() is None:
                peak = max(peak, _summed_bytes(process, torch_processes))
                for step in finished_steps(written.readlines()):
                    _say(f"{time.monotonic() - started:5.0f} s  {step}")
                time.sleep(SAMPLE_SECONDS)
    return Taken(process.returncode, time.monotonic() - started, peak, len(torch_processes) if SEES_LIBRARIES else None)


@contextmanager
def _waited_for(process: psutil.Popen) -> Generator[None, None, None]:
    """Let the run end by itself where Ctrl-C was meant for both: it writes a checkpoint first."""
    try:
        yield
    except KeyboardInterrupt:
        process.wait()
        raise


def finished_steps(lines: Iterable[bytes]) -> Iterator[str]:
    """The steps of some seconds that a run's log says to have ended, with the time that each took."""
    for line in lines:
        found = FINISHED.search(line.decode(errors="replace"))
        if found is not None and not found["took"].endswith("ms"):
            yield f"{found['step'].replace('__', ' ')} ({found['took']})"


def _summed_bytes(process: psutil.Popen, torch_processes: set[int]) -> int:
    """Memory of a process and its descendants, shared pages counted once; notes those that have torch's library mapped."""
    total = 0
    for member in [process, *process.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied, FileNotFoundError, ProcessLookupError):
            if not SEES_LIBRARIES:
                total += member.memory_info().rss
                continue
            total += member.memory_full_info().pss
            if TORCH in Path(f"/proc/{member.pid}/maps").read_text(encoding="utf-8", errors="replace"):
                torch_processes.add(member.pid)
    return total


def failure(log: Path) -> str:
    """The three lines of the error that stopped the graph, or the last lines of its log."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    found = [index for index, line in enumerate(lines) if "found: " in line]
    return "\n".join(lines[found[-1] : found[-1] + 3] if found else lines[-5:])


QUESTIONS = (
    """select l.line, l.dataset, l.metric, l.variant, l.condition, l.precision, l.n, l.num_clusters as clusters, l.mean, l.ci_low,
              l.ci_high, l.interval_note as note, l.p50_seconds_per_answer as seconds, l.memory_mb
       from leaderboard l join promotion_decisions p using (evaluation_id)
       where p.is_current and p.decided_by = 'gate' and p.challenger = 'adapter' and (l.metric = p.primary_metric or not exists (
           from leaderboard o where o.evaluation_id = l.evaluation_id and o.metric = p.primary_metric
       ))""",
    """select line, challenger, case when decided_by = 'gate' then verdict else 'overridden' end as verdict, champion, num_pairs as n,
              num_clusters as clusters, difference, ci_low, ci_high,
              case when decided_by = 'gate' then '' else decided_by || ': ' end || reasons[1] as reason
       from promotion_decisions where is_current order by line, challenger, decided_at""",
)


def show(workspace: Workspace, lines: Sequence[Line]) -> None:
    """Print what decides of the leaderboard, and the decisions, as anyone would ask for them with ``medvl sql``; and what is served."""
    for question in QUESTIONS:
        answer = ask(workspace, question)
        _say(render_table(answer.columns, answer.rows) + "\n")
    for line in lines:
        _say(what_is_served(workspace, line))
    _say("every metric: medvl sql leaderboard; the graph: make ui; what the small model can read: docs/model-cards")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
