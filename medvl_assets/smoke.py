"""The smoke job: the whole route of every line made small, in a data root of its own, before a long run or after an update.

In: the settings. Out: nothing that anyone reads: invented data, small models, eight steps and four answers below ``<data>/smoke``, by the
very graph and processes that the real run has. What it takes is minutes; what it says is whether the route is whole on this machine.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence

import dagster as dg

from medvl_lib.configured import lines_of
from medvl_lib.errors import HeavyStepFailed
from medvl_lib.files import write_bytes
from medvl_lib.launch import stop_group
from medvl_lib.lines import Line
from medvl_lib.settings import FILE, VARIABLE, Changes, Settings
from medvl_lib.workspace import Workspace

SMOKE = "smoke"
PAIRS, ANSWER_TOKENS = 8, 12
STEPS = 8  # of a line: each of its stages has some, the first of two three


def smoke_settings(settings: Settings, lines: Sequence[Line]) -> str:
    """The settings of the small run: the datasets and lines of these with invented data, and the profile that this machine has.

    Of a line's own changes it keeps how it is split, which may decide whether anything is held out, and the family of its model.
    """
    tables = [f'data_root = "data"\nscale = "tiny"\nprofile = "{settings.profile}"']
    tables += [f"[datasets.{name}]" for name in settings.enabled_datasets()]
    for line in lines:
        # each step sees all the pairs: so few batches of different ones would differ by more than what is learned, and loss_fell with them
        few = f"max_steps = {STEPS}\nmax_training_pairs = {PAIRS}\neffective_batch = {PAIRS}\nmax_validation_pairs = 4"
        changed = settings.line(line.name)
        like = changed.like
        if like is not None or changed.datasets is not None:
            tables.append(
                f"[lines.{line.name}]"
                + (f'\nlike = "{like}"' if like else "")
                + "\ndatasets = ["
                + ", ".join(f'"{name}"' for name in line.datasets)
                + "]"
            )
        family = {key: value for key, value in changed.model.items() if key == "family"}
        tables += [_table(f"lines.{line.name}.{part}", kept) for part, kept in (("split", changed.split), ("model", family)) if kept]
        tables.append(f"[lines.{line.name}.recipe]\n{few}")
        tables += [f"[lines.{line.name}.encoder]\n{few}"] if line.encoder is not None else []
        tables.append(f"[lines.{line.name}.evaluation]\nmax_pairs_per_dataset = 4\nmax_answer_tokens = {ANSWER_TOKENS}")
    return "\n\n".join(tables) + "\n"


def _table(name: str, changes: Changes) -> str:
    """A table of scalars and arrays of them, which TOML writes as JSON does."""
    return f"[{name}]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in changes.items())


def smoke_job(settings: Settings) -> dg.JobDefinition:
    """One step that runs it all, as `make demo` does."""

    @dg.op(name="whole_route_made_small", description=__doc__)
    def run_small(context: dg.OpExecutionContext) -> None:
        folder = Workspace(root=settings.data_root).smoke
        write_bytes(folder / FILE, smoke_settings(settings, lines_of(settings)).encode())
        environment = {**os.environ, VARIABLE: str(folder / FILE), "HF_HUB_OFFLINE": "1"}
        process = subprocess.Popen(
            [sys.executable, "-m", "medvl_assets.demo"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment,
            start_new_session=True,
        )  # fmt: skip
        try:
            said, _ = process.communicate()
        except BaseException:
            stop_group(process)  # its own heavy process dies with it
            raise
        context.log.info(said.decode(errors="replace"))
        if process.returncode:
            raise HeavyStepFailed(
                found=f"the small run ended with status {process.returncode}", where=str(folder), do="read its words in this run's log"
            )

    @dg.job(name=SMOKE, description=(__doc__ or "").strip(), executor_def=dg.in_process_executor)
    def smoke() -> None:
        run_small()

    return smoke
