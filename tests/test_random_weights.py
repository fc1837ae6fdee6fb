"""The real model with random weights, through the same code: written, quantized, trained for a step, weighed.

Memory and the places of four-bit linears do not depend on the values, so no download is needed. If these passed wrongly, a line at full
scale would fail on the first machine that has room for it, or quantize what it should not. Three sizes run the same path: a small one
(``pytest -m slow``), the published shape on a CPU (``pytest -m soak``), and the published shape on a GPU (``pytest -m gpu``). What the
second one gave stands in ``docs/benchmarks.md``.
"""

import json
import math
import os
import shutil
import sys
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from transformers import AutoModelForImageTextToText, Qwen2_5_VLConfig

from medvl_lib import pages
from medvl_lib.audit import write_audit
from medvl_lib.evaluation.answering import Weights
from medvl_lib.evaluation.predict import write_predictions
from medvl_lib.evaluation.prediction_rules import RULES as PREDICTION_RULES
from medvl_lib.evaluation.predictions import VARIANTS, VariantMeasurement
from medvl_lib.files import write_json
from medvl_lib.hardware import PROFILES, Profile, available_bytes, peak_memory_bytes
from medvl_lib.images import ImageStore
from medvl_lib.lines import DOCUMENTS
from medvl_lib.models import shipped
from medvl_lib.models.loading import give_memory_back
from medvl_lib.models.preparing import write_base, write_quantized
from medvl_lib.models.weights import BASE_RULES, NF4_RULES, shards
from medvl_lib.tables import read_table
from medvl_lib.training.route import train
from medvl_lib.training.rules import RULES as TRAINING_RULES
from tests.torch_fixtures import STYLE, write_conversations
from tests.training.full_size import PUBLISHED

MIB = 2**20  # the requirement documents write MB and mean this: 8.29 billion parameters in 16 bit are 15,816 of them
GB = 1e9
A4 = pages.PageStyle(font="sans", font_size_pixels=28, width_pixels=868, height_pixels=1148, margin_pixels=40, line_pitch_pixels=44)
DOCUMENTS_SAID = {"base": 15_820.0, "nf4": 5_664.0, "peak of training": 18_300.0}  # MiB, requirement documents 002 and 004
NEEDED_MEMORY, NEEDED_DISK = 20 * GB, 60 * GB  # the 16-bit weights and what answers with them; these twice, in four bits, and checkpoints
ANYWAY = "MEDVL_TEST_FULL_SIZE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A shape of the model, where it runs and what it is shown."""

    profile: Profile
    training: Profile
    """What a step is trained on, and quantized for: products of 16 bit are slow where a CPU has no instruction for them."""
    text: Mapping[str, object]
    vision: Mapping[str, object]
    page: pages.PageStyle
    num_pairs: int
    """How many a step is trained on, and how many are asked."""
    largest_shard: str
    num_linears: int


SIZES = {
    "small": Size(
        profile=PROFILES["cpu"], training=PROFILES["cpu"], text={}, vision={}, page=STYLE, num_pairs=4, largest_shard="4MB",
        num_linears=4 * 7,
    ),
    "full_cpu": Size(
        profile=replace(PROFILES["cpu"], weights_dtype="bfloat16"),  # in 32 bit the base model takes 33 GB
        training=PROFILES["cpu"],  # without AVX-512 the way back through 16-bit matrices takes an hour for a hundred tokens
        **PUBLISHED, page=STYLE, num_pairs=1, largest_shard="5GB", num_linears=28 * 7,
    ),
    "full": Size(
        profile=PROFILES["cuda"], training=PROFILES["cuda"], **PUBLISHED, page=A4, num_pairs=4, largest_shard="5GB", num_linears=28 * 7,
    ),
}  # fmt: skip


