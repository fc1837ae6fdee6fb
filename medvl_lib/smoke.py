"""The smoke test of one line behind ``medvl doctor --line``: eight probes of what has to be right before a long run, in a minute.

In: a line and this machine's profile. Out: findings. Everything is done for real, with the route's own rooms, in a temporary folder: the
small model of the line's family, a few invented pictures with the labels that the line's stages take, and each stage for some steps on the
one before. The probes are those of a requirement document that lists what went wrong on its authors' machine, one for each of its eight
fixes; they hold for every line. Whether the real model learns the real data is the job ``overfit``'s question.
"""

import io
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image

from medvl_lib import audit, chat, prompts
from medvl_lib.batches import IGNORE_INDEX, Reader, training_batch
from medvl_lib.chat import Conversation, conversations_path, read_conversations
from medvl_lib.doctor import Finding
from medvl_lib.errors import MedVLError
from medvl_lib.evaluation import handover
from medvl_lib.hardware import Profile, process_environment
from medvl_lib.images import ImageStore
from medvl_lib.lines import Line, tiny_model
from medvl_lib.models.counting import parameters_by_part
from medvl_lib.models.loading import Loaded, load
from medvl_lib.models.preparing import write_base, write_quantized
from medvl_lib.models.spec import MODEL_TYPES, ModelSpec, on_its_engine
from medvl_lib.models.weights import FOUR_BITS
from medvl_lib.pairs import PAIRS, Pair, Split
from medvl_lib.progress import silent
from medvl_lib.provenance import Rule
from medvl_lib.split import SplitSpec, write_split
from medvl_lib.tables import read_table, write_table
from medvl_lib.training import rules as training_rules
from medvl_lib.training.choice import require_pairs, taken
from medvl_lib.training.recipe import Recipe, Stage
from medvl_lib.training.route import adapt, arguments, train
from medvl_lib.training.steps import TRAINING_STEPS, TrainingStep

DATASET = "invented"
NUM_STEPS = 4
NUM_PAIRS: Mapping[Split, int] = {"train": 4, "validation": 2, "test": 2}  # of each stage
SAID = ("The picture is dark.", "The picture is bright, and its left half is brighter still.")
LEARNED = {"loss_fell", "held_out_loss_fell", "answers_are_sound"}  # not to be asked of so few steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What the probes work with."""

    line: Line
    profile: Profile
    spec: ModelSpec
    """The small model of the line's family."""
    weights: Path
    """What adapters are trained on: in four bits where the profile has them."""
    chat: Path
    audit: Path
    images: ImageStore
    root: Path

    def load(self, adapter: Path | None = None) -> Loaded:
        """The weights, as training loads them."""
        return load(self.weights, self.spec, self.profile, adapter=adapter, is_trainable=True)

    def reader(self, loaded: Loaded) -> Reader:
        """What makes tensors for them."""
        return Reader(processor=loaded.processor, prompts=loaded.prompts, images=self.images)

    @property
    def training(self) -> list[Conversation]:
        """Every conversation of the training split."""
        return list(read_conversations(conversations_path(self.chat, "train")))

    @property
    def stages(self) -> list[tuple[Stage, Recipe]]:
        """The stages that answer, each with its recipe over a few steps; the shares of several stay."""
        few = {"max_steps": NUM_STEPS * len(self.line.answering), "effective_batch": 2, "max_training_pairs": 0, "pairs_per_dataset": {},
               "mixture_weights": {}, "max_training_images": 0, "max_images_per_group": 0, "with_retrieved_cases": False,
               "validations_per_epoch": 1}  # fmt: skip
        found: list[tuple[Stage, Recipe]] = []
        for stage in self.line.answering:
            if isinstance(stage.recipe, Recipe):
                recipe = replace(stage.recipe, **few)
                found.append((replace(stage, recipe=recipe), recipe))
        return found


