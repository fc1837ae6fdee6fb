"""LLaVA-Med as a family. If these passed wrongly, its prompt would be another one than it was trained with, image tokens would be trained
on, or its tower and projector would be squeezed into four bits.
"""

from dataclasses import replace
from pathlib import Path

import bitsandbytes as bnb
import numpy as np
import pytest
import torch
from PIL import Image

from medvl_lib.audit import AUDIT, RULES, AuditRow, AuditSpec, write_audit
from medvl_lib.batches import IGNORE_INDEX, Reader, prompt_batch, training_batch
from medvl_lib.chat import single_turn
from medvl_lib.errors import MedVLError
from medvl_lib.evaluation.answering import Speaker
from medvl_lib.evaluation.spec import EvaluationSpec
from medvl_lib.lines import MODELS
from medvl_lib.models.counting import count_quantized, parameters_by_part
from medvl_lib.models.llava_layout import CHAT_TEMPLATE
from medvl_lib.models.llava_med import load_processor
from medvl_lib.models.loading import load
from medvl_lib.models.preparing import TINY
from medvl_lib.models.weights import BASE_RULES, NF4_RULES, held_bytes
from medvl_lib.prompts import PromptFormat, compile_template, render_opening, render_prompt, split_answer
from medvl_lib.tables import read_table
from medvl_lib.vision_tokens import SeenPicture, llava, read_sizing
from tests.llava_fixtures import SPEC, Small

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
EVALUATION = EvaluationSpec(
    splits=("test",), max_pairs_per_dataset=0, max_answer_tokens=6, controls=(), seed=0, datasets=(), further_variants=()
)


@pytest.fixture(scope="module")
def reader(small_llava: Small) -> Reader:
    loaded = load(small_llava.base, SPEC, small_llava.profile)
    return Reader(processor=loaded.processor, prompts=loaded.prompts, images=small_llava.images)


# -- prompts -----------------------------------------------------------------------------------------------------------
def test_the_prompt_is_the_publishers_with_an_empty_system_text() -> None:
    words = PromptFormat(
        template=compile_template(CHAT_TEMPLATE), special_tokens={"bos_token": "<s>", "eos_token": "</s>"}, eos_token="</s>",
        image_token="<image>", image_token_id=3, added_tokens=("<image>",),
    )  # fmt: skip
    one = single_turn("a", image_ids=("p",), request="Is it clear?", response="Yes.")
    two = single_turn("b", image_ids=("p", "q"), request="Is it clear?", response="Yes.")
    before, answer = split_answer(one.messages)
    assert render_prompt(words, before) + answer + "</s>" == "<s>[INST] <image>\nIs it clear? [/INST] Yes.</s>"
    assert render_opening(words, before) == "<s>[INST] <image>\nIs it clear? [/INST]"
    assert render_prompt(words, split_answer(two.messages)[0]) == "<s>[INST] <image>\n<image>\nIs it clear? [/INST] "
    asked = "[INST] <image>\nIs it clear? [/INST]"
    assert render_prompt(words, [*one.messages, *before]) == f"<s>{asked} Yes.</s>{asked} "


def test_the_trained_labels_are_the_answer_and_its_end_and_never_an_image_token(small_llava: Small, reader: Reader) -> None:
    batch = training_batch(reader, small_llava.conversations)
    tokenizer = reader.processor.tokenizer
    assert set(batch) == {"input_ids", "attention_mask", "pixel_values", "labels"}
    num_pictures = sum(len(item.image_ids) for item in small_llava.conversations)
    assert num_pictures > len(small_llava.conversations)  # some have two
    assert int((batch["input_ids"] == reader.prompts.image_token_id).sum()) == 64 * num_pictures
    assert not (batch["labels"] == reader.prompts.image_token_id).any()
    assert not (batch["labels"] == tokenizer.pad_token_id).any()
    for labels, item in zip(batch["labels"], small_llava.conversations, strict=True):
        trained = labels[labels != IGNORE_INDEX]
        assert tokenizer.decode(trained) == item.messages[-1]["content"][0]["text"] + "</s>"
        assert trained[-1] == tokenizer.eos_token_id
        assert labels[: int((labels != IGNORE_INDEX).nonzero()[0])].eq(IGNORE_INDEX).all()