def _write_random(directory: Path, size: Size) -> None:
    """The shape with random weights and the small model's tokenizer, in the hub's layout, with no more than one shard in memory."""
    source = shipped.DIRECTORY / "qwen2_5_vl"
    for path in source.iterdir():
        if path.suffix != ".safetensors":
            shutil.copyfile(path, directory / path.name)
    small = json.loads((source / "config.json").read_text())
    del small["text_config"]["layer_types"]  # a list with an entry per layer
    config = Qwen2_5_VLConfig(**{
        **small, "text_config": small["text_config"] | size.text, "vision_config": small["vision_config"] | size.vision,
    })  # fmt: skip
    with torch.device("meta"):
        shapes = AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16).state_dict()
    config.save_pretrained(directory)
    stored = {name.replace("model.language_model.", "model.").replace("model.visual.", "visual."): shapes[name] for name in shapes}
    plan = split_torch_state_dict_into_shards(stored, max_shard_size=size.largest_shard)
    for file, names in plan.filename_to_tensors.items():
        save_file({name: _random(name, stored[name]) for name in names}, directory / file, metadata={"format": "pt"})
    write_json(directory / "model.safetensors.index.json", {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename})


def _random(name: str, shape: torch.Tensor) -> torch.Tensor:
    tensor = torch.empty_like(shape, device="cpu")
    if tensor.dim() > 1:
        return tensor.normal_(std=0.02)
    return tensor.fill_(0.0 if name.endswith("bias") else 1.0)


def _here(profile: Profile) -> Profile:
    """With this machine's memory: variants that do not fit into it together answer one after the other."""
    is_gpu = profile.device == "cuda"
    return replace(profile, memory_budget_bytes=torch.cuda.get_device_properties(0).total_memory if is_gpu else available_bytes())


def _skip_what_does_not_fit(name: str, folder: Path) -> None:
    if name == "full" and not torch.cuda.is_available():
        pytest.skip("no GPU: torch.cuda.is_available() is false")
    memory, disk = available_bytes(), shutil.disk_usage(folder).free
    if name != "small" and disk < NEEDED_DISK:
        pytest.skip(f"{disk / GB:.0f} GB free below {folder}, {NEEDED_DISK / GB:.0f} are needed")
    if name == "full_cpu" and os.environ.get(ANYWAY) != "1":
        pytest.skip(f"an hour on two cores (docs/benchmarks.md): set {ANYWAY}=1")
    if name == "full_cpu" and memory < NEEDED_MEMORY:
        pytest.skip(f"{memory / GB:.1f} GB of memory available, {NEEDED_MEMORY / GB:.0f} are needed")


@dataclass(slots=True)
class Part:
    """What one part took."""

    seconds: float = 0.0
    peak_bytes: int = 0


