"""What stands in the way before anything is started: the preflight behind ``medvl doctor``.

In: the settings file, and this machine. Out: findings, each with the cure where one is needed. It imports nothing heavy and changes
nothing; judging data is the work of the checks in the graph.
"""

import datetime as dt
import importlib.metadata
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medvl_lib.benchmark.outlook import never_judged
from medvl_lib.benchmark.terms import Terms, otherwise
from medvl_lib.configured import dataset_runs, lines_of
from medvl_lib.data_root import marker_id, require_durable, require_mounted
from medvl_lib.datasets import DATASETS
from medvl_lib.errors import MedVLError
from medvl_lib.files import read_json
from medvl_lib.hardware import Machine, Profile, look, profile_for, why
from medvl_lib.lines import Line
from medvl_lib.models.spec import ModelSpec, on_its_engine
from medvl_lib.notifications import require_meant
from medvl_lib.settings import Settings, read_settings
from medvl_lib.workspace import Workspace

PYTHONS = ((3, 11), (3, 14))
GIB = 2**30
NEEDED_GIB = {"tiny": 2, "full": 60}  # full: a 7-B checkpoint as published (17), as NF4 (6), twice over while a new one is written
CONSTRAINTS = Path(__file__).resolve().parent.parent / "constraints"
PLATFORMS = {("Linux", "x86_64"): "linux-x86_64", ("Linux", "aarch64"): "linux-aarch64", ("Darwin", "arm64"): "macos-arm64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    name: str
    level: Literal["ok", "note", "wrong"]
    """``note``: worth knowing, or still to do; ``wrong``: something will fail."""
    found: str
    do: str = ""


def examine() -> Iterator[Finding]:
    """Everything, in the order in which it would get in the way."""
    yield python()
    versions = installed()
    yield from libraries(versions)
    yield torchvision(versions, importlib.metadata.requires("torchvision") if "torchvision" in versions else None)
    try:
        settings = read_settings()
        lines = lines_of(settings)
        dataset_runs(settings)
        require_meant(settings.notifications)
        detection = profile_for(settings)
    except MedVLError as error:
        yield Finding(name="settings", level="wrong", found=f"{error.found} ({error.where})", do=error.do)
        return
    yield Finding(
        name="settings", level="ok", found=f"{settings.path}: scale {settings.scale}, lines {', '.join(line.name for line in lines)}"
    )
    for line in lines:
        yield from gate(settings, line)
        yield from decision(settings, line)
    yield Finding(name="profile", level="ok", found=f"{detection.profile.name}: {detection.reasons['name']}")
    yield device(detection.profile, look())
    for field, reason in why(detection):
        yield Finding(name="profile", level="ok", found=f"{field} = {getattr(detection.profile, field)}: {reason}")
    for line in lines:
        yield from engines(line, detection.profile)
    yield data_root(settings)
    workspace = Workspace(root=settings.data_root)
    for spec in dict.fromkeys(line.model for line in lines if line.model.source == "hub"):
        yield hub_model(spec, workspace.downloads(spec.hub_id, spec.revision))
    for name in settings.enabled_datasets():
        yield raw_records(settings, name)
    yield store(workspace.store)


def python() -> Finding:
    """Whether this interpreter is one that MedVL is made for."""
    is_right = PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Finding(name="python", level="ok" if is_right else "wrong", found=found, do="" if is_right else "use Python 3.11 to 3.14")


def installed() -> dict[str, str]:
    """Every installed distribution: normalized name -> version."""
    found = importlib.metadata.distributions()
    return {_normalized(distribution.metadata["Name"]): distribution.version for distribution in found}


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def libraries(versions: Mapping[str, str]) -> Iterator[Finding]:
    """Whether what MedVL needs is installed, in the versions that were tried together."""
    shown = ("torch", "transformers", "trl", "peft", "bitsandbytes", "dagster", "duckdb")
    wanted = (
        [*shown] if "medvl" not in versions else [line for line in importlib.metadata.requires("medvl") or [] if "extra ==" not in line]
    )
    missing = sorted(name for name in map(requirement_name, wanted) if name not in versions)
    if missing:
        do = "pip install -e . (make does it in .venv)"
        yield Finding(name="libraries", level="wrong", found=f"not installed: {', '.join(missing)}", do=do)
    else:
        yield Finding(name="libraries", level="ok", found=", ".join(f"{name} {versions[name]}" for name in shown))
    file = CONSTRAINTS / f"{PLATFORMS.get((platform.system(), platform.machine()), 'none')}.txt"
    if file.is_file():
        yield tried_together(versions, file)


def requirement_name(requirement: str) -> str:
    """``great-expectations<2,>=1.24`` -> ``great-expectations``."""
    return _normalized(re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0])


