"""Plain transformers and PEFT on an exported folder. If these passed wrongly, an adapter could be published that loads and does nothing, as
published reports tell of many, or a projector that was trained whole be left behind.
"""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from medvl_lib.chat import Conversation, single_turn
from medvl_lib.evaluation.answering import Speaker
from medvl_lib.evaluation.parity import Answers, Heard
from medvl_lib.export import plain
from medvl_lib.export.plain import Loadable
from medvl_lib.files import read_json
from medvl_lib.hardware import PROFILES
from medvl_lib.images import ImageStore
from medvl_lib.lines import DOCUMENTS, IMAGING, RADIOLOGY, Line, tiny
from medvl_lib.models import exporting
from medvl_lib.models.loading import attach, load
from medvl_lib.models.preparing import write_base, write_quantized
from medvl_lib.pages import text_page
from medvl_lib.training.route import adapt
from tests.torch_fixtures import STYLE

# Each form is asked by a process of its own, which loads torch: one family waits for the long tests.
LINES = [
    pytest.param(DOCUMENTS, marks=pytest.mark.slow), pytest.param(IMAGING, marks=pytest.mark.soak),
    pytest.param(RADIOLOGY, marks=pytest.mark.slow),
]  # fmt: skip
CPU = replace(PROFILES["cpu"], prediction_batch=1)
QUESTION = "List every term with its value and unit."
MAX_TOKENS = 24


class Shop(NamedTuple):
    """A line's small base model, an adapter that says something else, what was exported of them, and some pages."""

    line: Line
    base: Path
    nf4: Path
    adapter: Path
    root: Path
    images: ImageStore
    conversations: list[Conversation]

    def loadable(self, folder: str) -> Loadable:
        is_adapter = folder == "adapter"
        return Loadable(
            folder=folder, family=self.line.model.family, weights="base" if is_adapter else folder, revision="", is_adapter=is_adapter,
            is_packed=is_adapter, device="cpu", lora_rank=32, dtype="float32",
        )  # fmt: skip

    def plain(self, folder: str) -> Answers:
        return plain.answers(self.root, self.loadable(folder), self.conversations, self.images, CPU)

    def own(self, weights: Path, adapter: Path | None = None) -> Answers:
        loaded = load(weights, self.line.model, CPU)
        loaded = loaded if adapter is None else attach(loaded, {"one": adapter})
        speaker = Speaker(
            variant="adapter", condition="as_is", loaded=loaded, evaluation=replace(self.line.evaluation, max_answer_tokens=MAX_TOKENS),
            images=self.images, profile=CPU, adapter=None if adapter is None else "one",
        )  # fmt: skip
        return {row.pair_id: Heard(row.answer, 1) for row in speaker.answers([self.conversations])}


def _adapter(line: Line, base: Path, directory: Path) -> None:
    """Weights that were not trained and say something else: a large update, and another projector where that is trained whole."""
    torch.manual_seed(5)
    model: Any = adapt(load(base, line.model, CPU), line.model, line.stages[-1].recipe)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * (0.02 if "lora" in name else 0.2 * float(parameter.std())))
    model.save_pretrained(directory, save_embedding_layers=False)


@pytest.fixture(scope="module", params=LINES, ids=lambda line: line.model.family)
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    line, root = tiny(request.param), tmp_path_factory.mktemp("shop")
    images = ImageStore(root / "images")
    for name in ("first", "four", "made", "export"):
        (root / name).mkdir()
    write_base(root / "first", line.model)
    write_quantized(root / "four", root / "first", "nf4", line.model, CPU)
    _adapter(line, root / "first", root / "made")
    export = root / "export"
    for name in ("base", "adapter", "merged"):
        (export / name).mkdir()
    exporting.copy_weights(export / "base", root / "first")
    exporting.write_adapter(export / "adapter", root / "made", root / "first", "base", None)
    exporting.write_merged_16bit(export / "merged", root / "first", root / "made", line.model, CPU)
    for name in ("base", "adapter", "merged"):
        exporting.write_how_it_is_asked(export / name, root / "first", line.model, MAX_TOKENS)
    seen = [images.put(text_page([f"Sodium: {number} mmol/L", "Potassium: 4.1 mmol/L"], STYLE)) for number in (139, 141)]
    conversations = [
        single_turn("one", image_ids=(seen[0],), request=QUESTION, response=""),
        single_turn("two", image_ids=tuple(seen), request="描述这张图片。", response=""),
    ]
    return Shop(line, root / "first", root / "four", root / "made", export, images, conversations)