def smoke(line: Line, profile: Profile) -> Iterator[Finding]:
    """Every probe, in the order of the requirement document; one that breaks is a finding too, and the others go on."""
    with tempfile.TemporaryDirectory(prefix="medvl-smoke-") as folder:
        try:
            bench = set_up(line, profile, Path(folder))
        except MedVLError as error:
            yield Finding(name="smoke", level="wrong", found=f"{error.found} ({error.where})", do=error.do)
            return
        whose = "its own model" if line.model.source == "tiny" else f"the small {line.model.family}: its own weights are the job overfit's"
        yield Finding(name="smoke", level="ok", found=f"{line.name}, {' -> '.join(stage.name for stage in line.answering)}, on {whose}")
        for name, probe in PROBES.items():
            try:
                yield from probe(bench)
            except MedVLError as error:
                yield Finding(name=name, level="wrong", found=f"{error.found} ({error.where})", do=error.do)


def set_up(line: Line, profile: Profile, root: Path) -> Bench:
    """Weights, invented pairs for each stage, their conversations and their audit, made as the route makes them."""
    spec, images = tiny_model(line.model.family), ImageStore(root / "images")
    for name in ("base", "four_bits", "validated", "split", "chat", "audit"):
        (root / name).mkdir()
    write_base(root / "base", spec)
    profile = on_its_engine(profile, spec.family)
    form = FOUR_BITS.get(profile.quantization)
    if form is not None:
        write_quantized(root / "four_bits", root / "base", form, spec, profile)
    write_table(root / "validated" / PAIRS, Pair, list(invented(line.answering, images)))
    write_split(root / "split", {DATASET: root / "validated"}, SplitSpec(seed=1, validation_share=0.1, test_share=0.1))
    chat.write_chat(root / "chat", root / "split", {DATASET: root / "validated"})
    audit.write_audit(root / "audit", root / "chat", root / "base", images, line.audit, max_pixels=spec.max_pixels)
    return Bench(
        line=line, profile=profile, spec=spec, weights=root / ("base" if form is None else "four_bits"),
        chat=root / "chat", audit=root / "audit", images=images, root=root,
    )  # fmt: skip


def invented(stages: Sequence[Stage], images: ImageStore) -> Iterator[Pair]:
    """Gray pictures with answers of unequal length, for each stage with the labels of its pairs."""
    for stage in stages:
        for split, count in NUM_PAIRS.items():
            for number in range(count):
                stream = io.BytesIO()
                size = (120 + 8 * number, 112)
                Image.new("L", size, (40, 200)[number % 2]).save(stream, format="PNG")
                yield Pair(
                    pair_id=f"{DATASET}/{split}/{stage.name}{number}", dataset=DATASET, image_ids=(images.put(stream.getvalue()),),
                    request="What is to be seen?", response=SAID[number % 2], expected=(), subject_id=f"{split}{number}",
                    document_id=f"{split}{number}", publisher_split=split, language="en", source=DATASET, licence="CC0-1.0",
                    metadata=dict(stage.pairs),
                )  # fmt: skip


def _finding(name: str, problems: Sequence[str], found: str, do: str) -> Finding:
    """A probe's word: what is wrong, or what was seen."""
    return Finding(name=name, level="wrong" if problems else "ok", found="; ".join(problems) or found, do=do if problems else "")


def processor(bench: Bench) -> Iterator[Finding]:
    """1. Pictures and text become one batch: as many tokens as the audit counted, and no number in it is broken."""
    loaded = bench.load()
    counted = {row.pair_id: row.num_tokens for row in read_table(bench.audit / audit.AUDIT, audit.AuditRow)}
    batch = training_batch(bench.reader(loaded), bench.training)
    lengths = batch["attention_mask"].sum(dim=1).tolist()
    problems = [
        f"{one.pair_id} has {length} tokens, the audit counted {counted[one.pair_id]}"
        for one, length in zip(bench.training, lengths, strict=True)
        if length != counted[one.pair_id]
    ]
    problems += [f"{name} holds what is no number" for name, tensor in batch.items() if not torch.isfinite(tensor).all()]
    num_pictures = int((batch["input_ids"] == loaded.prompts.image_token_id).sum())
    yield _finding(
        "processor",
        problems,
        f"{type(loaded.processor).__name__}: {len(lengths)} conversations, {num_pictures} image tokens, as audited",
        "compare processor_config.json and the tokenizer with the model's own",
    )


