"""How near a plan comes to what a training really holds: weights, gradients, optimizer and activations, each counted in a real step.

In: nothing but this project's families, built small at three widths with random weights. Out: a table on the terminal; exit status 1 where
a part is more than 15 % away.

    python benchmarks/plan_accuracy.py [--family qwen2_5_vl] [--quick]

Counted: the second micro-batch of an optimizer step of the trainer that every line uses, by a dispatch hook that notes each storage when an
operation makes it and when it is gone; then the optimizer's state after its step. Planned: from config.json and the sizes of the batch.
"""

import argparse
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from medvl_lib import chat, pages
from medvl_lib.hardware import PROFILES, Profile
from medvl_lib.images import ImageStore
from medvl_lib.lines import tiny_model
from medvl_lib.models import mllama, qwen2_5_vl, siglip
from medvl_lib.models.counting import resident_bytes
from medvl_lib.models.preparing import write_quantized
from medvl_lib.models.spec import LANGUAGE_TARGETS, TOWER_TARGETS, Family, ModelSpec
from medvl_lib.pairs import PAIRS, Pair
from medvl_lib.plan.memory import Length, Planner, kinds_of
from medvl_lib.split import SplitRow
from medvl_lib.tables import write_table
from medvl_lib.training.recipe import MatchRecipe, Recipe, Stage
from medvl_lib.training.route import OBJECTIVES, leave_inputs_alone, settle
from medvl_lib.training.work import Material

TOLERANCE = 0.15
PARTS = ("weights", "gradients", "optimizer", "activations")
WIDTHS = (128, 256, 384)
NUM_LINES = (2, 12)  # of an answer: what makes a conversation short or long
PICTURES = {2: (112, 196), 12: (224, 280)}  # height and width of the page, in pixels
BATCHES = (1, 4)


class Counted(NamedTuple):
    """Bytes of each part, planned and in a real step."""

    planned: dict[str, float]
    found: dict[str, float]
    num_tokens: int

    def ratio(self, part: str) -> float:
        """1 where the plan is right."""
        return self.planned[part] / self.found[part]


class Living(TorchDispatchMode):
    """The most bytes alive at once of what operations made while this was on."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {item.untyped_storage()._cdata for item in tree_leaves((args, kwargs)) if isinstance(item, torch.Tensor)}
        made = func(*args, **(kwargs or {}))
        for item in tree_leaves(made):
            if isinstance(item, torch.Tensor) and (key := item.untyped_storage()._cdata) not in self._seen | before:
                num_bytes = item.untyped_storage().nbytes()
                self._seen.add(key)
                self.now += num_bytes
                self.most = max(self.most, self.now)
                weakref.finalize(item.untyped_storage(), self._gone, key, num_bytes)
        return made

    def _gone(self, key: int, num_bytes: int) -> None:
        self._seen.discard(key)
        self.now -= num_bytes


def spec_of(family: Family) -> ModelSpec:
    """The small model's spec, for weights in a directory."""
    return tiny_model(family)


