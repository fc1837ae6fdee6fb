"""``dagster_project.toml`` as one typed value. Nothing else opens that file.

In: the file, found upward from the current folder or named by ``MEDVL_SETTINGS``. Out: ``Settings``, frozen; or a SettingsError. What a
recipe or a profile *is* stands with the rooms that use it; which names exist is told to ``require_known_names``; how a table of the file
changes such a value stands in ``overrides``.
"""

import os
import re
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, PrivateAttr, ValidationError, ValidationInfo

from medvl_lib.errors import MedVLError, SettingsError
from medvl_lib.overrides import cure, unknown_key
from medvl_lib.workspace import Workspace

FILE = "dagster_project.toml"
VARIABLE = "MEDVL_SETTINGS"
RESERVED = ("everything", "overfit", "benchmark", "smoke", "data", "benchmark_store")  # the jobs over all lines, and the asset beside them
DATA_JOBS = "data_"  # what the jobs of one dataset, or of one line's data, are called before its name
FETCH_JOBS = "fetch_"  # the same of the jobs that bring a dataset's raw files
LINE_NAME = re.compile(r"[a-z][a-z0-9_]{0,59}")
CRON = re.compile(r"[-0-9*/,A-Za-z]+( [-0-9*/,A-Za-z]+){4}")
OWNER = re.compile(r"team:[\w-]+|[^@\s]+@[^@\s]+\.[^@\s]+")

Changes = dict[str, JsonValue]
"""Fields of a typed value and what they are to be instead; judged by ``override``, which knows the value's types."""


def _from_the_file(path: Path, info: ValidationInfo) -> Path:
    """A path as the file means it: relative to the folder that the file lies in."""
    context: dict[str, Path] = info.context or {}
    return (context["file"].parent / path.expanduser()).resolve()


FilePath = Annotated[Path, Field(strict=False), AfterValidator(_from_the_file)]


class DatasetSettings(BaseModel):
    """``[datasets.<name>]``: a dataset that this project uses."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    enabled: bool = True
    """Whether the lines read it."""
    raw_path: FilePath | None = None
    """The folder as the publisher ships it; None: ``raw/<name>`` below the data root."""
    raw_url: str = ""
    """Where it lies instead, as fsspec calls it: ``s3://hospital/mtsamples``. It is mirrored below the data root when raw records are."""
    rejected_share_budget: float | None = Field(default=None, ge=0, le=1)
    """The largest share of rows (0-1) that may be left out before the dataset is blocked; None: the dataset's own."""
    limits: Changes = {}
    """What validation lets through, where it is not to be the dataset's own."""


class LineSettings(BaseModel):
    """``[lines.<name>]`` and its parts: numbers that replace those of ``lines.py``. They bear identity just as those do."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    like: str | None = None
    """The line that this one is a variation of, with its own assets, gate and served model; None: a change to the line of this name."""
    datasets: list[str] | None = None
    """The datasets that it reads, of those that the line knows; None: all that are enabled."""
    model: Changes = {}
    recipe: Changes = {}
    """How its stages that answer are trained."""
    encoder: Changes = {}
    """How its encoder is trained, if it has one."""
    encoder_model: Changes = {}
    """Which encoder: ``hub_id``, ``revision`` and ``max_pixels`` (its resolution, squared)."""
    split: Changes = {}
    audit: Changes = {}
    evaluation: Changes = {}
    gate: Changes = {}
    parity: Changes = {}


def _a_cron(text: str) -> str:
    if not CRON.fullmatch(text):
        raise ValueError("write five fields (minute, hour, day of the month, month, day of the week), such as 0 3 * * 1-5")
    return text


def _a_time_zone(text: str) -> str:
    if text not in available_timezones():
        raise ValueError("name a time zone of the IANA's list, such as Europe/Berlin or UTC")
    return text


Cron = Annotated[str, AfterValidator(_a_cron)]


def _an_owner(text: str) -> str:
    if not OWNER.fullmatch(text):
        raise ValueError("write an e-mail address, or team:name")
    return text


class AutomationSettings(BaseModel):
    """``[automation]``: when the graph looks for something to do. What looks is switched on in the UI; all of it is off at first."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    look_seconds: int = Field(default=60, ge=5)
    """How often sensors look: for new raw files, changed data, regressions."""
    cron: Cron = "0 3 * * *"
    """When a line's data are brought up to date, where no sensor does it."""
    crons: dict[str, Cron] = {}
    """The same for one line alone, by its name."""
    time_zone: Annotated[str, AfterValidator(_a_time_zone)] = "UTC"
    """What the clock of ``cron`` and ``crons`` shows."""
    served_model_fresh_days: float | None = Field(default=None, gt=0)
    """After how many days without a promotion the UI calls what a line serves stale; None: never."""
    keep_runs_days: float | None = Field(default=None, gt=0)
    """After how many days a finished run is forgotten with its events when the services start; None: never."""


