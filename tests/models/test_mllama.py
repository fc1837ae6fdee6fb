"""Llama 3.2 Vision. If these passed wrongly, a picture's tiles would be shown in the wrong places, the picture would have no influence, or
a label outside the output head would end a run hours after it began.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import bitsandbytes as bnb
import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image
from transformers import MllamaProcessor
from trl import SFTTrainer

from medvl_lib.audit import AUDIT, RULES, AuditRow, AuditSpec, write_audit
from medvl_lib.batches import IGNORE_INDEX, Collator, Reader, prompt_batch, training_batch
from medvl_lib.chat import Conversation, conversations_path, read_conversations
from medvl_lib.errors import MedVLError
from medvl_lib.evaluation.answering import Speaker
from medvl_lib.evaluation.spec import EvaluationSpec
from medvl_lib.hardware import PROFILES, Profile
from medvl_lib.images import ImageStore
from medvl_lib.lines import tiny_model
from medvl_lib.models.counting import count_quantized, parameters_by_part
from medvl_lib.models.loading import attach, load
from medvl_lib.models.merging import adapted_tensors, write_merged
from medvl_lib.models.mllama import IMAGE_TOKEN, load_processor
from medvl_lib.models.preparing import TINY, write_quantized
from medvl_lib.models.weights import BASE_RULES, MERGED_RULES, NF4_RULES
from medvl_lib.pairs import Pair, Split
from medvl_lib.prompts import split_answer
from medvl_lib.sample_data.described_pictures import LEARNED
from medvl_lib.tables import read_table
from medvl_lib.training.route import adapt, arguments, settle
from medvl_lib.vision_tokens import SeenPicture, read_sizing
from tests.chats import write_chat
from tests.torch_fixtures import RECIPE

SPEC = tiny_model("mllama")
EVALUATION = EvaluationSpec(
    splits=("test",), max_pairs_per_dataset=0, max_answer_tokens=12, controls=(), seed=0, datasets=(), further_variants=()
)
TENSORS = {
    "input_ids", "attention_mask", "pixel_values", "aspect_ratio_ids", "aspect_ratio_mask", "cross_attention_mask", "labels",
}  # fmt: skip


class Small(NamedTuple):
    """Random weights of the family, in full width and in four bits, and conversations with one to three pictures."""

    profile: Profile
    base: Path
    nf4: Path
    chat: Path
    images: ImageStore
    conversations: Sequence[Conversation]


def _wide(image: Image.Image, number: int) -> Image.Image:
    """Every third picture long, every third high: other arrangements of tiles."""
    size = {0: image.size, 1: (image.width * 2, image.height // 2), 2: (image.width // 4, image.height)}[number % 3]
    return image.resize(size)


def _pair(number: int, split: Split, images: ImageStore, num_pictures: int) -> Pair:
    drawn = LEARNED.draw(f"test_mllama/{split}", number)
    ids = []
    for view in range(num_pictures):
        path = images.root / f"{split}-{number}-{view}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        _wide(drawn.picture, number + view).save(path)
        ids.append(images.put(path.read_bytes()))
        path.unlink()
    return Pair(
        pair_id=f"invented/{split}/{number:03d}", dataset="invented", image_ids=tuple(ids), request=drawn.request, response=drawn.response,
        expected=(), subject_id=None, document_id=f"{split}{number}", publisher_split=split, language=drawn.said.language,
        source="invented", licence="CC0-1.0", metadata={},
    )  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    root = tmp_path_factory.mktemp("mllama")
    profile, images = PROFILES["cpu"], ImageStore(root / "images")
    for name in ("base", "nf4", "chat"):
        (root / name).mkdir()
    TINY["mllama"](root / "base", seed=SPEC.seed, max_pixels=SPEC.max_pixels)
    write_quantized(root / "nf4", root / "base", "nf4", SPEC, profile)
    counts: Sequence[tuple[Split, int]] = (("train", 6), ("validation", 2), ("test", 4))
    pairs = [_pair(number, split, images, 1 + number % 3) for split, count in counts for number in range(count)]
    write_chat(root / "chat", pairs)
    conversations = tuple(read_conversations(conversations_path(root / "chat", "train")))
    return Small(profile=profile, base=root / "base", nf4=root / "nf4", chat=root / "chat", images=images, conversations=conversations)


def _reader(small: Small) -> Reader:
    loaded = load(small.base, SPEC, small.profile)
    return Reader(processor=loaded.processor, prompts=loaded.prompts, images=small.images)


# -- the small model ---------------------------------------------------------------------------------------------------
def test_the_image_token_is_the_first_id_without_a_row_in_the_head(small: Small) -> None:
    loaded = load(small.base, SPEC, small.profile)
    tokenizer, config = loaded.processor.tokenizer, loaded.model.config
    assert tokenizer.convert_tokens_to_ids(IMAGE_TOKEN) == len(tokenizer) - 1 == config.text_config.vocab_size == config.image_token_index
    assert loaded.model.lm_head.weight.shape[0] == config.image_token_index
    assert loaded.model.model.language_model.embed_tokens.weight.shape[0] == config.image_token_index + 8
    assert (loaded.prompts.image_token, loaded.prompts.image_token_id) == (IMAGE_TOKEN, config.image_token_index)


def test_the_fresh_model_is_the_same_bytes_for_the_same_seed(small: Small, tmp_path: Path) -> None:
    TINY["mllama"](tmp_path, seed=SPEC.seed, max_pixels=SPEC.max_pixels)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {path.name: path.read_bytes() for path in small.base.iterdir()}


def test_the_picture_has_influence_from_the_first_step_on(small: Small) -> None:
    loaded = load(small.base, SPEC, small.profile)
    gates = {name: value.item() for name, value in loaded.model.named_parameters() if name.endswith("_gate")}
    assert len(gates) == 4
    assert all(value > 0 for value in gates.values())
    batch = training_batch(_reader(small), small.conversations[:1])
    shown = batch["pixel_values"]
    with torch.no_grad():
        seen, other = (loaded.model(**{**batch, "pixel_values": pixels}).logits for pixels in (shown, -shown))
    assert (seen - other).abs().max() > 0.01


def test_every_parameter_belongs_to_a_part(small: Small) -> None:
    counts = parameters_by_part(load(small.base, SPEC, small.profile).model, "mllama")
    assert set(counts) == {"projector", "vision", "embedding", "language", "head"}
    assert all(count.total > 10_000 for count in counts.values())


@pytest.mark.parametrize("text", ["Grade 4 (severe)", "左肺下野见一小圆形致密影。", "Ärzte 😀 \t x", "<|image"])
def test_every_text_can_be_written_and_read_back(small: Small, text: str) -> None:
    tokenizer = load_processor(small.base, max_pixels=SPEC.max_pixels).tokenizer
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


# -- pictures ----------------------------------------------------------------------------------------------------------
def test_the_arithmetic_is_that_of_transformers_on_300_random_sizes(small: Small) -> None:
    from transformers.models.mllama.image_processing_pil_mllama import get_image_size_fit_to_canvas, get_optimal_tiled_canvas

    sizing, chance = read_sizing(small.base, max_pixels=SPEC.max_pixels), random.Random(7)
    for _ in range(300):
        height, width = chance.randint(1, 900), chance.randint(1, 900)
        canvas = get_optimal_tiled_canvas(height, width, 4, 112)
        expected = get_image_size_fit_to_canvas(height, width, *canvas, tile_size=112)
        assert sizing(height, width) == SeenPicture(height_pixels=int(expected[0]), width_pixels=int(expected[1]), num_tokens=1)


def test_a_budget_that_is_not_that_of_all_tiles_is_refused_with_the_right_one(small: Small) -> None:
    for wrong in (SPEC.max_pixels - 1, SPEC.max_pixels + 1):
        with pytest.raises(MedVLError, match="write max_pixels = 50176"):
            read_sizing(small.base, max_pixels=wrong)
        with pytest.raises(MedVLError, match="write max_pixels = 50176"):
            load_processor(small.base, max_pixels=wrong)


def test_mean_and_deviation_of_the_pixels_are_the_checkpoints(small: Small, tmp_path: Path) -> None:
    for path in small.base.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    settings = json.loads((tmp_path / "preprocessor_config.json").read_text())
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**settings, "image_mean": [0.0] * 3, "image_std": [2.0] * 3}))
    white = Image.new("RGB", (112, 112), (255, 255, 255))
    values = [
        load_processor(folder, max_pixels=SPEC.max_pixels)(images=[white], text=[IMAGE_TOKEN], return_tensors="pt")["pixel_values"].max()
        for folder in (small.base, tmp_path)
    ]
    assert [value.item() for value in values] == [2.0, 0.5]  # (1 - 0.5) / 0.25 and (1 - 0) / 2


# -- batches -----------------------------------------------------------------------------------------------------------
def test_the_trained_labels_decode_to_exactly_the_answer_and_hold_no_image_token(small: Small) -> None:
    reader = _reader(small)
    batch = training_batch(reader, small.conversations)
    num_rows = load(small.base, SPEC, small.profile).model.lm_head.weight.shape[0]
    assert int((batch["input_ids"] == reader.prompts.image_token_id).sum()) == sum(len(item.image_ids) for item in small.conversations)
    for labels, conversation in zip(batch["labels"], small.conversations, strict=True):
        trained = labels[labels != IGNORE_INDEX]
        assert int(trained.max()) < num_rows
        assert reader.processor.tokenizer.decode(trained) == conversation.messages[-1]["content"][0]["text"] + "<|eot_id|>"


def test_every_tensor_is_the_processors_own(small: Small) -> None:
    """Pictures of another number and shape in each row: what the library makes of nested lists is what the batch holds."""
    reader = _reader(small)
    batch = training_batch(reader, small.conversations)
    assert set(batch) == TENSORS
    pictures = [[Image.open(small.images.path(image_id)).convert("RGB") for image_id in item.image_ids] for item in small.conversations]
    reader.processor.tokenizer.padding_side = "right"
    rows = zip(batch["input_ids"], batch["attention_mask"], strict=True)
    texts = [reader.processor.tokenizer.decode(ids[mask == 1]) for ids, mask in rows]
    theirs = MllamaProcessor(reader.processor.image_processor, reader.processor.tokenizer)(
        images=pictures, text=texts, padding=True, add_special_tokens=False, return_tensors="pt"
    )
    assert set(theirs) == TENSORS - {"labels"}
    for name, tensor in theirs.items():
        assert torch.equal(tensor, batch[name]), name
    assert batch["pixel_values"].shape[:3] == (6, 3, 4)
    assert len(set(batch["aspect_ratio_ids"].flatten().tolist())) > 2


def test_without_the_tensors_of_the_aspect_ratio_there_is_no_answer(small: Small) -> None:
    model, batch = load(small.base, SPEC, small.profile).model, training_batch(_reader(small), small.conversations[:2])
    for name in ("aspect_ratio_ids", "aspect_ratio_mask"):
        with pytest.raises((ValueError, AttributeError)):
            model(**{key: value for key, value in batch.items() if key != name})


def test_without_the_cross_attention_mask_the_loss_is_another_one(small: Small) -> None:
    model, batch = load(small.base, SPEC, small.profile).model, training_batch(_reader(small), small.conversations[:2])
    with torch.no_grad():
        whole = model(**batch).loss
        without = model(**{key: value for key, value in batch.items() if key != "cross_attention_mask"}).loss
    assert abs(whole - without) > 1e-4


def test_a_prompt_is_padded_on_the_left_and_ends_where_the_answer_begins(small: Small) -> None:
    reader = _reader(small)
    trained, asked = training_batch(reader, small.conversations), prompt_batch(reader, small.conversations)
    assert set(asked) == TENSORS - {"labels"}
    for row in range(len(small.conversations)):
        length = int(asked["attention_mask"][row].sum())
        prompt = asked["input_ids"][row, -length:].tolist()
        assert trained["input_ids"][row, :length].tolist() == prompt
        assert int((trained["labels"][row] != IGNORE_INDEX).nonzero()[0]) == length
        first = asked["input_ids"].shape[1] - length
        assert not asked["cross_attention_mask"][row, :first].any()
        assert asked["cross_attention_mask"][row, -1].any()


def test_the_audit_counts_what_is_trained_on_and_passes_with_several_pictures(small: Small, tmp_path: Path) -> None:
    limits = AuditSpec(max_tokens=512, min_glyph_height_pixels=0.0)
    write_audit(tmp_path, small.chat, small.base, small.images, limits, max_pixels=SPEC.max_pixels)
    assert [rule.name for rule in RULES if not rule.holds(tmp_path).passed] == []
    rows = {row.pair_id: row for row in read_table(tmp_path / AUDIT, AuditRow)}
    reader = _reader(small)
    for item in small.conversations:
        batch = training_batch(reader, [item])
        row = rows[item.pair_id]
        assert (row.num_tokens, row.num_target_tokens) == (batch["input_ids"].shape[1], int((batch["labels"] != IGNORE_INDEX).sum()))
        assert row.num_image_tokens == len(item.image_ids)
        assert [picture.seen_height_pixels * picture.seen_width_pixels <= SPEC.max_pixels for picture in row.pictures]


def test_a_picture_without_its_place_is_refused(small: Small) -> None:
    processor = load_processor(small.base, max_pixels=SPEC.max_pixels)
    picture = Image.fromarray(np.zeros((50, 50, 3), np.uint8))
    with pytest.raises(ValueError, match="2 pictures for 1 places in 1 texts"):
        processor(images=[picture, picture], text=[IMAGE_TOKEN])


# -- weights -----------------------------------------------------------------------------------------------------------
def test_only_the_language_model_is_in_four_bits(small: Small) -> None:
    loaded = load(small.nf4, SPEC, small.profile)
    assert count_quantized(loaded.model) == {"language": 35, "vision": 0, "other": 0}  # 5 layers x 7 projections
    assert not isinstance(loaded.model.lm_head, bnb.nn.Linear4bit)
    assert all(rule.holds(small.base).passed for rule in BASE_RULES[:1])
    assert [rule.name for rule in NF4_RULES if rule.name != "weights_are_trained" and not rule.holds(small.nf4).passed] == []
    assert not NF4_RULES[-1].holds(small.base).passed


def _trainer(small: Small, output: Path) -> SFTTrainer:
    torch.manual_seed(0)
    loaded = load(small.nf4, SPEC, small.profile)
    reader = Reader(processor=loaded.processor, prompts=loaded.prompts, images=small.images)
    recipe = replace(RECIPE, lora_dropout=0.0, max_steps=2)
    trainer = SFTTrainer(
        model=adapt(loaded, SPEC, recipe), args=arguments(recipe, small.profile, 6, output, has_validation=False),
        train_dataset=Dataset.from_dict({"index": list(range(6)), "images": [list(item.image_ids) for item in small.conversations]}),
        processing_class=loaded.processor, data_collator=Collator(reader=reader, conversations=small.conversations),
    )  # fmt: skip
    settle(trainer)
    return trainer


def test_the_trainers_loss_is_the_models_loss(small: Small, tmp_path: Path) -> None:
    trainer = _trainer(small, tmp_path)
    batch = training_batch(trainer.data_collator.reader, small.conversations)
    trainer.model.eval()
    with torch.no_grad():
        theirs = trainer.compute_loss(trainer.model, dict(batch))
        ours = trainer.model(**batch).loss
    assert theirs.item() == pytest.approx(ours.item(), rel=1e-5)


def test_self_and_cross_attention_and_mlp_learn_and_the_tower_does_not(small: Small, tmp_path: Path) -> None:
    trainer = _trainer(small, tmp_path)
    trainable = {name: item for name, item in trainer.model.named_parameters() if item.requires_grad}
    assert len(trainable) == 5 * 7 * 2  # layers x projections x (A, B)
    assert all(".language_model.layers." in name for name in trainable)
    batch = training_batch(trainer.data_collator.reader, small.conversations)
    trainer.model.train()
    trainer.compute_loss(trainer.model, dict(batch)).backward()
    moved = [name for name, item in trainable.items() if item.grad is not None and item.grad.norm() > 0]
    reached = {name.split(".lora_")[0].rpartition("layers.")[2] for name in moved}
    assert {f"1.cross_attn.{projection}_proj" for projection in "qkvo"} <= reached
    assert {f"3.cross_attn.{projection}_proj" for projection in "qkvo"} <= reached
    assert {f"{layer}.self_attn.{projection}_proj" for layer in (0, 2, 4) for projection in "qkvo"} <= reached
    assert {f"{layer}.mlp.{projection}_proj" for layer in range(5) for projection in ("gate", "up", "down")} <= reached


def _said(small: Small, model: object, adapter: str | None, size: int) -> list[str]:
    speaker = Speaker(
        variant="adapter" if adapter else "nf4", condition="as_is", loaded=model, evaluation=EVALUATION, images=small.images,
        profile=replace(small.profile, prediction_batch=size), adapter=adapter,
    )  # fmt: skip
    return [prediction.answer for prediction in speaker.answers([small.conversations])]


def test_a_saved_adapter_answers_as_the_trained_model_did_and_merges(small: Small, tmp_path: Path) -> None:
    trainer = _trainer(small, tmp_path / "checkpoints")
    for name, value in trainer.model.named_parameters():  # far from zero, so that the adapter is heard
        if ".lora_B." in name:
            value.data = torch.randn(value.shape, generator=torch.Generator().manual_seed(len(name))) * 0.05
    trainer.model.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    bare = load(small.nf4, SPEC, small.profile)
    before = _said(small, replace(bare, model=trainer.model.eval()), "default", 6)
    again = attach(load(small.nf4, SPEC, small.profile), {"adapter": tmp_path / "adapter"})
    assert _said(small, again, "adapter", 6) == before
    assert _said(small, again, None, 6) == _said(small, bare, None, 6) != before
    assert len(adapted_tensors(tmp_path / "adapter", SPEC)) == 35
    (tmp_path / "merged").mkdir()
    write_merged(tmp_path / "merged", small.base, tmp_path / "adapter", SPEC, small.profile)
    assert [rule.name for rule in MERGED_RULES if rule.name != "weights_are_trained" and not rule.holds(tmp_path / "merged").passed] == []


def test_alone_and_in_a_batch_of_as_many_pictures_the_answer_is_the_same(small: Small) -> None:
    """Where rows have more pictures than others it may differ: the library lets text before a picture attend to all tiles, empty or not."""
    loaded = load(small.base, SPEC, small.profile)
    single = small._replace(conversations=[item for item in small.conversations if len(item.image_ids) == 1])
    assert len(single.conversations) > 1
    assert _said(single, loaded, None, 1) == _said(single, loaded, None, 8)


def test_what_comes_before_the_answer_is_what_is_asked(small: Small) -> None:
    before, answer = split_answer(small.conversations[0].messages)
    assert (before[0]["role"], answer) == ("user", small.conversations[0].messages[-1]["content"][0]["text"])
