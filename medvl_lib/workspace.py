"""Where files live: the only room that spells a path below the data root. It knows no format.

    <data>/raw/<dataset>/                      the user's files, never written by a step
    <data>/mirrors/<dataset>/                  raw files that lie behind a URL, as they were listed last
    <data>/images/<2 hex>/<sha256>             every picture once, the publisher's bytes unchanged
    <data>/<step>/<name>/<fingerprint>/        what a step wrote: complete, or absent
    <data>/<step>/<name>/latest.json           the newest one written, judged or not
    <data>/<step>/<name>/current.json          the newest one whose blocking rules all passed
    <data>/served/<line>.json                  the pointer that says what is served
    <data>/downloads/<hub id>/<revision>/      a model's files as the hub has them; base models are links to them
    <data>/fetched/<dataset>/                  what `medvl fetch` brought: fetch.json, files.parquet, and what has come so far
    <data>/checkpoints/<step>/<name>/<fp>/     a training run that may be resumed
    <data>/requests/, locks/, runs/, dagster/  what a heavy process was asked, file locks, a run's inputs, Dagster's home
    <data>/benchmark.duckdb                    the published store, rebuilt from Parquet
    <data>/review_sheets/<line>/<fp>/          a rating sheet with its key; what raters said of it lies in <data>/reviews/<that fp>/
    <data>/medvl.json                          what this data root is called, for machines that share it
    <data>/smoke/                              the smoke job's own settings and data root
    <data>/reports/<line>-<evaluation>.html    a report that was asked for on the command line

In: the data root, and the run that is going on (if any). Out: paths.
"""

import os
from dataclasses import dataclass
from pathlib import Path

DEVICE_LOCKS = "MEDVL_DEVICE_LOCKS"  # a folder that containers of one machine share: each has a /tmp of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """The places below one data root, as seen by one run."""

    root: Path
    """The data root, absolute."""
    run_id: str | None = None
    """The run whose inputs are resolved once (``runs/<run_id>.json``); None outside a run."""

    def raw(self, dataset: str) -> Path:
        """Where a dataset's raw files lie unless the settings name another folder."""
        return self.root / "raw" / dataset

    def mirror(self, dataset: str) -> Path:
        """Where a dataset's raw files are brought that lie behind a URL."""
        return self.root / "mirrors" / dataset

    @property
    def images(self) -> Path:
        """The image store."""
        return self.root / "images"

    def step(self, step: str, name: str) -> Path:
        """The folder that holds every directory a step wrote for one dataset or line."""
        return self.root / step / name

    def directory(self, step: str, name: str, fingerprint: str) -> Path:
        """The directory of one fingerprint."""
        return self.step(step, name) / fingerprint

    def latest(self, step: str, name: str) -> Path:
        """The file that names the newest directory, judged or not."""
        return self.step(step, name) / "latest.json"

    def current(self, step: str, name: str) -> Path:
        """The file that names the newest directory that passed."""
        return self.step(step, name) / "current.json"

    def observed(self, step: str, name: str) -> Path:
        """What is remembered of files outside the workspace, so that unchanged ones are not hashed again."""
        return self.step(step, name) / "observed.parquet"

    def written(self, step: str) -> list[Path]:
        """Every directory that a step has written, for whatever dataset or line; temporary and damaged ones left out."""
        return sorted(path for path in (self.root / step).glob("*/[!.]*") if path.is_dir())

    def written_for(self, name: str) -> list[Path]:
        """Every directory that any step has written for one dataset or line; temporary and damaged ones left out."""
        return sorted(path for path in self.root.glob(f"*/{name}/[!.]*") if path.is_dir())

    def served(self, line: str) -> Path:
        """The pointer to what a line serves."""
        return self.root / "served" / f"{line}.json"

    def downloads(self, hub_id: str, revision: str) -> Path:
        """Where the files of a repository on the hub are kept, and what has come of them so far."""
        return self.root / "downloads" / hub_id.replace("/", "--") / revision

    def fetched(self, dataset: str) -> Path:
        """Where the files of a dataset come in before they are placed, and what is written down of them."""
        return self.root / "fetched" / dataset

    def checkpoints(self, step: str, name: str, fingerprint: str) -> Path:
        """Where an unfinished training run keeps its checkpoints."""
        return self.root / "checkpoints" / step / name / fingerprint

    def parts(self, step: str, name: str, fingerprint: str) -> Path:
        """Where the finished parts of a step that is done in parts wait for the others."""
        return self.checkpoints(step, name, fingerprint) / "parts"

    def request(self, step: str, name: str, fingerprint: str) -> Path:
        """What a heavy process is asked to do: the file that starts it again by hand."""
        return self.root / "requests" / f"{step}-{name}-{fingerprint}.json"

    def lock(self, name: str) -> Path:
        """A lock file that the kernel releases when its holder dies."""
        return self.root / "locks" / f"{name}.lock"

    def device_lock(self, device: str) -> Path:
        """The lock of a device: one for the whole machine, since every data root shares it; a CPU is shared by the system anyway.

        It lies in ``/tmp``, or in the folder that MEDVL_DEVICE_LOCKS names.
        """
        if device == "cpu":
            return self.lock("device-cpu")
        return Path(os.environ.get(DEVICE_LOCKS) or "/tmp") / f"medvl-{device}.lock"  # noqa: S108 (a lock, no data)

    @property
    def pins(self) -> Path | None:
        """Which directory of each input this run resolved; None outside a run."""
        return None if self.run_id is None else self.root / "runs" / f"{self.run_id}.json"

    @property
    def marker(self) -> Path:
        """The file that says which data root this is."""
        return self.root / "medvl.json"

    @property
    def dagster_home(self) -> Path:
        """Dagster's instance folder."""
        return self.root / "dagster"

    @property
    def smoke(self) -> Path:
        """Where the smoke job has its settings and a data root of its own."""
        return self.root / "smoke"

    @property
    def demo_log(self) -> Path:
        """What the graph said during `make demo`."""
        return self.dagster_home / "demo.log"

    @property
    def store(self) -> Path:
        """The published benchmark."""
        return self.root / "benchmark.duckdb"

    def page(self, line: str, evaluation_id: str) -> Path:
        """A report that was asked for on the command line; the one that the graph writes is a step's."""
        return self.root / "reports" / f"{line}-{evaluation_id}.html"