def tried_together(versions: Mapping[str, str], file: Path) -> Finding:
    """Which installed versions differ from those in a constraints file; a local label such as ``+cpu`` does not count."""
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if "==" in line and not line.startswith("#")]
    pinned = {_normalized(name): version for name, _, version in (line.partition("==") for line in lines)}
    others = [
        f"{name} {versions[name]} (tried with {version})"
        for name, version in pinned.items()
        if name in versions and versions[name].partition("+")[0] != version
    ]
    if not others:
        return Finding(name="libraries", level="ok", found=f"all as in {file.name}")
    return Finding(
        name="libraries", level="note", found="; ".join(others), do=f"pip install -c {file} -e '.[dev]' goes back to the tried ones"
    )


def torchvision(versions: Mapping[str, str], requires: list[str] | None) -> Finding:
    """Whether a torchvision that transformers would pick up fits the installed torch; nothing here needs one."""
    name = "torchvision"
    if requires is None or "torch" not in versions:
        return Finding(name=name, level="ok", found="absent: nothing here needs it")
    torch, vision = versions["torch"], versions[name]
    wanted = next((line for line in requires if line.startswith("torch==")), "torch")
    release, _, build = torch.partition("+")
    is_other = wanted not in {"torch", f"torch=={release}"}
    if not is_other and (build != "cpu" or vision.endswith("+cpu")):
        return Finding(name=name, level="ok", found=f"{vision} fits torch {torch}")
    return Finding(
        name=name, level="wrong", found=f"{vision} wants {wanted} with CUDA, and torch is {torch}: importing it fails",
        do="pip uninstall torchvision; nothing here needs it",
    )  # fmt: skip


def gate(settings: Settings, line: Line) -> Iterator[Finding]:
    """Every metric of a line's gate that none of its datasets gives: with it the gate would be inconclusive for ever."""
    names = line.gate.datasets or line.evaluation.datasets or line.datasets
    for one in never_judged(line.gate, [DATASETS[name] for name in names]):
        cure = f"name one that they have: {', '.join(one.others)}" if one.others else "give the line a dataset that has it"
        yield Finding(
            name="gate", level="wrong", do=cure + "; as it is the gate can decide nothing",
            found=f"{line.name}: {one.key} names {one.metric}, which no pair of {', '.join(names)} has "
            f"({settings.where('lines', line.name, 'gate')})",
        )  # fmt: skip


def decision(settings: Settings, line: Line) -> Iterator[Finding]:
    """A line's current decision, where it was made under other settings than the file has now."""
    workspace = Workspace(root=settings.data_root)
    pointer = workspace.current("promotion", line.name)
    if pointer.is_file():
        directory = workspace.directory("promotion", line.name, read_json(pointer)["fingerprint"])
        if said := otherwise(directory, Terms(gate=line.gate, evaluation=line.evaluation)):
            yield Finding(
                name="decision", level="note", found=f"{line.name}: {said} ({directory})",
                do=f"materialize {line.name}/promotion and what follows, or set them back in {settings.path}",
            )  # fmt: skip