def write_width(directory: Path, family: Family, width: int) -> None:
    """The small model of a family at another width, with random weights."""
    module = {"qwen2_5_vl": qwen2_5_vl, "mllama": mllama, "siglip": siglip}[family]
    shipped = module.tiny_config

    def wider(tokenizer: Any) -> Any:
        values = shipped(tokenizer).to_dict()
        text, vision = values["text_config"], values["vision_config"]
        heads = width // 64
        text |= {"hidden_size": width, "intermediate_size": width * 5 // 2, "num_attention_heads": heads}
        if family == "siglip":
            vision |= {"hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": heads}
            text |= {"projection_size": width}
        else:
            text |= {"num_key_value_heads": max(1, heads // 2)}
        if family == "qwen2_5_vl":
            vision["out_hidden_size"] = width
            text.pop("layer_types", None)
        return type(shipped(tokenizer))(**values)

    module.tiny_config = wider
    try:
        module.write_tiny(directory, seed=1, max_pixels=spec_of(family).max_pixels)
    finally:
        module.tiny_config = shipped


def write_pairs(directory: Path, images: ImageStore, num_lines: int, num_pairs: int) -> None:
    """Conversations over pages, and the same as captions."""
    height, width = PICTURES[num_lines]
    style = pages.PageStyle(
        font="sans", font_size_pixels=12, width_pixels=width, height_pixels=height, margin_pixels=8, line_pitch_pixels=16
    )
    lines, rows = [], []
    for number in range(num_pairs):
        said = [f"Sodium: 13{number} mmol/L"] * (num_lines - number % 2)  # of two lengths, so that some are padded
        pair = Pair(
            pair_id=f"p{number}", dataset="invented", image_ids=(images.put(pages.text_page([*said[:4], f"No. {number}"], style)),),
            request="List every term with its value and unit.", response="\n".join(said), expected=(), subject_id=None,
            document_id=str(number), publisher_split="train", language="en", source="invented", licence="CC0-1.0", metadata={},
        )  # fmt: skip
        place = SplitRow(pair_id=pair.pair_id, dataset="invented", group_id=pair.pair_id, image_ids=pair.image_ids, split="train")
        rows.append(chat.to_placed(pair, place))
        lines.append(chat._line(chat.to_conversation(pair)))
    for split in ("train", "validation"):
        chat.conversations_path(directory, split).write_text("".join(lines) if split == "train" else "", encoding="utf-8")
    write_table(directory / PAIRS, chat.PlacedPair, rows)


def stage_of(family: Family, batch: int) -> Stage:
    """A stage that takes every pair in one step, in two micro-batches."""
    shared: dict[str, Any] = {
        "learning_rate": 1e-3, "num_epochs": 1, "max_steps": 1, "warmup_share": 0.0, "weight_decay": 0.0, "max_gradient_norm": 1.0,
        "lora_alpha": 16, "seed": 7, "pairs_per_dataset": {}, "max_training_pairs": 0, "max_validation_pairs": 0,
        "validations_per_epoch": 0,
    }  # fmt: skip
    if family == "siglip":
        recipe: Any = MatchRecipe(
            **shared, effective_batch=4 * batch, adam_beta1=0.9, adam_beta2=0.95, lora_rank=0, lora_dropout=0.0, lora_targets=TOWER_TARGETS
        )
        return Stage(name="encoder", objective="match", recipe=recipe, model=spec_of(family))
    recipe = Recipe(**shared, effective_batch=2 * batch, lora_rank=8, lora_dropout=0.05, lora_targets=LANGUAGE_TARGETS, mixture_weights={})
    return Stage(name="adapter", objective="generate", recipe=recipe)


def compare(folder: Path, family: Family, width: int, num_lines: int, batch: int, profile: Profile) -> Counted:
    """One case: a real step counted, and planned."""
    folder.mkdir(parents=True)
    base, chat_directory, images = folder / "base", folder / "chat", ImageStore(folder / "images")
    for directory in (base, chat_directory):
        directory.mkdir()
    write_width(base, family, width)
    write_pairs(chat_directory, images, num_lines, 4 * batch)
    stage, spec, profile = stage_of(family, batch), spec_of(family), replace(profile, training_batch=batch)
    weights = base
    if stage.objective == "generate":
        weights = folder / "nf4"
        weights.mkdir()
        write_quantized(weights, base, "nf4", spec, profile)
    work = OBJECTIVES[stage.objective](Material(
        stage=stage, spec=spec, weights=weights, chat=chat_directory, images=images, profile=profile, previous=None,
        checkpoints=folder / "checkpoints", report=lambda _: None,
    ))  # fmt: skip
    settle(work.trainer)
    found, length = _step(work.trainer, profile, work.trainer.args.per_device_train_batch_size)
    plan = Planner(stage, spec, profile, length, weights).plan(batch)
    return Counted(kinds_of(plan.parts), found, length.num_tokens)


def _step(trainer: Any, profile: Profile, size: int) -> tuple[dict[str, float], Length]:
    model = trainer.model.train()
    if profile.gradient_checkpointing and hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable({"use_reentrant": False})
        leave_inputs_alone(model)
    model = trainer.accelerator.prepare_model(model)  # products in 16 bits, where the profile has them
    trainer.create_optimizer()
    rows = [trainer.train_dataset[index] for index in range(size)]
    trainer.current_gradient_accumulation_steps = 2
    trainer.training_step(model, trainer.data_collator(rows), torch.tensor(100))  # gradients exist from here on
    living = Living()
    with living:
        batch = trainer.data_collator(rows)
        trainer.training_step(model, batch, torch.tensor(100))
    trained = [item for item in model.parameters() if item.requires_grad]
    gradients = sum(item.grad.numel() * item.grad.element_size() for item in trained)
    trainer.optimizer.step()
    state = [held for item in trained for held in trainer.optimizer.state[item].values() if held.dim()]
    found = {
        "weights": float(resident_bytes(model)), "gradients": float(gradients), "activations": float(living.most),
        "optimizer": float(sum(item.numel() * item.element_size() for item in state)),
    }  # fmt: skip
    grid = batch.get("image_grid_thw")
    pixels = int(grid[0].prod()) * 14 * 14 if grid is not None else 0
    return found, Length(batch["input_ids"].shape[1], 1, pixels)


def cases(family: Family, is_quick: bool) -> Iterator[tuple[int, int, int, Profile]]:
    """Widths, lengths, micro-batches, and both ways of keeping activations."""
    plain = PROFILES["cpu"]
    for width in WIDTHS:
        for num_lines in NUM_LINES:
            for batch in BATCHES:
                if not is_quick or (width, num_lines, batch) in {(128, 2, 1), (256, 12, 4), (384, 2, 4)}:
                    yield width, num_lines, batch, plain
    if family != "siglip":  # what is matched goes through in chunks, and each is checkpointed
        yield 256, NUM_LINES[1], 4, replace(plain, gradient_checkpointing=True)
    yield 256, NUM_LINES[1], 4, replace(plain, weights_dtype="bfloat16")


@contextmanager
def one_thread() -> Iterator[None]:
    """Memory does not depend on threads; other work on the machine does."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def main() -> int:
    """Compare every case, and say how far each part is away."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=("qwen2_5_vl", "mllama", "siglip"), action="append")
    parser.add_argument("--quick", action="store_true", help="three of the twelve cases")
    asked = parser.parse_args()
    worst = 0.0
    header = "  ".join(f"{part:>26}" for part in PARTS)
    print(f"{'family':<11} {'width':>5} {'tokens':>6} {'pairs':>5} {'how':<13} {header}   (planned / counted MB)")
    with TemporaryDirectory(prefix="medvl-") as folder, one_thread():
        for family in asked.family or ("qwen2_5_vl", "mllama", "siglip"):
            for number, (width, num_lines, batch, profile) in enumerate(cases(family, asked.quick)):
                counted = compare(Path(folder) / f"{family}-{number}", family, width, num_lines, batch, profile)
                worst = max(worst, *(abs(counted.ratio(part) - 1) for part in PARTS))
                cells = "  ".join(
                    f"{counted.planned[part] / 1e6:8.2f} / {counted.found[part] / 1e6:8.2f} {counted.ratio(part) - 1:+6.1%}"
                    for part in PARTS
                )
                how = "checkpointing" if profile.gradient_checkpointing else profile.weights_dtype
                print(f"{family:<11} {width:>5} {counted.num_tokens:>6} {batch:>5} {how:<13} {cells}", flush=True)
    print(f"the farthest part is {worst:.1%} away (at most {TOLERANCE:.0%})")
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
