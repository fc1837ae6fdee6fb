"""Where a publisher's files come from, as values that stand beside each dataset. No network here.

In: nothing. Out: the kinds of source there are. ``fetching`` turns any of them into files of the raw folder; ``Acquisition`` is also what
is told to a person who brings the files by hand.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacking:
    """Where the members of an archive go."""

    into: str = ""
    """Folder below the raw folder; empty: the raw folder itself."""
    is_flat: bool = False
    """Whether the folders inside the archive are dropped, as in ``unzip -j``."""
    member: str = ""
    """Regular expression of the members that are taken, matched from the start of the path; empty: all. With a group ``patient`` those of
    other patients than the chosen ones are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    """A dataset repository on the hub: each file has a hash there."""

    name: str
    repository: str
    """``owner/name``."""
    revision: str
    """A commit, or as many of its first digits as are known; empty: the newest at the first fetch, which is remembered and kept."""
    files: tuple[str, ...]
    """Shell patterns of the files that are wanted."""
    archives: Mapping[str, Unpacking] = field(default_factory=dict[str, Unpacking])
    """Pattern -> what becomes of such a file; any other one lies in the raw folder as it is."""

    @property
    def page(self) -> str:
        """Where a person finds it."""
        return f"https://huggingface.co/datasets/{self.repository}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """One file at an address, a zip or tar archive, for which its publisher states no hash."""

    name: str
    url: str
    file: str
    """What it is called here."""
    page: str
    unpacking: Unpacking = Unpacking()


@dataclass(frozen=True, slots=True, kw_only=True)
class PhysioNet:
    """A project on PhysioNet, which lists the SHA-256 of each file in ``SHA256SUMS.txt``; credentialed ones want the user's own name."""

    name: str
    project: str
    version: str
    files: tuple[str, ...]
    """Regular expressions of the paths that are wanted. One with a group ``patient`` brings whole patients, and where there is a group
    ``study`` whole studies; the others are wanted in any case."""
    into: str = ""
    """Folder below the raw folder."""
    archives: Mapping[str, Unpacking] = field(default_factory=dict[str, Unpacking])
    is_credentialed: bool = True
    base: str = "https://physionet.org/files"

    @property
    def page(self) -> str:
        """Where a person finds it, and signs its agreement."""
        return f"https://physionet.org/content/{self.project}/{self.version}/"


Source = Hub | Archive | PhysioNet


@dataclass(frozen=True, slots=True, kw_only=True)
class Acquisition:
    """How a dataset's raw folder is filled."""

    sources: tuple[Source, ...]
    """What ``medvl fetch`` brings, all of them together; empty: nothing can be fetched."""
    layout: tuple[str, ...]
    """The tree that the reader expects below the raw folder, a line each."""
    terms: str
    """What the user agrees to, or what to do where there is no source, in a sentence."""


BY_HAND = Acquisition(
    sources=(), layout=(), terms="Its files are brought by hand: its data card in docs/data-cards says from where, and what goes where."
)
