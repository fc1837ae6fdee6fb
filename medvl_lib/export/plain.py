"""Plain transformers and PEFT: the lines by which anybody loads what was exported, and a process that runs just these lines.

In: what a folder holds. Out: its lines of Python, for the card; and what these same lines say to some questions, run by a process in which
nothing of MedVL can be imported. No torch here: that process loads it.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from medvl_lib.chat import Conversation
from medvl_lib.errors import HeavyStepFailed
from medvl_lib.evaluation.parity import Answers, Heard
from medvl_lib.hardware import Profile, process_environment
from medvl_lib.images import Pictures, rgb_pixels
from medvl_lib.models.spec import SKIP_MODULES, Family
from medvl_lib.prompts import split_answer

SHOWN_ERROR_LINES = 3
MESSAGES = '[{"role": "user", "content": [*({"type": "image"} for _ in pictures), {"type": "text", "text": question}]}]'
EXACT = "for module in model.modules(): module.support_avx512bf16_for_cpu = False  # some CPUs would round to 16 bits"
OPENED = '[Image.open(path).convert("RGB") for path in pictures]'


@dataclass(frozen=True, slots=True, kw_only=True)
class Loadable:
    """A folder, and what it takes to load it."""

    folder: str
    """Name of the folder, as seen from the one that the lines are run in."""
    family: Family
    weights: str
    """What is loaded as the model: ``folder`` again, or the base that an adapter belongs on: a folder beside it, or an id of the hub."""
    revision: str
    """Commit of ``weights`` on the hub; empty for a folder."""
    is_adapter: bool
    is_packed: bool
    """Whether ``weights`` are packed into four bits while they are loaded, as they were when the adapter was trained."""
    device: str
    lora_rank: int
    """Of the adapter; 0 without one."""
    dtype: str
    """16-bit type of the weights, or float32."""


def imports(what: Loadable) -> list[str]:
    """What the lines need: transformers, and PEFT for an adapter."""
    names = ["AutoModelForImageTextToText", "GenerationConfig"]
    names += ["AutoImageProcessor", "AutoTokenizer"] if what.family == "qwen2_5_vl" else ["AutoProcessor"]
    names += ["BitsAndBytesConfig"] if what.is_packed else []
    return [
        *(["import re"] if what.family == "qwen2_5_vl" else []), "import torch",
        *(["from peft import PeftModel"] if what.is_adapter else []), "from PIL import Image",
        f"from transformers import {', '.join(sorted(names))}",
    ]  # fmt: skip


def loading(what: Loadable) -> list[str]:
    """From the folder to a model that can be asked."""
    at = f', revision="{what.revision}"' if what.revision else ""
    packed = ", quantization_config=four_bits" if what.is_packed else ""
    model = (
        f'AutoModelForImageTextToText.from_pretrained("{what.weights}"{at}, dtype=torch.{what.dtype}, device_map="{what.device}"{packed})'
    )
    four_bits = (
        'four_bits = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, '
        f"bnb_4bit_compute_dtype=torch.{what.dtype}, llm_int8_skip_modules={list(SKIP_MODULES[what.family])})"
    )
    return [
        *([four_bits] if what.is_packed else []),
        f'model = PeftModel.from_pretrained({model}, "{what.folder}").eval()' if what.is_adapter else f"model = {model}.eval()",
        *([EXACT] if what.device == "cpu" else []), _reader(what),
    ]  # fmt: skip


def _reader(what: Loadable) -> str:
    """What turns pictures and text into tensors: Qwen2.5-VL's own processor has a half for videos, which needs torchvision."""
    if what.family == "qwen2_5_vl":
        look = f'AutoImageProcessor.from_pretrained("{what.folder}", backend="pil")'
        return f'tokenizer, look = AutoTokenizer.from_pretrained("{what.folder}"), {look}'
    return f'processor = AutoProcessor.from_pretrained("{what.folder}", backend="pil")'


