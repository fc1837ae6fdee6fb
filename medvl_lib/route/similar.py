"""Similar cases: the training cases of a line whose pictures are nearest to a picture that somebody has.

In: a picture's bytes, and a line whose index was made. Out: neighbours, best first. The encoder is the one that made this very index, found
by provenance: vectors of two encoders have nothing to do with each other. Torch is imported when a picture is embedded.
"""

import hashlib

from medvl_lib import case_index
from medvl_lib.captions import captioned_images
from medvl_lib.case_index import Neighbour, nearest
from medvl_lib.errors import InputRefused, MedVLError
from medvl_lib.hardware import Profile
from medvl_lib.images import UnreadableImage, rgb_pixels
from medvl_lib.lines import Line
from medvl_lib.pairs import SPLITS
from medvl_lib.pointer import read_pointer
from medvl_lib.provenance import Artifact, ancestor, read_artifact, require_intact, resolve
from medvl_lib.route.encoding import INDEX
from medvl_lib.workspace import Workspace


def similar(
    workspace: Workspace, line: Line, profile: Profile, picture: bytes, name: str, count: int, language: str | None = None
) -> list[Neighbour]:
    """The training cases nearest to a picture, called ``name``; where the line knows the picture, none of its patient.

    With a ``language`` only cases that are told in it.

    Raises MedVLError where the line has no encoder, where its index is not there, and for what is no picture.
    """
    stage = line.encoder
    if stage is None or stage.model is None:
        raise MedVLError(
            found=f"the line {line.name} has no encoder", where="its stages in medvl_lib/lines.py", do="name a line that has one"
        )
    index = served_index(workspace, line)
    try:
        pixels = rgb_pixels(picture)
    except UnreadableImage as error:
        raise InputRefused(found=str(error), where=name, do="name a picture: PNG, JPEG, DICOM or what else Pillow reads") from error
    from medvl_lib.models.embedding import embed_pictures
    from medvl_lib.models.loading import load_encoder

    loaded = load_encoder(ancestor(workspace, index, stage.name, line.name).directory, stage.model, profile)
    image_id = hashlib.sha256(picture).hexdigest()
    [vector] = embed_pictures(loaded, [pixels])
    groups = _groups(workspace, line, index, image_id)
    return nearest(index.directory, vector, count, not_of_groups=groups, not_of_images=[image_id], language=language)


def floor_of(workspace: Workspace, line: Line) -> float | None:
    """Below which similarity a case of the served index is like a picture in nothing; None where the index does not know."""
    return case_index.similarity_floor(served_index(workspace, line).directory)


def served_index(workspace: Workspace, line: Line) -> Artifact:
    """The index that is served with the line's model; before the first promotion the current one."""
    pointer = read_pointer(workspace, line.name)
    if pointer is None or pointer.index_fingerprint is None:
        return resolve(workspace, INDEX, line.name, case_index.RULES)
    index = read_artifact(workspace.directory(INDEX, line.name, pointer.index_fingerprint))
    require_intact(index)
    return index


def _groups(workspace: Workspace, line: Line, index: Artifact, image_id: str) -> list[str]:
    """The patients whose picture this is, in whatever split, by the conversations that the index was made from."""
    directory = ancestor(workspace, index, "chat", line.name).directory
    return sorted({item.group_id for split in SPLITS for item in captioned_images(directory, split) if item.image_id == image_id})
