"""SigLIP's processor and loading. If these passed wrongly, a model would see other pixels or texts than it was trained on, a checkpoint
would lose its temperature, or one of another resolution would be trained with positions that nobody learned.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from medvl_lib.errors import MedVLError
from medvl_lib.hardware import PROFILES
from medvl_lib.models import siglip
from medvl_lib.models.counting import parameters_by_part
from medvl_lib.models.loading import load_encoder
from medvl_lib.models.preparing import write_base
from medvl_lib.models.spec import ModelSpec
from medvl_lib.models.weights import BASE_RULES
from tests.hub_server import Hub, serving
from tests.models.test_hub import User

CPU = PROFILES["cpu"]
PIXELS = 96 * 96
SPEC = ModelSpec(family="siglip", source="directory", hub_id="mine/siglip", revision="", seed=0, path="x", max_pixels=PIXELS)
LAYER_4_37 = [  # how transformers 4.37, which the published checkpoints were saved with, called the tensors of a layer
    f"{name}.{kind}"
    for name in (
        "layer_norm1", "layer_norm2", "mlp.fc1", "mlp.fc2", "self_attn.k_proj", "self_attn.out_proj", "self_attn.q_proj",
        "self_attn.v_proj",
    )
    for kind in ("bias", "weight")
]  # fmt: skip
NAMES_4_37 = {
    "logit_bias", "logit_scale", "text_model.embeddings.position_embedding.weight", "text_model.embeddings.token_embedding.weight",
    "text_model.final_layer_norm.bias", "text_model.final_layer_norm.weight", "text_model.head.bias", "text_model.head.weight",
    "vision_model.embeddings.patch_embedding.bias", "vision_model.embeddings.patch_embedding.weight",
    "vision_model.embeddings.position_embedding.weight", "vision_model.post_layernorm.bias", "vision_model.post_layernorm.weight",
    "vision_model.head.attention.in_proj_bias", "vision_model.head.attention.in_proj_weight", "vision_model.head.attention.out_proj.bias",
    "vision_model.head.attention.out_proj.weight", "vision_model.head.layernorm.bias", "vision_model.head.layernorm.weight",
    "vision_model.head.mlp.fc1.bias", "vision_model.head.mlp.fc1.weight", "vision_model.head.mlp.fc2.bias",
    "vision_model.head.mlp.fc2.weight", "vision_model.head.probe",
    *(f"text_model.encoder.layers.{number}.{name}" for number in range(2) for name in LAYER_4_37),
    *(f"vision_model.encoder.layers.{number}.{name}" for number in range(4) for name in LAYER_4_37),
}  # fmt: skip


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("fresh")
    siglip.write_tiny(directory, seed=1, max_pixels=PIXELS)
    return directory


@pytest.fixture
def published(fresh: Path, tmp_path: Path) -> Path:
    """A repository as the publisher's: settings of version 4.37, a SentencePiece tokenizer's names, a temperature that was learned."""
    directory = tmp_path / "published"
    directory.mkdir()
    weights = load_file(fresh / "model.safetensors")
    assert set(weights) == NAMES_4_37
    weights |= {"logit_scale": torch.tensor([4.7655]), "logit_bias": torch.tensor([-12.9286])}
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((fresh / "config.json").read_text())
    kept = {"num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "vocab_size", "image_size", "patch_size"}
    parts = {
        part: {"model_type": f"siglip_{part.removesuffix('_config')}_model", **{k: v for k, v in config[part].items() if k in kept}}
        for part in ("text_config", "vision_config")
    }
    old = {"architectures": ["SiglipModel"], "initializer_factor": 1.0, "model_type": "siglip", "torch_dtype": "float32", **parts}
    (directory / "config.json").write_text(json.dumps({**old, "transformers_version": "4.37.0.dev0"}))
    preprocessor = {
        "do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": [0.5] * 3,
        "image_processor_type": "SiglipImageProcessor",
        "image_std": [0.5] * 3, "processor_class": "SiglipProcessor", "resample": 3, "rescale_factor": 1 / 255,
        "size": {"height": 96, "width": 96},
    }  # fmt: skip
    (directory / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    tokenizer = {
        "clean_up_tokenization_spaces": True, "do_lower_case": True, "eos_token": "</s>", "model_input_names": ["input_ids"],
        "model_max_length": 64, "pad_token": "</s>", "processor_class": "SiglipProcessor", "tokenizer_class": "SiglipTokenizer",
        "unk_token": "<unk>",
    }  # fmt: skip
    (directory / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    (directory / "tokenizer.json").write_bytes((fresh / "tokenizer.json").read_bytes())
    return directory


def test_pictures_have_the_range_and_the_size_that_the_model_was_trained_with(fresh: Path):
    processor = siglip.load_processor(fresh, max_pixels=PIXELS)
    pictures = [np.zeros((40, 60, 3), dtype=np.uint8), np.full((200, 100, 3), 255, dtype=np.uint8)]
    pixels = siglip.picture_tensor(processor, pictures)
    assert pixels.shape == (2, 3, 96, 96)
    assert (pixels[0].unique().tolist(), pixels[1].unique().tolist()) == ([-1.0], [1.0])


def test_texts_have_all_positions_and_no_mask(fresh: Path):
    processor = siglip.load_processor(fresh, max_pixels=PIXELS)
    ids = siglip.text_tensor(processor, ["A nevus.", "word " * 200, ""])
    end = processor.tokenizer.eos_token_id
    assert ids.shape == (3, 64)
    assert (ids[0, -1].item(), ids[2].tolist()) == (end, [end] * 64)
    assert ids[1, -2].item() != end == ids[1, -1].item()  # a long text is cut, and ends


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("A Nevus, on the BACK (NEV).", "a nevus on the back nev"), ("Kellgren-Lawrence  grade\n3", "kellgrenlawrence grade 3"),
        ("  ~!@#$%^&*()_+{}|:<>?`-=[];',./\\\"  ", ""), ("左肺上野见一小圆形致密影。", "左肺上野见一小圆形致密影。"),
    ],
)  # fmt: skip
def test_a_text_is_read_in_lower_case_without_punctuation(fresh: Path, text: str, read: str):
    assert siglip.canonical(text) == read == siglip.canonical(read)
    processor = siglip.load_processor(fresh, max_pixels=PIXELS)
    ids = siglip.text_tensor(processor, [text, read])
    assert ids[0].tolist() == ids[1].tolist()
    assert processor.tokenizer.decode(ids[0], skip_special_tokens=True).strip() == read
    assert processor.tokenizer(text)["input_ids"] == processor.tokenizer(read)["input_ids"]  # tokenizer.json does it by itself, too


def test_texts_that_are_longer_than_the_model_reads_are_counted(fresh: Path):
    processor = siglip.load_processor(fresh, max_pixels=96 * 96)
    length = processor.tokenizer.model_max_length
    assert siglip.num_cut(processor, ["knee", "", " ".join(["knee"] * 4 * length)]) == 1
    fits = next(n for n in range(1, 4 * length) if siglip.num_cut(processor, [" ".join(["knee"] * (n + 1))]))
    whole, cut = (siglip.text_tensor(processor, [" ".join(["knee"] * n)])[0].tolist() for n in (fits, fits + 1))
    assert (whole[-1] in (1, processor.tokenizer.pad_token_id), len(cut)) == (True, length)


def test_a_model_without_training_has_the_papers_temperature_and_bias(fresh: Path):
    model = load_encoder(fresh, SPEC, CPU).model
    assert (model.logit_scale.item(), model.logit_bias.item()) == (pytest.approx(math.log(10)), -10.0)
    assert sum(count.total for count in parameters_by_part(model, "siglip").values()) == sum(part.numel() for part in model.parameters())


def test_the_same_seed_makes_the_same_model_and_tokenizer(fresh: Path, tmp_path: Path):
    siglip.write_tiny(tmp_path, seed=1, max_pixels=PIXELS)
    assert all((tmp_path / path.name).read_bytes() == path.read_bytes() for path in fresh.iterdir())


def test_a_published_repository_loads_with_its_own_temperature(published: Path, tmp_path: Path):
    directory = tmp_path / "base"
    directory.mkdir()
    facts = write_base(directory, replace(SPEC, path=str(published)))
    assert facts["num_tensors"] == len(NAMES_4_37)
    assert [rule.name for rule in BASE_RULES if not rule.holds(directory).passed] == []
    loaded = load_encoder(directory, SPEC, replace(CPU, weights_dtype="bfloat16"))
    assert loaded.model.logit_scale.dtype == torch.float32
    assert (loaded.model.logit_scale.item(), loaded.model.logit_bias.item()) == (pytest.approx(4.7655), pytest.approx(-12.9286))
    assert siglip.text_tensor(loaded.processor, ["Nevus"]).shape == (1, 64)


WRITE = """
from pathlib import Path
from medvl_lib.hardware import PROFILES
from medvl_lib.models.loading import load_encoder
from medvl_lib.models.preparing import write_base
from medvl_lib.models.spec import ModelSpec

