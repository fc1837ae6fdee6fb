"""Pictures as files below a raw folder: which there are, and where a name in a record leads.

In: a folder, and names as the publisher wrote them. Out: paths. No name is ever used as a pattern: publishers' names hold blanks and
brackets. No picture is opened here.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from medvl_lib.files import sha256_of_file

SUFFIXES = frozenset([".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".dcm", ".dicom"])

PATTERNS = tuple("*" + "".join(f"[{each}{each.upper()}]" for each in suffix) for suffix in sorted(SUFFIXES))
"""For ``raw_folder.named``: these suffixes in any case."""


def pictures(root: Path) -> Iterator[Path]:
    """Every picture file below a folder, in the order of their paths; what a Mac leaves beside files (``._name``) is none."""
    found = [path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()]
    yield from sorted(found, key=lambda path: path.relative_to(root).parts)


def inside(folder: Path, name: str) -> Path | None:
    r"""Where a name leads below a folder, backslashes read as slashes (``images\train\a.jpg``); None where it leads outside.

    The name alone is judged: the folder itself may be a link to another disk.
    """
    relative = PurePosixPath(name.replace("\\", "/"))
    if relative.is_absolute() or ".." in relative.parts or not relative.parts or relative.parts[0].endswith(":"):
        return None
    return folder / relative


class NamedPictures:
    """The pictures that records name below a folder, told apart by what they are and not by what they are called."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._keys: dict[str, str] = {}

    def path(self, name: str) -> Path | None:
        """Where a picture lies; None where its name leads outside."""
        return inside(self._folder, name)

    def key(self, name: str) -> str:
        """The same for every name of one picture: its content's hash, or its name while there is no file. Each file is hashed once."""
        if name not in self._keys:
            path = self.path(name)
            self._keys[name] = sha256_of_file(path) if path is not None and path.is_file() else name
        return self._keys[name]
