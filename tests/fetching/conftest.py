"""A publisher on this machine and a person's folders: what every test of acquisition begins with."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from huggingface_hub import constants

from medvl_lib.datasets import DATASETS
from medvl_lib.errors import MedVLError
from medvl_lib.fetching import downloads
from medvl_lib.fetching.fetch import Fetched, fetch
from medvl_lib.fetching.wanted import Limits
from medvl_lib.pairs import Dataset
from medvl_lib.sources import Acquisition, Source
from tests.publisher_server import Publisher, serving


@dataclass(kw_only=True)
class Person:
    """Somebody's machine: a raw folder, and where downloads lie."""

    folder: Path
    publisher: Publisher

    @property
    def raw(self) -> Path:
        return self.folder / "raw"

    @property
    def room(self) -> Path:
        return self.folder / "fetched"

    def fetch(self, *sources: Source, only: tuple[str, ...] = (), **limits: float) -> Fetched:
        return fetch(dataset(*sources), self.raw, self.room, Limits(**limits), only)  # pyright: ignore[reportArgumentType]

    def is_refused(self, *sources: Source, **limits: float) -> MedVLError:
        with pytest.raises(MedVLError) as raised:
            self.fetch(*sources, **limits)
        return raised.value

    def files(self) -> dict[str, bytes]:
        """What the raw folder holds."""
        return {path.relative_to(self.raw).as_posix(): path.read_bytes() for path in sorted(self.raw.rglob("*")) if path.is_file()}


def dataset(*sources: Source) -> Dataset:
    return replace(DATASETS["slake"], acquisition=Acquisition(sources=sources, layout=("imgs/*.jpg",), terms="CC BY 4.0."))


@pytest.fixture
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Person]:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(downloads, "PAUSES_SECONDS", (0.0, 0.0, 0.0))
    for name in ("HF_TOKEN", "PHYSIONET_USERNAME", "PHYSIONET_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    with serving(Publisher()) as publisher:
        monkeypatch.setattr(constants, "ENDPOINT", publisher.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", publisher.url + "/{repo_id}/resolve/{revision}/{filename}")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
        yield Person(folder=tmp_path, publisher=publisher)
