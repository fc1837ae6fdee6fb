"""Exporting a line's encoder beside what answers: its weights, two ONNX graphs, and how far they are from torch.

In: a line, and the root of an export. Out: the folder ``encoder`` in it, and what is to be told; nothing where the line has no encoder, or
the packages of the extra are not installed.
"""

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from medvl_lib import captions
from medvl_lib.errors import InputMissing
from medvl_lib.export.card import DataUsed
from medvl_lib.export.encoder_card import DescribedEncoder, render
from medvl_lib.files import write_json
from medvl_lib.hardware import Profile
from medvl_lib.images import ImageStore, rgb_pixels
from medvl_lib.lines import Line
from medvl_lib.pointer import read_pointer
from medvl_lib.provenance import Artifact, ancestor, read_artifact, require_intact, resolve
from medvl_lib.route.exported_data import data_behind
from medvl_lib.training import matching_steps
from medvl_lib.workspace import Workspace

FOLDER, HELD_OUT, MOST_PAIRS = "encoder", "test", 32


def write_encoder(workspace: Workspace, line: Line, profile: Profile, root: Path) -> tuple[str, tuple[str, ...]]:
    """A sentence on the encoder, and why it must not stand; the sentence is empty where the line has none."""
    if line.encoder is None or line.encoder.model is None:
        return "", ()
    from medvl_lib.models import exporting, onnx_encoder
    from medvl_lib.models.loading import load_encoder
    from medvl_lib.models.siglip import picture_tensor, text_tensor

    if missing := onnx_encoder.missing_packages():
        return f"encoder: not exported: {', '.join(missing)} is not installed (pip install 'medvl[export]')", ()
    try:
        found = _encoder(workspace, line, line.encoder.name)
    except InputMissing as error:  # it was never trained
        return f"encoder: not exported: {error.found}; {error.do}", ()
    spec, stored = line.encoder.model, ImageStore(workspace.images)
    chat = ancestor(workspace, found, "chat", line.name)
    held_out = list(captions.captioned_images(chat.directory, HELD_OUT))[:MOST_PAIRS]
    if not held_out:
        return "encoder: not exported: the test set has no captioned picture to compare it on", ()
    loaded = load_encoder(found.directory, spec, replace(profile, device="cpu"))  # a graph is written and asked there
    batch = {
        "pixel_values": picture_tensor(loaded.processor, [rgb_pixels(stored.read(item.image_id)) for item in held_out]),
        "input_ids": text_tensor(loaded.processor, [item.text for item in held_out]),
    }  # fmt: skip
    folder = root / FOLDER
    folder.mkdir()
    exporting.copy_weights(folder, found.directory)
    onnx_encoder.write_onnx(folder, loaded, {name: tensor[[0, -1]] for name, tensor in batch.items()})
    data: tuple[DataUsed, ...] = tuple(data_behind(workspace, line, found))
    described = DescribedEncoder(
        line=line.name, spec=spec, is_trained=True, data=data, differences=onnx_encoder.largest_differences(folder, loaded, batch),
        num_pairs=len(held_out), made_by=f"MedVL {version('medvl')}",
    )  # fmt: skip
    (folder / "README.md").write_text(render(described), encoding="utf-8")
    write_json(folder / "parity.json", {
        "is_checked": True, "holds": not described.refusals, "num_pairs": described.num_pairs, "largest_difference": described.differences,
    })  # fmt: skip
    largest = max(described.differences.values())
    return f"encoder: onnxruntime differs from torch by at most {largest:.2g} on {len(held_out)} captioned pictures", described.refusals


def _encoder(workspace: Workspace, line: Line, step: str) -> Artifact:
    """The encoder that is served beside what answers; the current one where none is."""
    pointer = read_pointer(workspace, line.name)
    if pointer is None or pointer.encoder_fingerprint is None:
        return resolve(workspace, step, line.name, matching_steps.RULES)
    found = read_artifact(workspace.directory(step, line.name, pointer.encoder_fingerprint))
    require_intact(found)
    return found
