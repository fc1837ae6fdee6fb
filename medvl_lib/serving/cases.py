"""Similar cases: the training cases of a line whose pictures are nearest to a picture that somebody has, and the place of that picture.

In: a picture's bytes, and a line whose index was made. Out: its unit vector, and neighbours, best first. The encoder is the one that made
this very index, found by provenance: vectors of two encoders have nothing to do with each other. A case of the same patient is never among
them, as far as the line knows the picture, or is told whose it is.
"""

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from medvl_lib import case_index
from medvl_lib.captions import captioned_images
from medvl_lib.case_index import Each, Neighbour, nearest
from medvl_lib.errors import InputMissing, InputRefused, MedVLError
from medvl_lib.hardware import Profile
from medvl_lib.images import UnreadableImage, rgb_pixels
from medvl_lib.lines import Line
from medvl_lib.models.embedding import embed_pictures
from medvl_lib.models.loading import LoadedEncoder, load_encoder
from medvl_lib.pairs import SPLITS
from medvl_lib.pointer import read_pointer
from medvl_lib.provenance import Artifact, ancestor, read_artifact, require_intact, resolve
from medvl_lib.serving.counter import Counter
from medvl_lib.serving.problems import Problem, undecodable
from medvl_lib.serving.room import ROOM
from medvl_lib.serving.uploads import cost, require_picture, size_of
from medvl_lib.workspace import Workspace

MAX_WAITING = 32  # pictures that are embedded or wait
Answer = TypeVar("Answer")


class NoEncoder(MedVLError):
    """A line without a stage that matches pictures and texts."""


class Found(NamedTuple):
    """What is similar."""

    cases: list[Neighbour]
    known_groups: frozenset[str]
    """The patients that the line knows, in whatever split."""
    floor: float | None
    """Below which similarity a case is like the picture in nothing; None where the index does not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidentEncoder:
    """An encoder that can be asked, and the index that it made; not by two threads at once."""

    index: Artifact
    encoder: Artifact
    loaded: LoadedEncoder
    groups: dict[str, list[str]]
    """Picture -> the patients whose it is, in whatever split, by the conversations that the index was made from."""
    known_groups: frozenset[str]
    """All of these patients."""

    def vector(self, picture: bytes) -> NDArray[np.float32]:
        """The unit vector (D,) of a picture; raises UnreadableImage."""
        with ROOM.take(cost([size_of(picture)])):
            [vector] = embed_pictures(self.loaded, [rgb_pixels(picture)])
        return vector

    def nearest(
        self, pictures: Sequence[bytes], count: int, *, language: str | None = None, not_of_groups: Iterable[str] = (),
        each: Each = "picture",
    ) -> list[Neighbour]:  # fmt: skip
        """The training cases nearest to any of some pictures, as the evaluation takes them: of none of their patients.

        Nor is one of the groups that are named. The evaluation takes each picture once; with ``each`` "pair" each pair stands once.
        """
        shown = {hashlib.sha256(picture).hexdigest(): picture for picture in pictures}
        groups = {*not_of_groups, *(group for image_id in shown for group in self.groups.get(image_id, []))}
        best: dict[str, Neighbour] = {}
        for picture in shown.values():
            vector = self.vector(picture)
            for case in nearest(
                self.index.directory, vector, count, not_of_groups=groups, not_of_images=shown, language=language, each=each
            ):
                name = case.image_id if each == "picture" else case.pair_id
                if name not in best or case.similarity > best[name].similarity:
                    best[name] = case
        return sorted(best.values(), key=lambda case: (-case.similarity, case.pair_id))[:count]


def load_resident_encoder(workspace: Workspace, line: Line, profile: Profile) -> ResidentEncoder:
    """Load the encoder of the index that is served; raises NoEncoder, or InputMissing where its index is not there."""
    stage = line.encoder
    if stage is None or stage.model is None:
        raise NoEncoder(
            found=f"the line {line.name} has no encoder", where="its stages in medvl_lib/lines.py", do="name a line that has one"
        )
    index = served_index(workspace, line)
    encoder = ancestor(workspace, index, stage.name, line.name)
    groups = _groups(workspace, line, index)
    return ResidentEncoder(
        index=index, encoder=encoder, loaded=load_encoder(encoder.directory, stage.model, profile), groups=groups,
        known_groups=frozenset(group for each in groups.values() for group in each),
    )  # fmt: skip


def similar(
    workspace: Workspace, line: Line, profile: Profile, picture: bytes, name: str, count: int, language: str | None = None
) -> list[Neighbour]:
    """The training cases nearest to a picture, called ``name``; where the line knows the picture, none of its patient.

    With a ``language`` only cases that are told in it.

    Raises MedVLError where the line has no encoder, where its index is not there, and for what is no picture.
    """
    encoder = load_resident_encoder(workspace, line, profile)
    try:
        require_picture(picture)
        return encoder.nearest([picture], count, language=language, each="pair")
    except (UnreadableImage, Problem) as error:
        found = error.found if isinstance(error, Problem) else str(error)
        raise InputRefused(found=found, where=name, do="name a picture: PNG, JPEG, DICOM or what else Pillow reads") from error


def floor_of(workspace: Workspace, line: Line) -> float | None:
    """Below which similarity a case of the served index is like a picture in nothing; None where the index does not know."""
    return case_index.similarity_floor(served_index(workspace, line).directory)


def served_index(workspace: Workspace, line: Line) -> Artifact:
    """The index that is served with the line's model; before the first promotion the current one."""
    pointer = read_pointer(workspace, line.name)
    if pointer is None or pointer.index_fingerprint is None:
        return resolve(workspace, case_index.STEP, line.name, case_index.RULES)
    index = read_artifact(workspace.directory(case_index.STEP, line.name, pointer.index_fingerprint))
    require_intact(index)
    return index