def model_class(bench: Bench) -> Iterator[Finding]:
    """2. The weights are loaded as the architecture that they are, and their loss is a number."""
    loaded = bench.load()
    kind, wanted = loaded.model.config.model_type, MODEL_TYPES[bench.spec.family]
    with torch.no_grad():
        batch = training_batch(bench.reader(loaded), bench.training[:2])
        loss = float(loaded.model(**{name: tensor.to(bench.profile.device) for name, tensor in batch.items()}).loss)
    problems = [f"model_type {kind!r}, which is not {wanted!r}"] * (kind != wanted) + [f"loss {loss}"] * (not math.isfinite(loss))
    yield _finding(
        "model class", problems, f"{type(loaded.model).__name__}, loss {loss:.2f} before training", "name a checkpoint of the line's family"
    )


def precision(bench: Bench) -> Iterator[Finding]:
    """3. What the profile says of types and environment is so: nowhere float16, which overflows on MPS and in Qwen's activations."""
    loaded = bench.load()
    types = {str(item.dtype).removeprefix("torch.") for item in loaded.model.parameters() if item.dtype.is_floating_point}
    problems = [f"weights in {', '.join(sorted(types))}"] * bool(types - {"float32", "bfloat16"})
    if process_environment(bench.profile).get("PYTORCH_MPS_HIGH_WATERMARK_RATIO") == "0.0":
        problems.append("PYTORCH_MPS_HIGH_WATERMARK_RATIO = 0.0 takes the memory's limit away: the whole system goes down with the process")
    yield _finding(
        "precision", problems, f"{loaded.precision} on {bench.profile.device}: weights in {', '.join(sorted(types))}",
        f"set weights_dtype and environment in [profiles.{bench.profile.name}]",
    )  # fmt: skip


def trained_parts(bench: Bench) -> Iterator[Finding]:
    """4. Language layers are adapted and the projector is trained where the recipe says so; nothing else has a gradient."""
    _, recipe = bench.stages[0]
    loaded = bench.load()
    model = adapt(loaded, bench.spec, recipe)
    batch = training_batch(bench.reader(loaded), bench.training[:2])
    model.train()
    model(**{name: tensor.to(bench.profile.device) for name, tensor in batch.items()}).loss.backward()
    parts = parameters_by_part(model, bench.spec.family)
    trains = {part for part, count in parts.items() if count.trainable}
    wanted = {"language"} | ({"projector"} if recipe.fully_trained else set())
    stray = [name for name, item in model.named_parameters() if item.grad is not None and not item.requires_grad]
    without = [name for name, item in model.named_parameters() if item.requires_grad and item.grad is None]
    problems = [f"trains {', '.join(sorted(trains)) or 'nothing'}, and should {', '.join(sorted(wanted))}"] * (trains != wanted)
    problems += [f"{name} is frozen and has a gradient" for name in stray[:1]]
    problems += [f"{name} is trained and has none" for name in without[:1]]
    told = ", ".join(f"{count.trainable:,} of {part}" for part, count in parts.items() if count.trainable)
    yield _finding("trained", problems, f"{told}; all else frozen", "mend lora_targets or fully_trained of the recipe")


def dataloader(bench: Bench) -> Iterator[Finding]:
    """5. Batches are prepared as the profile says, and memory is pinned only where a bus lies between CPU and GPU."""
    _, recipe = bench.stages[0]
    given = arguments(recipe, bench.profile, 4, bench.root / "arguments", has_validation=False)
    workers, is_pinned = given.dataloader_num_workers, given.dataloader_pin_memory
    problems = [f"pin_memory on {bench.profile.device}"] * ((is_pinned or bench.profile.pin_memory) and bench.profile.device != "cuda")
    problems += [f"{workers} workers fork beside Metal"] * (workers > 0 and bench.profile.device == "mps")
    problems += [f"{workers} workers, and the profile has {bench.profile.num_workers}"] * (workers != bench.profile.num_workers)
    yield _finding(
        "dataloader", problems, f"{workers} workers, memory {'pinned' if is_pinned else 'not pinned'}, on {bench.profile.device}",
        f"set pin_memory = false and num_workers = 0 in [profiles.{bench.profile.name}]",
    )  # fmt: skip