@pytest.fixture(scope="module")
def judged(shop: Shop) -> Answers:
    """What MedVL says with the adapter on four bits."""
    return shop.own(shop.nf4, shop.adapter)


def test_the_adapter_on_four_bits_says_what_medvl_says(shop: Shop, judged: Answers) -> None:
    assert judged != shop.own(shop.nf4)  # or the adapter could be left out unseen
    assert shop.plain("adapter") == judged


def test_the_merged_weights_say_what_medvl_says_of_them(shop: Shop) -> None:
    wanted = shop.own(shop.root / "merged")
    assert wanted != shop.own(shop.base)
    assert shop.plain("merged") == wanted
    assert {str(tensor.dtype) for path in (shop.root / "merged").glob("*.safetensors") for tensor in load_file(path).values()} == {
        "torch.bfloat16"
    }


def test_the_lines_of_the_card_run_as_they_stand(shop: Shop, judged: Answers, tmp_path: Path) -> None:
    text = plain.lines(shop.loadable("adapter"))
    given = next(line for line in text.splitlines() if line.startswith("pictures, question ="))
    assert QUESTION in given
    Image.open(shop.images.path(shop.conversations[0].image_ids[0])).convert("RGB").save(tmp_path / "page.png")
    text = text.replace('"page.png"', repr(str(tmp_path / "page.png")))
    said = subprocess.run(
        [sys.executable, "-I", "-c", f"{plain.BARRED}\n{text}\nassert not [name for name in sys.modules if name.startswith('medvl')]"],
        cwd=shop.root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    assert said.stdout == judged["one"].answer + "\n"


@pytest.mark.slow
def test_medvl_cannot_be_imported_there() -> None:
    said = subprocess.run([sys.executable, "-I", "-c", f"{plain.BARRED}\nimport medvl_lib"], capture_output=True, text=True, check=False)
    assert "medvl_lib is not to be imported here" in said.stderr


def test_a_part_of_the_adapter_that_is_lost_is_seen(shop: Shop, judged: Answers) -> None:
    """The damage that the comparison is there for: it loads, and nothing stops anybody."""
    path = shop.root / "adapter" / "adapter_model.safetensors"
    whole: Mapping[str, torch.Tensor] = load_file(path)
    part = "multi_modal_projector" if shop.line.stages[-1].recipe.fully_trained else "lora_B"
    left = {name: torch.zeros_like(tensor) if part in name else tensor for name, tensor in whole.items()}
    assert any(part in name for name in whole)
    try:
        save_file(left, path, metadata={"format": "pt"})
        assert shop.plain("adapter") != judged
    finally:
        save_file(dict(whole), path, metadata={"format": "pt"})


def test_nothing_of_medvl_or_this_machine_lies_in_a_folder(shop: Shop) -> None:
    names = {path.name for path in shop.root.rglob("*") if path.is_file()}
    assert not names & {"provenance.json", "verdicts.json", "training.json", "origin.json"}
    assert {path.suffix for path in shop.root.rglob("*") if path.is_file()} <= {".json", ".safetensors", ".jinja"}
    texts = "".join(path.read_text() for path in shop.root.rglob("*.json"))
    assert str(shop.base.parent) not in texts
    assert read_json(shop.root / "adapter" / "adapter_config.json")["base_model_name_or_path"] == "base"
    assert not (shop.root / "adapter" / "config.json").exists()


def test_a_published_base_is_named_with_its_commit(shop: Shop, tmp_path: Path) -> None:
    exporting.write_adapter(tmp_path, shop.adapter, shop.base, DOCUMENTS.model.hub_id, DOCUMENTS.model.revision)
    config = read_json(tmp_path / "adapter_config.json")
    assert (config["base_model_name_or_path"], config["revision"]) == (DOCUMENTS.model.hub_id, DOCUMENTS.model.revision)
    assert config["modules_to_save"] == (["multi_modal_projector"] if shop.line.model.family == "llava_med" else None)