def _groups(workspace: Workspace, line: Line, index: Artifact) -> dict[str, list[str]]:
    directory = ancestor(workspace, index, "chat", line.name).directory
    found: dict[str, set[str]] = {}
    for item in (item for split in SPLITS for item in captioned_images(directory, split)):
        found.setdefault(item.image_id, set()).add(item.group_id)
    return {image_id: sorted(groups) for image_id, groups in found.items()}


class Cases:
    """Where a server's encoder is asked: loaded when it is first needed, and again when another model is served; one question at a time."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="encoder")
        self._encoder: ResidentEncoder | None = None
        self._of: Counter | None = None
        self._num_waiting = 0  # of the event loop's thread alone

    async def vector(self, counter: Counter, picture: bytes) -> tuple[ResidentEncoder, NDArray[np.float32]]:
        """Who says so, and the unit vector of a picture."""

        def asked() -> tuple[ResidentEncoder, NDArray[np.float32]]:
            encoder = self._loaded(counter)
            return encoder, encoder.vector(picture)

        return await self._ask(asked)

    async def nearest(
        self, counter: Counter, pictures: Sequence[bytes], count: int, *, language: str | None = None, not_of_groups: Iterable[str] = (),
        each: Each = "picture",
    ) -> Found:  # fmt: skip
        """The training cases nearest to any of some pictures."""

        def asked() -> Found:
            encoder = self._loaded(counter)
            cases = encoder.nearest(pictures, count, language=language, not_of_groups=not_of_groups, each=each)
            return Found(cases, encoder.known_groups, case_index.similarity_floor(encoder.index.directory))

        return await self._ask(asked)

    def close(self) -> None:
        """Take no more."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _loaded(self, counter: Counter) -> ResidentEncoder:
        """The encoder of what is served; on its own thread alone."""
        if self._encoder is None or self._of is not counter:
            self._encoder = None  # the one of before is let go first: two may not fit
            self._encoder, self._of = load_resident_encoder(counter.workspace, counter.line, counter.profile), counter
        return self._encoder

    async def _ask(self, work: Callable[[], Answer]) -> Answer:
        if self._num_waiting >= MAX_WAITING:
            raise Problem(429, found=f"{self._num_waiting} pictures that wait already", do="ask again later")
        self._num_waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except UnreadableImage as error:
            raise undecodable(error) from error
        except (InputMissing, InputRefused) as error:
            raise Problem(503, found=error.found, do=error.do) from error
        except NoEncoder as error:
            raise Problem(404, found=error.found, do=error.do) from error
        finally:
            self._num_waiting -= 1