def chat_template(bench: Bench) -> Iterator[Finding]:
    """6. Pictures, turns and the end token stand where the model expects them, and what is trained on is the answer and its end."""
    loaded = bench.load()
    failed = [f"{rule.name}: {found.found}" for rule in audit.RULES if rule.is_blocking and not (found := rule.holds(bench.audit)).passed]
    batch = training_batch(bench.reader(loaded), bench.training)
    tokenizer = loaded.processor.tokenizer
    for row, conversation in enumerate(bench.training):
        _, answer = prompts.split_answer(conversation.messages)
        wanted = prompts.render_target(loaded.prompts, answer)
        said = tokenizer.decode(batch["labels"][row][batch["labels"][row] != IGNORE_INDEX])
        if said != wanted:
            failed.append(f"{conversation.pair_id} is trained on {len(said)} characters that are not its answer and end token")
        starts = int((batch["input_ids"][row] == tokenizer.bos_token_id).sum()) if tokenizer.bos_token_id is not None else 0
        if starts > 1:
            failed.append(f"{conversation.pair_id} begins {starts} times")
    yield _finding(
        "template",
        failed,
        f"{len(bench.training)} answers end with {loaded.prompts.eos_token}, and nothing else is trained on",
        "give the model's directory its own chat template and special tokens",
    )


def own_pairs(bench: Bench) -> Iterator[Finding]:
    """7. Each stage takes the pairs of its labels alone, and one that finds none is refused before it starts."""
    problems: list[str] = []
    said: list[str] = []
    for stage, recipe in bench.stages:
        found = taken(bench.chat, stage, recipe)
        foreign = [pair.pair_id for pair in found.epoch if stage.pairs and not pair.pair_id.split("/")[-1].startswith(stage.name)]
        problems += [f"{stage.name} takes {name}" for name in foreign[:1]]
        problems += [f"{stage.name} takes nothing"] * (not found.epoch)
        said.append(f"{stage.name} takes {len(found.epoch)} of {found.num_line_pairs}")
        nobody = replace(stage, pairs={"stage": "of nobody"})
        try:
            require_pairs(taken(bench.chat, nobody, recipe), bench.chat, nobody, recipe)
            problems.append(f"{stage.name} would start without a pair")
        except MedVLError:
            continue
    yield _finding(
        "own pairs", problems, "; ".join(said) + "; without any they do not start", "look at the stages' pairs, and at chat.SLICES"
    )


def steps_and_saves(bench: Bench) -> Iterator[Finding]:
    """8. Each stage is trained for some steps on the one before: gradients are clipped, and what is saved is whole and loads again."""
    problems: list[str] = []
    said: list[str] = []
    before: Path | None = None
    for stage, recipe in bench.stages:
        directory = bench.root / f"stage_{stage.name}"
        directory.mkdir()
        train(
            directory, stage=stage, spec=bench.spec, weights=bench.weights, chat=bench.chat, images=bench.images, profile=bench.profile,
            previous=before, checkpoints=bench.root / f"checkpoints_{stage.name}", report=silent,
        )  # fmt: skip
        if stage.handover is not None:
            handover.write_answers(
                directory, stage=stage, spec=bench.spec, weights=bench.weights, chat=bench.chat, images=bench.images, profile=bench.profile
            )
        problems += [f"{stage.name}: {rule.name}: {found.found}" for rule in _rules(stage) if not (found := rule.holds(directory)).passed]
        steps = list(read_table(directory / TRAINING_STEPS, TrainingStep))
        norms = [step.gradient_norm for step in steps if step.gradient_norm is not None]
        problems += [f"{stage.name}: a gradient is no number"] * (not norms or not all(map(math.isfinite, norms)))
        said.append(
            f"{stage.name}: {len(steps)} steps, gradients up to {max(norms, default=math.nan):.1f} clipped to {recipe.max_gradient_norm:g}"
        )
        bench.load(adapter=directory)
        before = directory
    yield _finding(
        "steps, saves", problems, "; ".join(said) + "; each saved, loaded and gone on from", "run the job overfit, and read its checks"
    )


def _rules(stage: Stage) -> tuple[Rule, ...]:
    return tuple(rule for rule in (*training_rules.RULES, *handover.rules(stage.handover)) if rule.name not in LEARNED)


PROBES = {
    "processor": processor, "model class": model_class, "precision": precision, "trained": trained_parts, "dataloader": dataloader,
    "template": chat_template, "own pairs": own_pairs, "steps, saves": steps_and_saves,
}  # fmt: skip
"""The eight fixes of the requirement document, in its order."""