@contextmanager
def _measured(name: str, profile: Profile) -> Generator[Part, None, None]:
    """Time and peak memory of a part: allocated on a GPU, resident on a CPU, where pages of files that can be dropped count too."""
    give_memory_back(profile)
    if profile.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    elif sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")  # the kernel's own peak starts again from what is resident now
    part, started = Part(), time.perf_counter()
    yield part
    part.seconds = time.perf_counter() - started
    part.peak_bytes = torch.cuda.max_memory_allocated() if profile.device == "cuda" else peak_memory_bytes()
    sys.stdout.write(f"{name}: {part.seconds:,.0f} s, {part.peak_bytes / MIB:,.0f} MiB at its peak\n")
    sys.stdout.flush()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder that is gone afterwards: a failed run at full size would keep 50 GB."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("small", marks=pytest.mark.slow),
        pytest.param("full_cpu", marks=pytest.mark.soak),
        pytest.param("full", marks=[pytest.mark.gpu, pytest.mark.slow]),
    ],
)
def test_random_weights_are_quantized_trained_and_weighed_through_the_same_code(name: str, place: Path):
    _skip_what_does_not_fit(name, place)
    size = SIZES[name]
    profile, training = _here(size.profile), _here(size.training)
    names = ("theirs", "base", "nf4", "trained_on", "chat", "audit", "adapter", "said")
    theirs, base, nf4, trained_on, chat, audit, adapter, said = (place / name for name in names)
    for directory in (theirs, base, nf4, trained_on, chat, audit, adapter, said):
        directory.mkdir()
    images = ImageStore(place / "images")
    write_conversations(chat, images, size.page)
    with _measured("writing random weights", profile):
        _write_random(theirs, size)

    spec = replace(DOCUMENTS.model, source="directory", hub_id="random/qwen2.5-vl", revision="", path=str(theirs))
    with _measured("base model", profile):
        write_base(base, spec)
    assert len(shards(base)) > 1
    shutil.rmtree(theirs)
    for directory, numerics in ((nf4, profile), (trained_on, training)):
        with _measured(f"NF4 model beside {numerics.weights_dtype}", profile):
            facts = write_quantized(directory, base, "nf4", spec, numerics)
        assert {part: facts[f"num_4bit_linears_{part}"] for part in ("language", "vision", "other")} == {
            "language": size.num_linears, "vision": 0, "other": 0,
        }  # fmt: skip
    with _measured("audit", profile):
        write_audit(audit, chat, base, images, DOCUMENTS.audit, max_pixels=spec.max_pixels)

    stage = DOCUMENTS.stages[0]
    recipe = replace(
        stage.recipe, max_steps=1, effective_batch=size.num_pairs, max_training_pairs=size.num_pairs, validations_per_epoch=0,
        warmup_share=0.0,
    )  # fmt: skip
    with _measured("a training step", profile) as step:
        trained = train(
            adapter, stage=replace(stage, recipe=recipe), spec=spec, weights=trained_on, chat=chat, images=images, profile=training,
            previous=None, checkpoints=place / "checkpoints", report=lambda _: None,
        )  # fmt: skip
    assert math.isfinite(float(trained["first_loss"] or math.nan))
    assert [rule.name for rule in TRAINING_RULES if rule.name != "loss_fell" and not rule.holds(adapter).passed] == []
    judged = ((BASE_RULES, base), (NF4_RULES, nf4), (NF4_RULES, trained_on))
    assert [rule.name for rules, folder in judged for rule in rules if not rule.holds(folder).passed] == []

    with _measured("predictions", profile):
        write_predictions(
            said, controlled=("adapter",), spec=spec, chat=chat, audit=audit, images=images, profile=profile, report=lambda _: None,
            evaluation=replace(
                DOCUMENTS.evaluation, splits=("test",), max_pairs_per_dataset=size.num_pairs, max_answer_tokens=16, controls=()
            ),
            weights=[
                Weights(variant="base", directory=base, adapter=None, data_version="b"),
                Weights(variant="nf4", directory=nf4, adapter=None, data_version="n"),
                Weights(variant="adapter", directory=nf4, adapter=adapter, data_version="a"),
            ],
        )  # fmt: skip
    assert [rule.name for rule in PREDICTION_RULES if rule.is_blocking and not rule.holds(said).passed] == []
    rows = {row.variant: row for row in read_table(said / VARIANTS, VariantMeasurement)}
    assert rows["nf4"].memory_after_load_bytes < 0.8 * rows["base"].memory_after_load_bytes
    for variant, row in rows.items():
        sys.stdout.write(
            f"{variant}: {row.memory_after_load_bytes / MIB:,.0f} MiB after loading in {row.load_seconds:.1f} s, "
            f"{row.memory_peak_bytes / MIB:,.0f} at its peak\n"
        )
    if name != "small":
        sys.stdout.write(f"the requirement documents: {DOCUMENTS_SAID}\n")
        assert rows["base"].memory_after_load_bytes == pytest.approx(2 * 8_292_166_656, rel=0.01)
        assert rows["nf4"].memory_after_load_bytes == pytest.approx(6.90e9, rel=0.03)
        assert 7e9 < step.peak_bytes < 30e9  # the weights in four bits at least; the requirement documents' machine held 18.3 GB
        assert trained["num_trainable_parameters"] == 161_480_704
