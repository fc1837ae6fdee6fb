"""An encoder as ONNX: two graphs, one for pictures and one for texts, each giving the unit vectors that the index is asked with.

In: a loaded encoder. Out: ``pictures.onnx`` (``pixel_values`` -> ``vectors``) and ``texts.onnx`` (``input_ids`` -> ``vectors``), in 32
bits, for batches of any size; and how far onnxruntime is from torch on given tensors. Pixels and token ids are made by the processor that
stands beside them, as ever. Needs the extra ``export`` (onnx, onnxscript, onnxruntime).

Legend: B pairs, T text positions, D width.
"""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import normalize

from medvl_lib.models.loading import LoadedEncoder, serializing

OPSET = 20  # what torch's exporter writes without conversion
NEEDED = ("onnx", "onnxscript", "onnxruntime")
PICTURES, TEXTS = "pictures.onnx", "texts.onnx"
Vectors = NDArray[np.float32]


class Tower(NamedTuple):
    """One half of an encoder as a graph."""

    file: str
    input_name: str
    module: torch.nn.Module


class _Pictures(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return normalize(self.model.get_image_features(pixel_values=pixel_values).pooler_output, dim=-1)


class _Texts(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return normalize(self.model.get_text_features(input_ids=input_ids).pooler_output, dim=-1)


def towers(encoder: LoadedEncoder) -> tuple[Tower, Tower]:
    """Both halves; nothing is copied."""
    return (
        Tower(PICTURES, "pixel_values", _Pictures(encoder.model).eval()), Tower(TEXTS, "input_ids", _Texts(encoder.model).eval()),
    )  # fmt: skip


def missing_packages() -> list[str]:
    """What of the extra ``export`` is not installed."""
    return [name for name in NEEDED if importlib.util.find_spec(name) is None]


def write_onnx(directory: Path, encoder: LoadedEncoder, examples: Mapping[str, torch.Tensor]) -> None:
    """Write both graphs; ``examples`` are a batch of at least two by input name. Weights stand in the file itself."""
    with torch.no_grad(), serializing(directory):
        for tower in towers(encoder):
            torch.onnx.export(
                tower.module, (examples[tower.input_name],), directory / tower.file, input_names=[tower.input_name],
                output_names=["vectors"], dynamic_shapes=({0: torch.export.Dim("batch", min=1)},), opset_version=OPSET, dynamo=True,
                external_data=False, verbose=False,
            )  # fmt: skip


def session(path: Path, num_threads: int) -> Any:
    """A graph on the CPU, with as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def largest_differences(directory: Path, encoder: LoadedEncoder, batches: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """The largest difference of one number of a unit vector between onnxruntime and torch, by graph."""
    found: dict[str, float] = {}
    for tower in towers(encoder):
        given_B = batches[tower.input_name]  # noqa: N806 (shape suffix)
        with torch.no_grad():
            wanted_BD: Vectors = tower.module(given_B).numpy()  # noqa: N806
        [said_BD] = session(directory / tower.file, torch.get_num_threads()).run(None, {tower.input_name: given_B.numpy()})  # noqa: N806
        found[tower.file] = float(np.abs(wanted_BD - said_BD).max())
    return found
