"""The audit. If these passed wrongly, cut answers, missing image tokens or illegible pages would be noticed only after hours of training,
or never.
"""

import io
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from medvl_lib import audit as room
from medvl_lib.audit import AUDIT, EXAMPLES, AuditExample, AuditRow, AuditSpec, write_audit
from medvl_lib.chat import read_conversations, write_chat
from medvl_lib.errors import MedVLError
from medvl_lib.evaluation.predictions import REFERENCES, Reference
from medvl_lib.files import read_json, write_json
from medvl_lib.images import ImageStore
from medvl_lib.pairs import PAIRS, Pair
from medvl_lib.prompts import read_prompt_format
from medvl_lib.split import SplitSpec, write_split
from medvl_lib.tables import read_table, write_table
from medvl_lib.tokenization import TokenizedPicture
from tests.broken import offenders

SPEC = AuditSpec(max_tokens=200, min_glyph_height_pixels=5.0)
MAX_PIXELS = 28 * 28 * 20
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
TEMPLATE = """\
{% for message in messages %}<|im_start|>{{ message['role'] }}
{% for part in message['content'] %}
{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}
{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def write_model(directory: Path, merges: list[tuple[str, str]] | None = None, *, unknown: str = "", template: str = TEMPLATE) -> Path:
    """A model directory in the hub's layout without weights: one byte is one token, but for ``merges`` and ``unknown`` ones."""
    alphabet = sorted(set(pre_tokenizers.ByteLevel.alphabet()) - set(unknown))
    vocabulary = {symbol: index for index, symbol in enumerate([*alphabet, *("".join(pair) for pair in merges or [])])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges or []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    directory.mkdir(exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    write_json(directory / "tokenizer_config.json", {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"})
    write_json(directory / "config.json", {"model_type": "qwen2_5_vl", "image_token_id": tokenizer.token_to_id("<|image_pad|>")})
    size = {"shortest_edge": 56 * 56, "longest_edge": 12_845_056}
    write_json(directory / "preprocessor_config.json", {"patch_size": 14, "merge_size": 2, "size": size})
    (directory / "chat_template.jinja").write_text(template)
    return directory


def picture(store: ImageStore, width: int, height: int, *, is_on_its_side: bool = False) -> str:
    image, stream = Image.new("L", (width, height), 200), io.BytesIO()
    exif = image.getexif()
    if is_on_its_side:
        exif[0x0112] = 6  # orientation: turn by 90 degrees to see it upright
    image.save(stream, "JPEG", exif=exif)
    return store.put(stream.getvalue())


def pair(number: int, *image_ids: str, **changes: object) -> Pair:
    values = {
        "pair_id": f"slake/{number:06d}", "dataset": "slake", "image_ids": image_ids, "request": "Which organ is this?", "response": "Lung",
        "expected": (), "subject_id": f"p{number}", "document_id": f"case-{number}", "publisher_split": "train", "language": "en",
        "source": f"row {number}", "licence": "CC-BY-4.0", "metadata": {"glyph_height_pixels": "12"},
    }  # fmt: skip
    return Pair(**{**values, **changes})


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images")


def chat(root: Path, *pairs: Pair) -> Path:
    for step in ("validated", "split", "chat"):
        (root / step).mkdir()
    write_table(root / "validated" / PAIRS, Pair, pairs)
    write_split(root / "split", {"slake": root / "validated"}, SplitSpec(seed=1, validation_share=0.1, test_share=0.1))
    write_chat(root / "chat", root / "split", {"slake": root / "validated"})
    return root / "chat"


def written(root: Path, store: ImageStore, *pairs: Pair, spec: AuditSpec = SPEC, merges: list[tuple[str, str]] | None = None) -> Path:
    (root / "audit").mkdir()
    write_audit(root / "audit", chat(root, *pairs), write_model(root / "model", merges), store, spec, max_pixels=MAX_PIXELS)
    return root / "audit"


def rows(directory: Path) -> list[AuditRow]:
    return list(read_table(directory / AUDIT, AuditRow))


failing = partial(offenders, room.RULES)


def test_a_conversation_is_counted_token_by_token(tmp_path, store):
    scan = picture(store, 224, 168)
    seen = TokenizedPicture(image_id=scan, width_pixels=224, height_pixels=168, seen_width_pixels=140, seen_height_pixels=84, num_tokens=15)
    # <|im_start|>user\n 6, <|vision_start|> and <|vision_end|> 2, picture 15, question 20, <|im_end|>\n 2, <|im_start|>assistant\n 11
    assert rows(written(tmp_path, store, pair(1, scan))) == [
        AuditRow(
            pair_id="slake/000001", dataset="slake", split="train", num_tokens=61, num_prompt_tokens=56, num_target_tokens=5,
            has_exact_target=True, num_image_tokens=15, num_foreign_special_tokens=0, num_lost_texts=0, glyph_height_pixels=6.0,
            pictures=(seen,),
        )
    ]  # fmt: skip


def test_the_facts_add_up_what_the_rows_say(tmp_path, store):
    page, scan = picture(store, 112, 112), picture(store, 84, 56)
    pairs = chat(tmp_path, pair(1, page), pair(2, scan, response="Left lung", publisher_split="test"), pair(3, scan, scan))
    facts = write_audit(tmp_path, pairs, write_model(tmp_path / "model"), store, SPEC, max_pixels=MAX_PIXELS)
    assert facts == {
        "num_conversations": 3, "num_tokens": 62 + 57 + 60, "num_image_tokens": 16 + 6 + 12, "num_target_tokens": 5 + 10 + 5,
        "longest_tokens": 62, "smallest_glyph_pixels": 12.0, "shortest_example": "slake/000002", "longest_example": "slake/000001",
        "most_image_tokens_example": "slake/000003",  # the next one: 000001 is an example already
    }  # fmt: skip


def examples(directory: Path) -> list[AuditExample]:
    return list(read_table(directory / EXAMPLES, AuditExample))


def test_an_example_is_shown_as_the_model_reads_it(tmp_path, store):
    [example] = examples(written(tmp_path, store, pair(1, picture(store, 224, 168), picture(store, 56, 56), request="Größe? µ")))
    assert example == AuditExample(
        pair_id="slake/000001", dataset="slake", split="train", licence="CC-BY-4.0",
        chosen_for="shortest", num_prompt_tokens=53, num_target_tokens=5,
        prompt="<|im_start|>user\n<|vision_start|><|image_pad|> x 15<|vision_end|><|vision_start|><|image_pad|> x 4<|vision_end|>"
        "Größe? µ<|im_end|>\n<|im_start|>assistant\n",
        target="Lung<|im_end|>", pictures="224 x 168 -> 140 x 84, 15 tokens; 56 x 56 -> 56 x 56, 4 tokens",
    )  # fmt: skip


def test_three_examples_are_distinct_and_say_what_they_were_chosen_for(tmp_path, store):
    page, scan = picture(store, 112, 112), picture(store, 56, 56)
    sizes = (
        pair(1, page, response="Lung " * 20),
        pair(2, page),
        pair(3, scan, publisher_split="test"),
        pair(4, response="Left lung"),
        pair(5),
    )
    found = examples(written(tmp_path, store, *sizes))
    assert [(each.pair_id, each.chosen_for) for each in found] == [
        ("slake/000005", "shortest"), ("slake/000001", "longest"), ("slake/000002", "most_image_tokens"),  # 000001 has as many
    ]  # fmt: skip


def test_fewer_conversations_are_all_examples(tmp_path, store):
    directory = written(tmp_path, store, pair(1), pair(2, response="Left lung"))
    assert [(each.pair_id, each.chosen_for) for each in examples(directory)] == [("slake/000001", "shortest"), ("slake/000002", "longest")]
    assert failing(directory) == {}


def test_the_counts_are_those_of_the_batch_that_is_trained_on(tmp_path, store):
    from medvl_lib.batches import IGNORE_INDEX, Reader, training_batch
    from medvl_lib.models.qwen2_5_vl import load_processor

    scan = picture(store, 224, 168)
    directory = written(tmp_path, store, pair(1, scan, request="Größe? µ", response="4,1 µmol/l"), pair(2, scan, picture(store, 56, 90)))
    reader = Reader(
        processor=load_processor(tmp_path / "model", max_pixels=MAX_PIXELS), prompts=read_prompt_format(tmp_path / "model"), images=store
    )
    batch = training_batch(reader, list(read_conversations(tmp_path / "chat" / "train.jsonl")))
    image_tokens = batch["input_ids"] == reader.prompts.image_token_id
    made = [batch["attention_mask"], batch["labels"] != IGNORE_INDEX, image_tokens]
    assert [tensor.sum(dim=1).tolist() for tensor in made] == [
        [row.num_tokens for row in rows(directory)],
        [row.num_target_tokens for row in rows(directory)],
        [row.num_image_tokens for row in rows(directory)],
    ]


def test_a_truncation_left_in_the_tokenizer_file_cuts_no_count(tmp_path, store):
    model = write_model(tmp_path / "model")
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.enable_truncation(16)
    tokenizer.save(str(model / "tokenizer.json"))
    write_audit(tmp_path, chat(tmp_path, pair(1)), model, store, SPEC, max_pixels=MAX_PIXELS)
    assert rows(tmp_path)[0].num_tokens == 44


def test_a_picture_on_its_side_is_measured_upright(tmp_path, store):
    (row,) = rows(written(tmp_path, store, pair(1, picture(store, 140, 56, is_on_its_side=True))))
    assert (row.pictures[0].width_pixels, row.pictures[0].height_pixels) == (56, 140)


def test_unknown_letter_heights_stay_unknown(tmp_path, store):
    unknown = pair(1, picture(store, 56, 56), metadata={}), pair(2)
    directory = written(tmp_path, store, *unknown)
    assert [row.glyph_height_pixels for row in rows(directory)] == [None, None]
    assert failing(directory) == {}


def test_more_conversations_than_fit_a_batch_keep_their_own_letters(tmp_path, store, monkeypatch):
    monkeypatch.setattr("medvl_lib.audit.BATCH_CONVERSATIONS", 2)
    page = picture(store, 56, 56)
    directory = written(tmp_path, store, *(pair(number, page, metadata={"glyph_height_pixels": str(number + 6)}) for number in range(5)))
    assert [(row.pair_id, row.glyph_height_pixels) for row in rows(directory)] == [(f"slake/{n:06d}", n + 6.0) for n in range(5)]


def test_a_sound_audit_passes_every_rule(tmp_path, store):
    assert failing(written(tmp_path, store, pair(1, picture(store, 112, 112)), pair(2, publisher_split="test"))) == {}


@pytest.mark.parametrize(
    ("changes", "size", "rules"),
    [
        ({"response": "Lung " * 40}, (56, 56), {"nothing_is_truncated"}),
        ({"request": "What is <|image_pad|>?"}, (56, 56), {"image_tokens_are_present_and_complete", "texts_hold_no_special_tokens"}),
        ({"response": "Lung<|im_end|>"}, (56, 56), {"texts_hold_no_special_tokens"}),
        ({"metadata": {"glyph_height_pixels": "9"}}, (448, 336), {"text_is_legible"}),
        ({}, (1900, 28), {"pictures_are_within_the_pixel_budget"}),
    ],
)
def test_what_a_model_should_not_see_breaks_its_rules(tmp_path, store, changes, size, rules):
    directory = written(tmp_path, store, pair(1, picture(store, 56, 56)), pair(2, picture(store, *size), **{"metadata": {}, **changes}))
    assert failing(directory) == dict.fromkeys(rules, ("slake/000002",))


def test_conversations_that_are_too_long_are_told_with_what_lets_them_pass_and_what_leaves_them_out(tmp_path, store):
    page = picture(store, 56, 56)
    long = {"response": "Lung " * 40}
    directory = written(tmp_path, store, pair(1, page), pair(2, *[page] * 3, **long), pair(3, *[page] * 2, **long), pair(4, page, **long))
    *others, last_one = rows(directory)
    write_table(directory / AUDIT, AuditRow, [*others, replace(last_one, dataset="roco")])
    [said] = [each.holds(directory).found for each in room.RULES if each.name == "nothing_is_truncated"]
    assert said == (
        f"3 conversations are longer than {SPEC.max_tokens} tokens; "
        "1 of roco, of 1 pictures or more: a lower max_response_characters or max_request_characters in [datasets.roco.limits] leaves "
        "them out; 2 of slake, of 2 pictures or more: max_images = 1 in [datasets.slake.limits] leaves them out; "
        f"max_tokens = {max(row.num_tokens for row in others)} in the line's audit lets all of them pass, where the model and the memory "
        "have room for it"
    )


@pytest.mark.parametrize("merges", [[("Ċ", "L")], [("Ċ", "L"), ("L", "u")]])  # with the second one all counts add up
def test_an_answer_whose_first_letter_is_joined_to_the_prompt_is_found(tmp_path, store, merges):
    directory = written(tmp_path, store, pair(1), merges=merges)
    assert failing(directory) == {"answers_begin_at_a_token": ("slake/000001",)}


MICRO = "Âµ"  # the two bytes of a µ, as a byte-level tokenizer writes them


@pytest.mark.parametrize("lossy", [{"unknown": MICRO}, {"template": TEMPLATE.replace("part['text']", "part['text'] | replace('µ', 'u')")}])
@pytest.mark.parametrize("changes", [{"request": "How many µmol?"}, {"response": "4 µmol"}])
def test_a_text_that_its_tokens_no_longer_say_is_found(tmp_path, store, lossy, changes):
    model = write_model(tmp_path / "model", **lossy)
    write_audit(tmp_path, chat(tmp_path, pair(1), pair(2, picture(store, 56, 56), **changes)), model, store, SPEC, max_pixels=MAX_PIXELS)
    is_lost = "request" in changes or "unknown" in lossy  # the template writes no answer
    assert failing(tmp_path) == ({"texts_survive_the_tokenizer": ("slake/000002",)} if is_lost else {})
    assert any("µ" not in each.prompt + each.target for each in examples(tmp_path) if each.pair_id == "slake/000002") == is_lost


def test_a_template_that_asks_nothing_is_found_in_every_conversation(tmp_path, store):
    model = write_model(tmp_path / "model", template=TEMPLATE.replace("{{ part['text'] }}", ""))
    write_audit(tmp_path, chat(tmp_path, pair(1), pair(2)), model, store, SPEC, max_pixels=MAX_PIXELS)
    assert failing(tmp_path) == {"texts_survive_the_tokenizer": ("slake/000001", "slake/000002")}


def test_a_letter_that_the_tokenizer_composes_is_the_same_letter(tmp_path, store):
    model = write_model(tmp_path / "model")
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.normalizer = normalizers.NFC()  # as Qwen's
    tokenizer.save(str(model / "tokenizer.json"))
    decomposed = pair(1, request="Gro\u0308ße?", response="Ha\u0308matom")
    write_audit(tmp_path, chat(tmp_path, decomposed), model, store, SPEC, max_pixels=MAX_PIXELS)
    assert failing(tmp_path) == {}
    assert examples(tmp_path)[0].target == "Hämatom<|im_end|>"


def test_references_of_another_chat_are_refused(tmp_path, store):
    pairs = chat(tmp_path, pair(1), pair(2))
    write_table(pairs / REFERENCES, Reference, list(read_table(pairs / REFERENCES, Reference))[:1])
    with pytest.raises(MedVLError, match="slake/000001 to slake/000002"):
        write_audit(tmp_path, pairs, write_model(tmp_path / "model"), store, SPEC, max_pixels=MAX_PIXELS)


def test_a_ribbon_is_refused_by_its_picture(tmp_path, store):
    ribbon = picture(store, 2100, 10)
    with pytest.raises(MedVLError, match=rf"2100 x 10 pixels.*\n.*{ribbon}"):
        written(tmp_path, store, pair(1, ribbon))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sound")
    store = ImageStore(root / "images")
    page, scan = picture(store, 112, 112), picture(store, 56, 56)
    shown = pair(1), pair(2, page, request="Which organ is this, and which side?"), pair(3, page)
    return written(root, store, *shown, pair(4, scan, publisher_split="test"))  # the last one is no example


def last(**changes: object) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        *before, row = rows(directory)
        write_table(directory / AUDIT, AuditRow, [*before, replace(row, **changes)])

    return damage


def huge_picture(directory: Path) -> None:
    *before, row = rows(directory)
    write_table(directory / AUDIT, AuditRow, [*before, replace(row, pictures=(replace(row.pictures[0], seen_width_pixels=99_999),))])


def first_example(**changes: object) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        row, *after = examples(directory)
        write_table(directory / EXAMPLES, AuditExample, [replace(row, **changes), *after])

    return damage


def fewer_examples(directory: Path) -> None:
    write_table(directory / EXAMPLES, AuditExample, examples(directory)[1:])


def tighter(**limits: float) -> Callable[[Path], None]:
    return lambda directory: write_json(directory / "spec.json", {**read_json(directory / "spec.json"), **limits})


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        (last(num_image_tokens=3), "image_tokens_are_present_and_complete"),
        (last(pictures=()), "image_tokens_are_present_and_complete"),
        (last(num_target_tokens=1, num_prompt_tokens=49), "every_answer_has_target_tokens"),
        (last(num_prompt_tokens=44), "answers_begin_at_a_token"),
        (last(has_exact_target=False), "answers_begin_at_a_token"),
        (last(num_foreign_special_tokens=1), "texts_hold_no_special_tokens"),
        (last(num_lost_texts=1), "texts_survive_the_tokenizer"),
        (last(glyph_height_pixels=4.9), "text_is_legible"),
        (fewer_examples, "examples_are_of_this_audit"),
        (first_example(pair_id="slake/000002"), "examples_are_of_this_audit"),
        (first_example(dataset="clinical_documents"), "examples_are_of_this_audit"),
        (huge_picture, "pictures_are_within_the_pixel_budget"),
        (tighter(max_tokens=77), "nothing_is_truncated"),
        (tighter(max_pixels=112 * 112 - 1), "pictures_are_within_the_pixel_budget"),
        (tighter(min_glyph_height_pixels=12.1), "text_is_legible"),
    ],
)
def test_damage_breaks_exactly_its_rule(tmp_path, sound, damage, rule):
    directory = shutil.copytree(sound, tmp_path / "audit")
    damage(directory)
    assert list(failing(directory)) == [rule]


@pytest.mark.parametrize("name", [AUDIT, EXAMPLES])
def test_an_added_column_breaks_exactly_its_rule(tmp_path, sound, name):
    directory = shutil.copytree(sound, tmp_path / "audit")
    table = pq.read_table(directory / name)
    pq.write_table(table.append_column("note", table["pair_id"]), directory / name)
    assert failing(directory) == {"columns_are_as_declared": (name,)}


@pytest.mark.parametrize(("name", "value"), [("max_tokens", 0), ("min_glyph_height_pixels", -0.5)])
def test_limits_that_cannot_be_meant_are_refused(name: str, value: float):
    with pytest.raises(ValueError, match=f"{name} = {value}"):
        replace(SPEC, **{name: value})