class NotificationSettings(BaseModel):
    """``[notifications]``: who is told of failed runs and of regressions. Secrets stand in the environment alone.

    ``MEDVL_WEBHOOK_URL`` is a webhook whose address is a secret, ``MEDVL_WEBHOOK_TOKEN`` is sent as a bearer token,
    ``MEDVL_SMTP_USER`` and ``MEDVL_SMTP_PASSWORD`` are how the mail server knows us.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    webhook: str = ""
    """Where a JSON object is posted to; ``environment``: the address in MEDVL_WEBHOOK_URL. Empty: nowhere."""
    mail_to: list[str] = []
    """Who gets an e-mail; empty: nobody."""
    mail_from: str = ""
    """Who it is from."""
    smtp_host: str = ""
    """The mail server."""
    smtp_port: int = Field(default=587, ge=1, le=65535)
    smtp_security: Literal["starttls", "tls", "none"] = "starttls"
    """How the connection is encrypted; ``none`` sends no password."""
    ui: str = ""
    """Where the UI can be reached, for links: ``http://medvl.hospital.example:3000``. Empty: no links."""


def _a_machine(text: str) -> str:
    if text and not LINE_NAME.fullmatch(text):
        raise ValueError("use small letters, digits and _, a letter first")
    return text


class MachineSettings(BaseModel):
    """``[machine]``: which of several machines this is that share one data root and one instance (docs/two-machines.md)."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    name: Annotated[str, AfterValidator(_a_machine)] = ""
    """Stands before the names of this machine's line assets: ``gb10``. Empty: the only machine. Never identity."""
    has_datasets: bool = True
    """Whether the datasets' assets are this location's: of exactly one."""
    data_root_id: str = ""
    """What the marker of the shared data root says (`medvl doctor` prints it): another folder, or one that is not mounted, is refused."""


class Settings(BaseModel):
    """The whole file."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    data_root: FilePath
    """Everything that MedVL writes lies below it."""
    scale: Literal["tiny", "full"]
    """``tiny``: the same architectures built small, offline, on any CPU. ``full``: the published checkpoints."""
    profile: str
    """How things run on this machine: ``auto``, or the name of a profile."""
    datasets: dict[str, DatasetSettings]
    """The datasets in use; one that is not listed is not read."""
    lines: dict[str, LineSettings] = {}
    """Changes to the lines, and lines that are ``like`` another; one that is not listed stays as ``lines.py`` has it."""
    profiles: dict[str, Changes] = {}
    """Changes to the fields of a hardware profile. They say where and how fast, except the three of ``hardware.Numerics``."""
    owners: dict[str, list[Annotated[str, AfterValidator(_an_owner)]]] = {}
    """Who answers for a dataset or a line, as the UI shows it: e-mail addresses, and ``team:name``."""
    automation: AutomationSettings = AutomationSettings()
    """When the graph looks for something to do."""
    notifications: NotificationSettings = NotificationSettings()
    """Who is told of failed runs and regressions; nobody, unless it says so."""
    benchmark_url: str = ""
    """Where a copy of the published benchmark is sent: ``s3://hospital/medvl``. Empty: nowhere."""
    machine: MachineSettings = MachineSettings()
    """Which of several machines this is."""

    _path: Path = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Remember the file, for what errors must say."""
        self._path = context["file"]

    @property
    def path(self) -> Path:
        """The file that these settings were read from."""
        return self._path

    def where(self, *table: str) -> str:
        """How an error calls a table: ``/home/me/medvl/dagster_project.toml, [lines.documents.recipe]``."""
        return f"{self._path}, [{'.'.join(table)}]"

    def dataset(self, name: str) -> DatasetSettings:
        """What the file says of a dataset; one that it does not list is not enabled."""
        return self.datasets[name] if name in self.datasets else DatasetSettings(enabled=False)

    def enabled_datasets(self) -> tuple[str, ...]:
        """The datasets in use, in the file's order."""
        return tuple(name for name, dataset in self.datasets.items() if dataset.enabled)

    def line(self, name: str) -> LineSettings:
        """What the file changes in a line: nothing, if it does not list it."""
        return self.lines[name] if name in self.lines else LineSettings()

    def cron(self, name: str) -> str:
        """When a line's data are brought up to date."""
        return self.automation.crons.get(name, self.automation.cron)

    def raw_folder(self, name: str) -> Path:
        """Where a dataset's raw files lie, or their mirror."""
        if self.dataset(name).raw_url:
            return Workspace(root=self.data_root).mirror(name)
        return self.dataset(name).raw_path or Workspace(root=self.data_root).raw(name)

    def own_raw_folder(self, name: str) -> Path:
        """Where files of a dataset may be written; raises MedVLError for a mirror, from which the next run removes what its URL lacks."""
        if url := self.dataset(name).raw_url:
            raise MedVLError(
                found=f"raw_url = {url!r}", where=self.where("datasets", name),
                do="take raw_url out, or bring the files there: what is written into its mirror is removed by the next run",
            )  # fmt: skip
        return self.raw_folder(name)


