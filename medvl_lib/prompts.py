"""Prompts: the exact text that a model reads and the exact text that it should write.

In: a model directory (its chat template and special tokens) and messages. Out: text. The whole text of a conversation is

    render_prompt(messages)  +  answer  +  eos token
    `-- read, never trained on --'  `-- trained on --'

and this is the only place that says so: the audit counts with these functions, training masks with them, evaluation generates from the
first part. Turning text into tokens or tensors does not belong here.
Source of the rendering: transformers 5.23, utils/chat_template_utils.py, ``_cached_compile_jinja_template`` and ``render_jinja_template``.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, cast

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from medvl_lib.chat import Message
from medvl_lib.errors import MedVLError
from medvl_lib.files import read_json

REVISION = 1  # first version
IMAGE_TOKEN_KEYS = ("image_token_id", "image_token_index")  # as config.json of one family or another calls it
TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json", "tokenizer_config.json")  # in the order in which transformers looks


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptFormat:
    """How a model directory wants conversations written."""

    template: jinja2.Template
    special_tokens: Mapping[str, str]
    """``eos_token``, ``bos_token``, ...: what a template may name."""
    eos_token: str
    image_token: str
    """The placeholder that the template writes once per picture."""
    image_token_id: int
    added_tokens: tuple[str, ...]
    """Texts that become one token wherever they stand."""


def read_prompt_format(model_directory: Path) -> PromptFormat:
    """The template and special tokens of a model directory; raises MedVLError naming the file that lacks one."""
    tokenizer_config = _read(model_directory / "tokenizer_config.json")
    added = {int(token["id"]): str(token["content"]) for token in _read(model_directory / "tokenizer.json")["added_tokens"]}
    special_tokens = {key: text for key, token in tokenizer_config.items() if key.endswith("_token") and (text := _token_text(token))}
    config = _read(model_directory / "config.json")
    image_token_key = next((key for key in IMAGE_TOKEN_KEYS if key in config), IMAGE_TOKEN_KEYS[0])
    image_token_id = _need(config, image_token_key, model_directory / "config.json")
    return PromptFormat(
        template=compile_template(_template_text(model_directory)),
        special_tokens=special_tokens,
        eos_token=_need(special_tokens, "eos_token", model_directory / "tokenizer_config.json"),
        image_token=_need(added, image_token_id, model_directory / "tokenizer.json"),
        image_token_id=image_token_id,
        added_tokens=tuple(added.values()),
    )


def _token_text(token: Any) -> str | None:
    """A special token's text; None where there is none, and for switches such as ``add_bos_token``."""
    text = cast("dict[str, Any]", token)["content"] if isinstance(token, dict) else token
    return text if isinstance(text, str) else None


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise MedVLError(found=f"no {path.name}", where=str(path.parent), do="point to a complete model directory in the hub's layout")
    return read_json(path)


def _need(values: Mapping[Any, Any], key: object, path: Path) -> Any:
    if key not in values:
        raise MedVLError(
            found=f"no {key!r}", where=str(path), do="take this file from the model's own repository, at the revision of its weights"
        )
    return values[key]


def _template_text(model_directory: Path) -> str:
    for path in (model_directory / name for name in TEMPLATE_FILES if (model_directory / name).is_file()):
        if path.suffix == ".jinja":
            return path.read_text(encoding="utf-8")
        if isinstance(template := read_json(path).get("chat_template"), str):
            return template
    raise MedVLError(found="no chat template", where=str(model_directory), do=f"add {TEMPLATE_FILES[0]} from the model's own repository")


class _GenerationBlock(jinja2.ext.Extension):
    """``{% generation %}`` marks the assistant's text for transformers; here it only has to be written out."""

    tags = {"generation"}  # noqa: RUF012 (jinja2's own interface)

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def compile_template(text: str) -> jinja2.Template:
    """A chat template as transformers compiles it: sandboxed, since templates from the hub are foreign code.

    One difference is meant: ``strftime_now`` is not offered, so a template that would print today's date prints its fixed one.
    """
    environment = ImmutableSandboxedEnvironment(  # the result is a prompt, not a page: nothing is escaped
        trim_blocks=True, lstrip_blocks=True, autoescape=False, extensions=[_GenerationBlock, "jinja2.ext.loopcontrols"]
    )  # fmt: skip
    environment.filters["tojson"] = _to_json
    return environment.from_string(text, globals={"raise_exception": _raise_exception})


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def split_answer(messages: Sequence[Message]) -> tuple[Sequence[Message], str]:
    """What comes before the answer, and the answer: the text of the last message, which is the assistant's."""
    *before, last = messages
    if last["role"] != "assistant":
        raise MedVLError(found=f"a last message of role {last['role']!r}", where="a conversation", do="end it with the assistant's answer")
    return before, "".join(part.get("text", "") for part in last["content"])


def render_prompt(prompt_format: PromptFormat, messages: Sequence[Message]) -> str:
    """The text up to and including the words that open the assistant's turn; ``messages`` are those before the answer."""
    return prompt_format.template.render(
        messages=list(messages), tools=None, documents=None, add_generation_prompt=True, **prompt_format.special_tokens
    )


def render_opening(prompt_format: PromptFormat, messages: Sequence[Message]) -> str:
    """The prompt as an answer is generated from it: without blanks at its end.

    A tokenizer of words (SentencePiece) writes the blank before an answer into the answer's first token: alone at the end of a prompt it
    would be a token that stands nowhere in training.
    """
    return render_prompt(prompt_format, messages).rstrip(" ")


def render_target(prompt_format: PromptFormat, answer: str) -> str:
    """The text that is trained on: the answer and the token that ends it."""
    return answer + prompt_format.eos_token


def expand_images(text: str, image_token: str, num_tokens: Sequence[int]) -> str:
    """The n-th placeholder becomes as many as the n-th picture has tokens; one without a picture stays as it is."""
    head, *tails = text.split(image_token)
    counts = [*num_tokens[: len(tails)], *[1] * (len(tails) - len(num_tokens))]
    return head + "".join(image_token * count + tail for count, tail in zip(counts, tails, strict=True))
