"""The text a model reads. If these passed wrongly, training, audit and evaluation would each see another text, and a mask would cover
the wrong words.
"""

import json
from pathlib import Path

import pytest

from medvl_lib.errors import MedVLError
from medvl_lib.prompts import compile_template, expand_images, read_prompt_format, render_prompt, render_target, split_answer

TEMPLATE = """\
{%- for message in messages %}
{%- if loop.first and message['role'] != 'system' %}<|im_start|>system
You are a helpful assistant.<|im_end|>
{% endif %}<|im_start|>{{ message['role'] }}
{% for part in message['content'] %}
    {%- if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}
{%- endfor %}<|im_end|>
{% endfor %}
{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}
"""
MESSAGES = (
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Which organ is this?"}]},
    {"role": "assistant", "content": [{"type": "text", "text": "Lung"}]},
)
PROMPT = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>"
    "Which organ is this?<|im_end|>\n<|im_start|>assistant\n"
)


def model_directory(path: Path, **tokenizer_config: object) -> Path:
    added = [{"id": 0, "content": "<|endoftext|>"}, {"id": 2, "content": "<|im_end|>"}, {"id": 5, "content": "<|image_pad|>"}]
    (path / "config.json").write_text(json.dumps({"image_token_id": 5}))
    (path / "tokenizer.json").write_text(json.dumps({"added_tokens": added}))
    (path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>", **tokenizer_config}))
    return path


def test_the_prompt_ends_where_the_answer_begins(tmp_path):
    prompt_format = read_prompt_format(model_directory(tmp_path, chat_template=TEMPLATE))
    before, answer = split_answer(MESSAGES)
    assert render_prompt(prompt_format, before) == PROMPT
    assert render_target(prompt_format, answer) == "Lung<|im_end|>"
    assert (prompt_format.image_token, prompt_format.image_token_id) == ("<|image_pad|>", 5)


def test_the_rendering_is_that_of_transformers(tmp_path):
    from transformers.utils.chat_template_utils import render_jinja_template

    before, _ = split_answer(MESSAGES)
    theirs, _ = render_jinja_template([list(before)], chat_template=TEMPLATE, add_generation_prompt=True)
    assert theirs == [render_prompt(read_prompt_format(model_directory(tmp_path, chat_template=TEMPLATE)), before)]


def test_special_tokens_may_be_objects_and_switches_are_no_tokens(tmp_path):
    config = {"eos_token": {"content": "<|im_end|>", "lstrip": False}, "add_bos_token": True, "bos_token": None, "chat_template": TEMPLATE}
    assert read_prompt_format(model_directory(tmp_path, **config)).special_tokens == {"eos_token": "<|im_end|>"}


def test_the_template_of_its_own_file_wins_over_the_one_in_the_tokenizer(tmp_path):
    model_directory(tmp_path, chat_template="old")
    (tmp_path / "chat_template.json").write_text('{"chat_template": "newer"}')
    (tmp_path / "chat_template.jinja").write_text("newest")
    assert render_prompt(read_prompt_format(tmp_path), ()) == "newest"


def test_a_template_cannot_print_the_date_nor_reach_the_machine():
    text = "{% if strftime_now is defined %}{{ strftime_now('%d') }}{% else %}26 Jul 2024{% endif %}"
    assert compile_template(text).render() == "26 Jul 2024"
    with pytest.raises(Exception, match="unsafe"):
        compile_template("{{ ''.__class__.__mro__ }}").render()


def test_a_generation_block_is_written_out():
    assert compile_template("a{% generation %}b{% endgeneration %}c").render() == "abc"


def test_each_placeholder_becomes_the_tokens_of_its_own_picture():
    assert expand_images("<i> and <i>.", "<i>", [3, 1]) == "<i><i><i> and <i>."
    assert expand_images("no picture", "<i>", []) == "no picture"


def test_a_placeholder_too_many_or_too_few_is_left_for_the_audit_to_find():
    assert expand_images("<i> <i>", "<i>", [2]) == "<i><i> <i>"
    assert expand_images("<i>", "<i>", [2, 9]) == "<i><i>"


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_an_incomplete_model_directory_is_refused_by_the_missing_file(tmp_path, file):
    model_directory(tmp_path, chat_template=TEMPLATE)
    (tmp_path / file).unlink()
    with pytest.raises(MedVLError, match=f"no {file}"):
        read_prompt_format(tmp_path)


def test_a_conversation_without_an_answer_is_refused():
    with pytest.raises(MedVLError, match="role 'user'"):
        split_answer(MESSAGES[:1])