def asking(what: Loadable) -> list[str]:
    """From ``pictures`` (paths) and ``question`` to ``answer``."""
    call = "model.generate" if what.dtype == "float32" else f'torch.autocast("{what.device}", torch.{what.dtype})(model.generate)'
    settings = f'generation_config=GenerationConfig.from_pretrained("{what.folder}")'
    ids = 'output[0, batch["input_ids"].shape[1]:], skip_special_tokens=True'
    if what.family != "qwen2_5_vl":
        return [
            f"text = processor.apply_chat_template({MESSAGES}, add_generation_prompt=True, tokenize=False)",
            f'batch = processor(text=[text], images=[{OPENED}], add_special_tokens=False, return_tensors="pt").to(model.device)',
            f"output = {call}(**batch, {settings})", f"answer = processor.tokenizer.decode({ids})",
        ]  # fmt: skip
    return [
        f"text = tokenizer.apply_chat_template({MESSAGES}, add_generation_prompt=True, tokenize=False)",
        f'seen = look({OPENED}, return_tensors="pt").to(model.device)',
        'counts = iter((seen["image_grid_thw"].prod(-1) // look.merge_size**2).tolist())',
        'text = re.sub(r"<\\|image_pad\\|>", lambda mark: mark.group() * next(counts), text)',
        'batch = tokenizer(text, add_special_tokens=False, return_tensors="pt").to(model.device)',
        'kinds = (batch["input_ids"] == model.config.image_token_id).int()',
        f"output = {call}(**batch, **seen, mm_token_type_ids=kinds, {settings})", f"answer = tokenizer.decode({ids})",
    ]  # fmt: skip


def lines(what: Loadable) -> str:
    """All of it, for a card."""
    given = 'pictures, question = ["page.png"], "List every term with its value and unit."'
    return "\n".join([*imports(what), "", *loading(what), given, *asking(what), "print(answer)"]) + "\n"


def program(what: Loadable) -> str:
    """The same lines once for many questions: what the process runs."""
    loop = [f"    {line}" for line in asking(what)]
    return "\n".join([
        BARRED, *imports(what), "import json", *loading(what), "said = []",
        "for pictures, question in json.load(open(sys.argv[1])):", *loop, "    said.append(answer)",
        'json.dump(said, open(sys.argv[2], "w"))',
    ]) + "\n"  # fmt: skip


BARRED = """\
import sys
class Barred:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("medvl_lib", "medvl_assets"):
            raise ImportError(name + " is not to be imported here")
sys.meta_path.insert(0, Barred())"""


def answers(root: Path, what: Loadable, conversations: Sequence[Conversation], pictures: Pictures, profile: Profile) -> Answers:
    """What the lines say to each conversation, one at a time; raises HeavyStepFailed where they fail.

    Each picture is a PNG of the very pixels that training and evaluation see.
    """
    with tempfile.TemporaryDirectory(prefix="medvl-export-") as made:
        seen = Path(made)
        asked = [(_drawn(item, pictures, seen / str(number)), _question(item)) for number, item in enumerate(conversations)]
        (seen / "asked.json").write_text(json.dumps(asked), encoding="utf-8")
        ran = subprocess.run(  # noqa: S603 (a program of ours)
            [sys.executable, "-I", "-c", program(what), str(seen / "asked.json"), str(seen / "said.json")], cwd=root,
            capture_output=True, text=True, check=False, env=_environment(profile),
        )  # fmt: skip
        if ran.returncode:
            raise HeavyStepFailed(
                found=f"plain transformers ended with status {ran.returncode}: {' / '.join(ran.stderr.splitlines()[-SHOWN_ERROR_LINES:])}",
                where=str(root / what.folder), do="run the lines of its README.md by hand, from the folder above it",
            )  # fmt: skip
        said: list[str] = json.loads((seen / "said.json").read_text(encoding="utf-8"))
    return {item.pair_id: Heard(text, 1) for item, text in zip(conversations, said, strict=True)}


def _environment(profile: Profile) -> dict[str, str]:
    return {**process_environment(profile), **os.environ, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


def _drawn(conversation: Conversation, pictures: Pictures, folder: Path) -> list[str]:
    folder.mkdir()
    paths = [folder / f"{number}.png" for number, _ in enumerate(conversation.image_ids)]
    for path, image_id in zip(paths, conversation.image_ids, strict=True):
        Image.fromarray(rgb_pixels(pictures.read(image_id))).save(path)
    return [str(path) for path in paths]


def _question(conversation: Conversation) -> str:
    before, _ = split_answer(conversation.messages)
    return "".join(part.get("text", "") for message in before for part in message["content"])