TABLES: dict[str, type[BaseModel]] = {"datasets": DatasetSettings, "lines": LineSettings}


def find_settings(start: Path) -> Path:
    """The settings file: what ``MEDVL_SETTINGS`` names, else the nearest one in ``start`` or a folder above it."""
    if named := os.environ.get(VARIABLE):
        return Path(named).expanduser().resolve()
    for folder in (start, *start.parents):
        if (folder / FILE).is_file():
            return folder / FILE
    raise SettingsError(
        found=f"no {FILE}", where=f"{start} and the folders above it", do=f"go to the project's folder, or let {VARIABLE} name the file"
    )


def read_settings(path: Path | None = None) -> Settings:
    """The settings in ``path``, or in the file that ``find_settings`` finds; raises SettingsError for anything that cannot be meant."""
    file = find_settings(Path.cwd()) if path is None else path.resolve()
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(found=f"no readable file ({error.strerror})", where=str(file), do=f"create it, or mend {VARIABLE}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(found=f"not TOML: {error}", where=str(file), do="mend that line") from error
    try:
        return Settings.model_validate(content, context={"file": file})
    except ValidationError as error:
        raise _refusal(file, error) from None  # pydantic's words say the same, at length


def _refusal(file: Path, error: ValidationError) -> SettingsError:
    """What is wrong first, in three parts; a misspelt key before the one that is missing because of it."""
    first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    *table, key = [str(part) for part in first["loc"]]
    where = f"{file}, [{'.'.join(table)}]" if table else f"{file}, top level"
    if first["type"] == "extra_forbidden":
        return unknown_key(key, _valid_keys(table), where)
    if first["type"] == "missing":
        return SettingsError(found=f"no key {key!r}", where=where, do=f"write {key} = ... there")
    return SettingsError(found=f"{key} = {first['input']!r}", where=where, do=cure(first))


def _valid_keys(table: list[str]) -> tuple[str, ...]:
    tables: dict[str, type[BaseModel]] = {
        **TABLES, "automation": AutomationSettings, "notifications": NotificationSettings, "machine": MachineSettings,
    }  # fmt: skip
    return tuple((tables[table[0]] if table else Settings).model_fields)


def require_known_names(settings: Settings, *, datasets: Collection[str], lines: Collection[str], profiles: Collection[str]) -> None:
    """Refuse a table or a profile named after nothing that exists: ``[datasets.mtsample]``."""
    changed = [name for name, line in settings.lines.items() if line.like is None]
    for table, named, known in (
        ("datasets", settings.datasets, datasets), ("lines", changed, lines), ("profiles", settings.profiles, profiles)
    ):  # fmt: skip
        for name in named:
            if name not in known:
                raise unknown_key(name, known, settings.where(table))
    for name, line in settings.lines.items():
        _require_variation(settings, name, line, lines, datasets)
    _require_keys(settings.owners, [*datasets, *lines, *settings.lines], settings.where("owners"))
    _require_keys(settings.automation.crons, [*lines, *settings.lines], settings.where("automation", "crons"))
    if settings.profile != "auto" and settings.profile not in profiles:
        raise SettingsError(
            found=f"profile = {settings.profile!r}", where=f"{settings.path}, top level", do=f"choose auto, {', '.join(sorted(profiles))}"
        )


def _require_keys(named: Collection[str], known: Collection[str], where: str) -> None:
    """Refuse a key that is no name of these."""
    for name in named:
        if name not in known:
            raise unknown_key(name, known, where)


def _require_variation(settings: Settings, name: str, line: LineSettings, lines: Collection[str], datasets: Collection[str]) -> None:
    """Refuse a variation of nothing, one called like a line of its own, and a name that no folder or asset could have."""
    if line.like is None:
        return
    where = settings.where("lines", name)
    if line.like not in lines:
        raise SettingsError(
            found=f"like = {line.like!r}",
            where=where,
            do=f"name one of {', '.join(sorted(lines))}; a variation cannot be varied again",
        )
    if name in lines or name in datasets or name in RESERVED or name.startswith((DATA_JOBS, FETCH_JOBS)):
        raise SettingsError(found=f"like = {line.like!r}", where=where, do=f"give it another name: {name} is taken")
    if not LINE_NAME.fullmatch(name):
        raise SettingsError(found=f"the line {name!r}", where=where, do="use small letters, digits and _, a letter first")