def test_generation_goes_on_where_the_answer_began_in_training(small_llava: Small, reader: Reader) -> None:
    """The prompt's last blank is part of the answer's first token: a prompt that ended in it would end in a token never seen there."""
    trained, asked = training_batch(reader, small_llava.conversations), prompt_batch(reader, small_llava.conversations)
    for row in range(len(small_llava.conversations)):
        length = int(asked["attention_mask"][row].sum())
        prompt = asked["input_ids"][row, -length:].tolist()
        assert trained["input_ids"][row, :length].tolist() == prompt
        assert int((trained["labels"][row] != IGNORE_INDEX).nonzero()[0]) == length
        assert prompt[0] == reader.processor.tokenizer.bos_token_id


def test_special_tokens_have_the_ids_that_the_weights_have_rows_for(small_llava: Small) -> None:
    loaded = load(small_llava.base, SPEC, small_llava.profile)
    tokenizer, config = loaded.processor.tokenizer, loaded.model.config
    ids = [tokenizer.convert_tokens_to_ids(token) for token in ("<unk>", "<s>", "</s>", "<image>", "<pad>")]
    assert ids == [0, 1, 2, 1022, 1023]
    assert (config.image_token_index, config.text_config.pad_token_id, config.text_config.vocab_size) == (1022, 1023, 1024)
    assert loaded.model.lm_head.weight.shape[0] == loaded.model.get_input_embeddings().weight.shape[0] == 1024
    assert (loaded.prompts.image_token, loaded.prompts.image_token_id, loaded.prompts.eos_token) == ("<image>", 1022, "</s>")


@pytest.mark.parametrize("text", ["Large round opacity.", " two  blanks ", "左肺下野。", "Ärzte 😀 \t x\n\ny", "<imag"])
def test_every_text_can_be_written_and_read_back(text: str, reader: Reader) -> None:
    tokenizer = reader.processor.tokenizer
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_the_audit_counts_what_is_trained_on_and_passes(small_llava: Small, reader: Reader, tmp_path: Path) -> None:
    limits = AuditSpec(max_tokens=1024, min_glyph_height_pixels=0.0)
    write_audit(tmp_path, small_llava.chat, small_llava.base, small_llava.images, limits, max_pixels=SPEC.max_pixels)
    assert [rule.name for rule in RULES if not rule.holds(tmp_path).passed] == []
    rows = {row.pair_id: row for row in read_table(tmp_path / AUDIT, AuditRow)}
    for item in small_llava.conversations:
        batch = training_batch(reader, [item])
        row = rows[item.pair_id]
        assert (row.num_tokens, row.num_target_tokens) == (batch["input_ids"].shape[1], int((batch["labels"] != IGNORE_INDEX).sum()))
        assert row.num_prompt_tokens == prompt_batch(reader, [item])["input_ids"].shape[1]
        assert row.num_image_tokens == 64 * len(item.image_ids)


# -- pictures ----------------------------------------------------------------------------------------------------------
def test_a_picture_is_padded_to_a_square_with_clips_mean(reader: Reader) -> None:
    white = Image.new("RGB", (224, 112), (255, 255, 255))
    [pixels] = reader.processor(images=[white], text=["<image>"], return_tensors="pt")["pixel_values"]
    assert pixels.shape == (3, 112, 112)
    for channel in range(3):
        border, middle = pixels[channel, 5, 56], pixels[channel, 56, 56]
        assert border.item() == pytest.approx((int(CLIP_MEAN[channel] * 255) / 255 - CLIP_MEAN[channel]) / CLIP_STD[channel], abs=1e-3)
        assert middle.item() == pytest.approx((1 - CLIP_MEAN[channel]) / CLIP_STD[channel], abs=1e-3)
    assert (pixels[0] > 1).float().mean().item() == pytest.approx(0.5, abs=0.03)  # nothing is cut off


