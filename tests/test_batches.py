"""What is trained on. If these passed wrongly, a model would learn to repeat prompts, or never learn to stop."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medvl_lib.audit import AUDIT, EXAMPLES, AuditExample, AuditRow, AuditSpec, write_audit
from medvl_lib.batches import IGNORE_INDEX, Reader, answer_labels, prompt_batch, training_batch
from medvl_lib.chat import Conversation, conversations_path, read_conversations
from medvl_lib.errors import MedVLError
from medvl_lib.lines import tiny_model
from medvl_lib.models.loading import PROCESSORS, load
from medvl_lib.models.preparing import write_base
from medvl_lib.models.spec import Family
from medvl_lib.pairs import SPLITS
from medvl_lib.prompts import read_prompt_format, render_opening, split_answer
from medvl_lib.serving.question import Question
from medvl_lib.serving.resident import Uploads
from medvl_lib.tables import read_table
from tests.torch_fixtures import TINY, Trial

X = IGNORE_INDEX
LIMITS = AuditSpec(max_tokens=4096, min_glyph_height_pixels=1.0)


def _reader(trial: Trial) -> Reader:
    loaded = load(trial.base, TINY, trial.profile)
    return Reader(processor=loaded.processor, prompts=loaded.prompts, images=trial.images)


def test_only_the_answer_and_its_end_token_are_trained_on():
    #                    start image image question | answer  end | padding (the end token's own id)
    ids = torch.tensor([[1, 50, 50, 7, 8, 9, 2, 2, 2], [1, 50, 7, 8, 9, 9, 9, 9, 2]])
    mask = torch.tensor([[1, 1, 1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1, 1]])
    labels = answer_labels(ids, mask, [[8, 9, 2], [9, 9, 9, 9, 2]], ["a", "b"])
    assert labels.tolist() == [[X, X, X, X, 8, 9, 2, X, X], [X, X, X, X, 9, 9, 9, 9, 2]]


def test_an_answer_that_the_tokenizer_merged_away_is_refused_by_id():
    with pytest.raises(MedVLError, match="pair slake/1"):
        answer_labels(torch.tensor([[1, 7, 30]]), torch.tensor([[1, 1, 1]]), [[8, 2]], ["slake/1"])


def test_the_trained_labels_decode_to_exactly_the_answer(trial: Trial):
    reader = _reader(trial)
    conversations = list(read_conversations(conversations_path(trial.chat, "train")))[:4]
    batch = training_batch(reader, conversations)
    for labels, conversation in zip(batch["labels"], conversations, strict=True):
        answer = conversation.messages[-1]["content"][0]["text"]
        assert reader.processor.tokenizer.decode(labels[labels != X]) == answer + "<|im_end|>"


def test_the_audit_counts_the_very_labels_that_are_trained_on_and_shows_their_text(trial: Trial, tmp_path: Path):
    reader = _reader(trial)
    write_audit(tmp_path, trial.chat, trial.base, trial.images, LIMITS, max_pixels=TINY.max_pixels)
    examples = {example.pair_id: example for example in read_table(tmp_path / EXAMPLES, AuditExample)}
    rows = list(read_table(tmp_path / AUDIT, AuditRow))
    assert (len(rows), len(examples)) == (20, 3)
    conversations = {item.pair_id: item for split in SPLITS for item in read_conversations(conversations_path(trial.chat, split))}
    for row in rows:
        [ids], [labels] = (training_batch(reader, [conversations[row.pair_id]])[name] for name in ("input_ids", "labels"))
        trained = labels != X
        assert (row.num_tokens, row.num_target_tokens) == (len(ids), int(trained.sum()))
        if example := examples.get(row.pair_id):
            assert example.target == reader.processor.tokenizer.decode(ids[trained])
            num_image_tokens = int((ids == reader.prompts.image_token_id).sum())
            image_token = reader.prompts.image_token
            read = reader.processor.tokenizer.decode(ids[~trained])
            assert example.prompt == read.replace(image_token * num_image_tokens, f"{image_token} x {num_image_tokens}")


def test_every_tensor_of_the_processor_stays_in_the_batch(trial: Trial):
    conversations = list(read_conversations(conversations_path(trial.chat, "train")))[:2]
    batch = training_batch(_reader(trial), conversations)
    assert set(batch) == {"input_ids", "attention_mask", "mm_token_type_ids", "pixel_values", "image_grid_thw", "labels"}
    num_image_tokens = int(batch["image_grid_thw"].prod(-1).sum()) // 4
    assert int((batch["input_ids"] == 261).sum()) == int(batch["mm_token_type_ids"].sum()) == num_image_tokens


def test_a_prompt_ends_where_the_answer_begins(trial: Trial):
    reader = _reader(trial)
    conversations = list(read_conversations(conversations_path(trial.chat, "train")))[:3]
    trained, asked = training_batch(reader, conversations), prompt_batch(reader, conversations)
    for row in range(3):
        prompt = asked["input_ids"][row][asked["attention_mask"][row] == 1].tolist()
        whole = trained["input_ids"][row].tolist()
        assert whole[: len(prompt)] == prompt
        assert int((trained["labels"][row] != X).nonzero()[0]) == len(prompt)


def test_a_blank_picture_has_the_same_size_and_no_content(trial: Trial):
    conversations = list(read_conversations(conversations_path(trial.chat, "train")))[:2]
    seen, blank = (prompt_batch(_reader(trial), conversations, condition) for condition in ("as_is", "blank_image"))
    assert torch.equal(seen["input_ids"], blank["input_ids"])
    assert seen["pixel_values"].std(dim=0).max() > 0.1
    assert blank["pixel_values"].std(dim=0).max() < 1e-6


def test_noise_has_the_same_size_no_content_and_is_always_the_same(trial: Trial):
    conversations = list(read_conversations(conversations_path(trial.chat, "train")))[:2]
    noise, again, seen = (prompt_batch(_reader(trial), conversations, condition) for condition in ("noise_image", "noise_image", "as_is"))
    assert torch.equal(noise["pixel_values"], again["pixel_values"])
    assert noise["pixel_values"].shape == seen["pixel_values"].shape
    assert torch.equal(noise["input_ids"], seen["input_ids"])
    first, second = noise["pixel_values"].chunk(2)
    assert not torch.equal(first, second)


def test_a_text_only_conversation_is_a_batch_too(trial: Trial):
    messages = (
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "Yes"}]},
    )
    batch = training_batch(_reader(trial), [Conversation(pair_id="x", image_ids=(), messages=messages)])
    assert "pixel_values" not in batch
    assert int((batch["labels"] != X).sum()) == len(b"Yes") + 1


@pytest.mark.parametrize("family", ["qwen2_5_vl", "mllama", "llava_med"])
@pytest.mark.parametrize("height, width", [(40, 60), (3, 90), (90, 3), (1, 1), (900, 700)])
def test_pixels_are_seen_as_the_picture_that_they_are(family: Family, height: int, width: int, tmp_path: Path):
    """A picture of three rows is no picture of three colours."""
    write_base(tmp_path, tiny_model(family))
    processor = PROCESSORS[family](tmp_path, max_pixels=tiny_model(family).max_pixels)
    prompts = read_prompt_format(tmp_path)
    pixels = np.random.RandomState(7).randint(0, 256, (height, width, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    conversation = Question.of("What?", [b""]).conversation(("one",))
    batch = prompt_batch(Reader(processor=processor, prompts=prompts, images=Uploads({"one": stream.getvalue()})), [conversation])
    text = render_opening(prompts, split_answer(conversation.messages)[0])
    as_picture = dict(processor(text=[text], images=[Image.fromarray(pixels)], add_special_tokens=False, return_tensors="pt"))
    assert set(batch) == set(as_picture)
    assert all(torch.equal(batch[name], tensor) for name, tensor in as_picture.items())