def data_root(settings: Settings) -> Finding:
    """Whether the data root is the one that is meant, keeps what is written, and has room."""
    root = settings.data_root
    folder = next(folder for folder in (root, *root.parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=folder) as stream:
            stream.write(b"medvl")
    except OSError as error:
        do = f"make it writable, or name another folder as data_root in {settings.path}"
        return Finding(name="data root", level="wrong", found=f"{folder} takes no file ({error.strerror})", do=do)
    try:
        require_mounted(root, settings.machine.data_root_id, settings.where("machine"))
        require_durable(folder)
    except MedVLError as error:
        return Finding(name="data root", level="wrong", found=f"{error.found} ({error.where})", do=error.do)
    free = shutil.disk_usage(folder).free / GIB
    needed = NEEDED_GIB[settings.scale]
    is_enough = free >= needed
    found = f"{root}, {free:.0f} GiB free; renames, syncs and locks hold{_called(root)}"
    return Finding(
        name="data root", level="ok" if is_enough else "note", found=found,
        do="" if is_enough else f"scale {settings.scale} wants about {needed} GiB",
    )  # fmt: skip


def _called(root: Path) -> str:
    return f"; data_root_id = {marker_id(root)!r}" if root.is_dir() else ""


def hub_model(spec: ModelSpec, downloads: Path) -> Finding:
    """Whether a model of the hub lies here, or may be fetched; the hub is not asked whether it would give it."""
    from huggingface_hub import constants

    from medvl_lib.models import hub

    model = f"{spec.hub_id} at {spec.revision[:8]}"
    if hub.is_here(spec, downloads):
        return Finding(name="model", level="ok", found=f"{model}: on this machine")
    if constants.is_offline_mode():
        do = f"unset HF_HUB_OFFLINE (TRANSFORMERS_OFFLINE does the same), {hub.WAY_AROUND}"
        return Finding(name="model", level="wrong", found=f"{model}: not on this machine, and HF_HUB_OFFLINE forbids to fetch it", do=do)
    return Finding(
        name="model", level="note", found=f"{model}: not on this machine yet",
        do=f"nothing where {constants.ENDPOINT} can be reached: it is fetched when the first line needs it",
    )  # fmt: skip


def device(profile: Profile, machine: Machine) -> Finding:
    """Whether the device that the profile wants is here, and torch can use it."""
    is_apple = machine.system == "Darwin" and machine.architecture == "arm64"
    has_gpu = machine.gpu is not None and not machine.torch_version.endswith("+cpu")
    if {"cpu": True, "cuda": has_gpu, "mps": is_apple}[profile.device]:
        return Finding(name="device", level="ok", found=f"{profile.device}{_of_warnings(machine)}")
    found = f"profile {profile.name} computes on {profile.device}, which this machine and torch {machine.torch_version} do not have"
    return Finding(
        name="device", level="wrong", found=found, do='set profile = "auto" in the settings, or install a build of torch for the GPU'
    )


def engines(line: Line, profile: Profile) -> Iterator[Finding]:
    """Which models of a line the profile's engine does not run, and what they run on instead."""
    specs = (line.model, *(stage.model for stage in line.stages if stage.model is not None))
    for spec in specs:
        actual = on_its_engine(profile, spec.family)
        if actual != profile:
            found = (
                f"{spec.hub_id} of {line.name} runs on {actual.engine} ({actual.device}), quantization {actual.quantization}: the engine "
                f"{profile.engine} does not run {spec.family}"
            )
            yield Finding(name="engine", level="note", found=found)


def _of_warnings(machine: Machine) -> str:
    """What torch says of a GPU that it was not built for, and why it does not matter: programs for 12.0 run on 12.1."""
    capability = None if machine.gpu is None else machine.gpu.compute_capability
    if capability is None or capability <= 12.0:
        return ""
    return (
        f"; torch may warn that capability {capability} is above what it was built for (12.0): a false alarm; a product and an "
        "integer prod are tried on the device when the first model is loaded"
    )


def raw_records(settings: Settings, name: str) -> Finding:
    """Whether a dataset's raw files are there."""
    folder = settings.raw_folder(name)
    count = sum(1 for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0
    if count:
        return Finding(name="raw files", level="ok", found=f"{name}: {count} files in {folder}")
    if settings.dataset(name).raw_path is not None:
        where = settings.where("datasets", name)
        return Finding(name="raw files", level="wrong", found=f"{name}: none in {folder}", do=f"mend raw_path in {where}")
    do = f"put the publisher's files there, set raw_path in [datasets.{name}], or run `medvl sample-data {name}`"
    return Finding(name="raw files", level="note", found=f"{name}: none in {folder}", do=do)


def store(path: Path) -> Finding:
    """Whether a benchmark was published."""
    if not path.is_file():
        return Finding(name="benchmark", level="note", found=f"nothing published yet at {path}", do="make demo")
    from medvl_lib.benchmark.publish import require_readable

    try:
        require_readable(path)
    except MedVLError as error:
        return Finding(name="benchmark", level="wrong", found=f"{path}: {error.found}", do=error.do)
    published = dt.datetime.fromtimestamp(path.stat().st_mtime, dt.UTC)
    return Finding(name="benchmark", level="ok", found=f"{path}, published {published:%Y-%m-%d %H:%M} UTC")