@pytest.mark.parametrize(
    ("size", "seen"),
    [((112, 112), (112, 112)), ((200, 100), (112, 56)), ((50, 400), (14, 112)), ((3000, 2), (112, 1)), ((7, 7), (112, 112))],
)
def test_what_is_seen_of_a_picture_is_told(size: tuple[int, int], seen: tuple[int, int], small_llava: Small, reader: Reader) -> None:
    height, width = size
    sizing = read_sizing(small_llava.base, max_pixels=SPEC.max_pixels)
    assert sizing(height, width) == SeenPicture(height_pixels=seen[0], width_pixels=seen[1], num_tokens=64)
    picture = Image.fromarray(np.zeros((height, width, 3), np.uint8))
    ids = reader.processor(images=[picture], text=["<image>"], add_special_tokens=False)["input_ids"][0]
    assert sum(token == 1022 for token in ids) == 64


def test_the_published_square_has_576_tokens() -> None:
    sizing = llava({"crop_size": {"height": 336, "width": 336}, "do_pad": True}, MODELS["llava_med"].max_pixels)
    assert sizing(1000, 500) == SeenPicture(height_pixels=336, width_pixels=168, num_tokens=576)


def test_a_budget_that_is_not_that_of_the_square_is_refused_with_the_right_one(small_llava: Small) -> None:
    for wrong in (SPEC.max_pixels - 1, SPEC.max_pixels + 1):
        with pytest.raises(MedVLError, match="write max_pixels = 12544"):
            read_sizing(small_llava.base, max_pixels=wrong)
        with pytest.raises(MedVLError, match="write max_pixels = 12544"):
            load_processor(small_llava.base, max_pixels=wrong)


def test_the_picture_has_influence_and_so_has_the_second_one(small_llava: Small, reader: Reader) -> None:
    model = load(small_llava.base, SPEC, small_llava.profile).model
    item = next(item for item in small_llava.conversations if len(item.image_ids) == 2)
    batch = training_batch(reader, [item])
    with torch.no_grad():
        whole = model(**batch).logits[0, -1]
        for place in range(2):
            pixels = batch["pixel_values"].clone()
            pixels[place] *= -1
            assert (model(**{**batch, "pixel_values": pixels}).logits[0, -1] - whole).abs().max() > 0.01


# -- weights -----------------------------------------------------------------------------------------------------------
def test_the_fresh_model_is_the_same_bytes_for_the_same_seed(small_llava: Small, tmp_path: Path) -> None:
    TINY["llava_med"](tmp_path, seed=SPEC.seed, max_pixels=SPEC.max_pixels)
    found = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert found == {path.name: path.read_bytes() for path in small_llava.published.iterdir()}
    assert found.keys() == {"config.json", "model.safetensors", "tokenizer.model"}


def test_every_parameter_belongs_to_a_part(small_llava: Small) -> None:
    counts = parameters_by_part(load(small_llava.base, SPEC, small_llava.profile).model, "llava_med")
    assert set(counts) == {"projector", "vision", "embedding", "language", "head"}
    assert all(count.total > 10_000 for count in counts.values())
    assert sum(count.total for count in counts.values()) < 5_000_000


def test_only_the_language_model_is_in_four_bits(small_llava: Small) -> None:
    loaded = load(small_llava.nf4, SPEC, small_llava.profile)
    assert count_quantized(loaded.model) == {"language": 28, "vision": 0, "other": 0}  # 4 layers x 7 projections
    assert not isinstance(loaded.model.lm_head, bnb.nn.Linear4bit)
    assert not any(isinstance(module, bnb.nn.Linear4bit) for module in loaded.model.model.multi_modal_projector.modules())
    assert BASE_RULES[0].holds(small_llava.base).passed
    assert [rule.name for rule in NF4_RULES if rule.name != "weights_are_trained" and not rule.holds(small_llava.nf4).passed] == []
    assert not NF4_RULES[-1].holds(small_llava.base).passed
    assert held_bytes(small_llava.base, "bfloat16", "nf4") < 0.6 * held_bytes(small_llava.base, "bfloat16")


def test_alone_and_in_a_batch_the_answer_is_the_same(small_llava: Small) -> None:
    loaded = load(small_llava.base, SPEC, small_llava.profile)

    def said(size: int) -> list[str]:
        speaker = Speaker(
            variant="base", condition="as_is", loaded=loaded, evaluation=EVALUATION, images=small_llava.images,
            profile=replace(small_llava.profile, prediction_batch=size),
        )  # fmt: skip
        return [prediction.answer for prediction in speaker.answers([small_llava.conversations])]

    assert said(1) == said(8)