spec = ModelSpec(family="siglip", source="hub", hub_id=%r, revision=%r, seed=0, path="", max_pixels=9216)
write_base(Path("model"), spec, Path("downloads"))
print(round(load_encoder(Path("model"), spec, PROFILES["cpu"]).model.logit_bias.item(), 4))
"""


@pytest.fixture
def user(published: Path, tmp_path: Path) -> Iterator[User]:
    files = {path.name: path.read_bytes() for path in published.iterdir()}
    with serving(Hub(files={**files, "spiece.model": b"not needed here"})) as hub:
        yield User(folder=tmp_path, hub=hub)


@pytest.mark.slow
def test_a_published_repository_comes_from_the_hub_like_any_other(user: User):
    assert user.run(WRITE).splitlines()[-1] == "-12.9286"


def test_another_architecture_is_refused(other: Path, tmp_path: Path):
    with pytest.raises(MedVLError, match=r"(?s)model_type 'qwen2_5_vl'.*'siglip'"):
        write_base(tmp_path, replace(SPEC, path=str(other)))


@pytest.fixture
def other(fresh: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("other")
    (directory / "model.safetensors").write_bytes((fresh / "model.safetensors").read_bytes())
    (directory / "config.json").write_text('{"model_type": "qwen2_5_vl"}')
    return directory


def test_a_resolution_that_the_settings_do_not_allow_is_refused_with_the_number_to_set(fresh: Path):
    with pytest.raises(MedVLError, match=f"(?s)96 x 96 pixels, and max_pixels = 9215.*set max_pixels of this model to {PIXELS}"):
        siglip.load_processor(fresh, max_pixels=PIXELS - 1)


def test_pictures_of_another_size_than_the_model_has_positions_for_are_refused(published: Path):
    path = published / "preprocessor_config.json"
    path.write_text(path.read_text().replace('"height": 96, "width": 96', '"height": 448, "width": 448'))
    with pytest.raises(MedVLError, match="448 x 448 pixels for a model of 96 x 96"):
        siglip.load_processor(published, max_pixels=448 * 448)


def test_weights_of_another_resolution_are_refused_by_name(published: Path):
    config = json.loads((published / "config.json").read_text())
    config["vision_config"]["image_size"] = 128
    (published / "config.json").write_text(json.dumps(config))
    with pytest.raises(MedVLError, match=r"mismatched tensors.*position_embedding"):
        load_encoder(published, SPEC, CPU)
