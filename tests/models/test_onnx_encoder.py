"""An encoder as ONNX. If these passed wrongly, a search by the graphs would find other cases than the index was judged with."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from medvl_lib.export.encoder_card import MAX_DIFFERENCE, DescribedEncoder, render
from medvl_lib.hardware import PROFILES
from medvl_lib.lines import tiny_model
from medvl_lib.models.loading import LoadedEncoder, load_encoder
from medvl_lib.models.onnx_encoder import PICTURES, TEXTS, largest_differences, write_onnx
from medvl_lib.models.preparing import write_base
from medvl_lib.models.siglip import picture_tensor, text_tensor

pytestmark = pytest.mark.slow  # torch's exporter takes its time
SPEC = tiny_model("siglip")


class Graphs(NamedTuple):
    encoder: LoadedEncoder
    directory: Path


def batch(encoder: LoadedEncoder, num_pairs: int) -> Mapping[str, torch.Tensor]:
    drawn = np.random.RandomState(num_pairs)
    pictures = [drawn.randint(0, 256, (100, 120, 3), dtype=np.uint8) for _ in range(num_pairs)]
    return {
        "pixel_values": picture_tensor(encoder.processor, pictures),
        "input_ids": text_tensor(encoder.processor, [f"knee, grade {number}" for number in range(num_pairs)]),
    }  # fmt: skip


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Graphs:
    root = tmp_path_factory.mktemp("onnx")
    (root / "base").mkdir()
    write_base(root / "base", SPEC)
    encoder = load_encoder(root / "base", SPEC, PROFILES["cpu"])
    write_onnx(root, encoder, batch(encoder, 2))
    return Graphs(encoder, root)


@pytest.mark.parametrize("num_pairs", [1, 2, 7])
def test_onnxruntime_gives_the_vectors_of_torch_for_a_batch_of_any_size(graphs: Graphs, num_pairs: int) -> None:
    found = largest_differences(graphs.directory, graphs.encoder, batch(graphs.encoder, num_pairs))
    assert set(found) == {PICTURES, TEXTS}
    assert max(found.values()) < MAX_DIFFERENCE


def test_other_weights_than_the_graphs_are_seen(graphs: Graphs) -> None:
    [weight] = [value for name, value in graphs.encoder.model.named_parameters() if name == "vision_model.head.mlp.fc2.weight"]
    kept = weight.detach().clone()
    try:
        weight.data.mul_(1.05)
        found = largest_differences(graphs.directory, graphs.encoder, batch(graphs.encoder, 2))
    finally:
        weight.data.copy_(kept)
    assert found[PICTURES] > MAX_DIFFERENCE > found[TEXTS]
    described = DescribedEncoder(line="imaging", spec=SPEC, is_trained=True, data=(), differences=found, num_pairs=2, made_by="MedVL 0")
    [refusal] = described.refusals
    assert refusal.startswith("encoder: pictures.onnx differs from torch by")
    assert refusal in render(described)
