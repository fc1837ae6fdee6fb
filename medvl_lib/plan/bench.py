"""A line's steps with random weights: what memory and time a machine really takes for them, before anything is fetched.

In: a line, a profile, and the sizes that a plan is asked for. Out: ``Measured`` for each stage and form of weights, with the plan's numbers
beside it. The shapes are those of the published configs (or the small ones' at the scale ``tiny``); weights are drawn on the device, in
four bits where the profile trains so. What goes through is as long as the line lets through and says nothing: memory and speed do not
depend on what weights and texts say. The loss is the one that a plan walks; the trainer's bookkeeping is not in it, nor are pictures and
checkpoints.
"""

import gc
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import torch
from accelerate import init_empty_weights
from transformers import AutoModel, AutoModelForImageTextToText, GenerationConfig, LogitsProcessor, LogitsProcessorList
from trl.trainer.utils import add_fused_lm_head

from medvl_lib.errors import MedVLError
from medvl_lib.evaluation.footprint import live_tensor_bytes
from medvl_lib.evaluation.fresh import Told, each_alone
from medvl_lib.hardware import Profile, peak_memory_bytes
from medvl_lib.launcher import Launcher
from medvl_lib.lines import Line
from medvl_lib.models.loading import DTYPES, Loaded
from medvl_lib.models.spec import ModelSpec, on_its_engine
from medvl_lib.plan.dry_run import BATCHES, config_of, is_packed
from medvl_lib.plan.memory import GB, Plan, Planner, kinds_of, plan_predictions, refusal
from medvl_lib.plan.outlook import length_of
from medvl_lib.training.matching import adapted
from medvl_lib.training.recipe import MatchRecipe, Recipe, Stage
from medvl_lib.training.route import adapt, leave_inputs_alone
from medvl_lib.training.sigmoid_loss import Matcher

TIMED = 2  # micro-batches that are timed, after one that is not
NEW_TOKENS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one step took, and what its plan says."""

    step: str
    """A stage, or ``predictions: nf4``."""
    model: str
    profile: str
    num_layers: int
    """Layers of the language model, or of each tower of an encoder: fewer than published where that was asked for."""
    micro_batch: int
    num_tokens: int
    """Of each conversation, image tokens included."""
    weights_bytes: int
    """Every tensor that the process holds once the model is there."""
    peak_bytes: int
    """Highest allocated on a GPU; highest resident on a CPU, libraries included."""
    seconds: float
    """Of an optimizer step, from its timed parts; of an answer's first token for all that are asked at a time, where nothing is trained."""
    tokens_per_second: float
    """Of training, padding included; of answers, all that are written at a time."""
    planned_weights_bytes: float
    planned_peak_bytes: float
    planned_seconds: float | None
    """None where the profile states no ceilings, or nothing is trained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One step to measure, in a process of its own."""

    plan: Plan
    spec: ModelSpec
    profile: Profile
    config: Path
    """The directory of its config.json."""
    stage: Stage | None
    """None: it answers."""
    packed: bool

    @property
    def name(self) -> str:
        """The stage, or which weights answer."""
        return self.plan.step if self.stage is not None else f"{self.plan.step}: {self.profile.quantization if self.packed else 'base'}"


def bench(
    line: Line, profile: Profile, *, num_tokens: int | None = None, num_pixels: int | None = None, num_layers: int | None = None
) -> Iterator[Measured]:  # fmt: skip
    """Every stage of a line and its answers, each alone in a process; raises MedVLError where one does not fit, or is not torch's."""
    if on_its_engine(profile, line.model.family).engine != "torch":
        raise MedVLError(
            found=f"engine = {profile.engine!r}: what is drawn and measured here is torch's", where=f"the profile {profile.name}",
            do="measure on a profile with engine = 'torch'; `medvl doctor` says what is planned for this one",
        )  # fmt: skip
    alone = replace(profile, launcher=Launcher())  # one process is measured, with all weights
    with tempfile.TemporaryDirectory(prefix="medvl-") as folder:
        cases = list(_cases(line, alone, Path(folder), num_tokens, num_pixels, num_layers))
        told = [Told(f"the process that measured {case.name}", case.plan.model) for case in cases]
        yield from each_alone(profile, measure, zip(told, cases, strict=True))


def _cases(
    line: Line, profile: Profile, folder: Path, num_tokens: int | None, num_pixels: int | None, num_layers: int | None
) -> Iterator[Case]:
    known: dict[ModelSpec, Path] = {}

    def config(spec: ModelSpec) -> Path:
        if spec not in known:
            known[spec] = folder / str(len(known))
            with_layers(config_of(spec), num_layers).save_pretrained(known[spec])
        return known[spec]

    for stage in line.stages:
        spec = line.model if stage.model is None else stage.model
        mine = on_its_engine(profile, spec.family)
        planner = Planner(stage, spec, mine, length_of(line, spec, num_tokens, num_pixels), config(spec))
        yield Case(
            plan=planner.fitting(), spec=spec, profile=mine, config=config(spec), stage=stage, packed=planner.is_packed
        )  # fmt: skip
    profile = on_its_engine(profile, line.model.family)
    length = length_of(line, line.model, num_tokens, num_pixels)
    for packed in (False, True)[: 1 if profile.quantization == "none" else 2]:
        plan = plan_predictions(line.evaluation, line.model, profile, length, profile.prediction_batch, config(line.model), packed=packed)
        if not plan.fits:
            plan = plan_predictions(line.evaluation, line.model, profile, length, 1, config(line.model), packed=packed)
        if not plan.fits:
            raise refusal(plan, profile)
        yield Case(plan=plan, spec=line.model, profile=profile, config=config(line.model), stage=None, packed=packed)


def with_layers(config: Any, num_layers: int | None) -> Any:
    """A config with fewer layers of its language model, and of an encoder's other tower."""
    if num_layers is None:
        return config
    towers = [config.text_config, *([config.vision_config] if config.model_type == "siglip" else [])]
    for tower in towers:
        tower.num_hidden_layers = min(num_layers, tower.num_hidden_layers)
        for name in ("layer_types", "cross_attention_layers"):
            if (values := getattr(tower, name, None)) is not None:
                kept = values[:num_layers] if name == "layer_types" else [at for at in values if at < num_layers] or [num_layers - 1]
                setattr(tower, name, kept)
    return config


# -- one step, in this process -----------------------------------------------------------------------------------------
def measure(case: Case) -> Measured:
    """Make the model, and do the step a few times."""
    torch.manual_seed(0)
    model = random_model(case)
    doing = _answers if case.stage is None else _trains
    weights, seconds, rate = doing(case, model)
    device, text = case.profile.device, model.config.text_config
    return Measured(
        step=case.name, model=case.plan.model, profile=case.profile.name, num_layers=text.num_hidden_layers,
        micro_batch=case.plan.micro_batch, num_tokens=case.plan.length.num_tokens, weights_bytes=weights,
        peak_bytes=torch.cuda.max_memory_allocated() if device == "cuda" else peak_memory_bytes(), seconds=seconds, tokens_per_second=rate,
        planned_weights_bytes=kinds_of(case.plan.parts)["weights"], planned_peak_bytes=case.plan.total_bytes,
        planned_seconds=None if case.plan.speed is None else case.plan.speed.seconds_per_step,
    )  # fmt: skip


def random_model(case: Case) -> Any:
    """A model of a config, its weights drawn on the device; the linears that its family packs are in four bits where that is asked for."""
    is_matching = case.stage is not None and isinstance(case.stage.recipe, MatchRecipe)
    dtype = torch.float32 if is_matching else DTYPES[case.profile.weights_dtype]
    auto = AutoModel if is_matching else AutoModelForImageTextToText
    with init_empty_weights(include_buffers=False):
        model = auto.from_config(config_of(case.spec, case.config), dtype=dtype, attn_implementation="sdpa")
    if case.packed:
        for name, module in list(model.named_modules()):
            if is_packed(name, module, case.spec.family):
                parent, _, child = name.rpartition(".")
                setattr(model.get_submodule(parent), child, _packed(module, dtype, case.profile.device))
    drawn: dict[torch.nn.Parameter, torch.nn.Parameter] = {}  # tied ones are one
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and parameter.is_meta:
                if parameter not in drawn:
                    drawn[parameter] = torch.nn.Parameter(_drawn(parameter, case.profile.device), requires_grad=False)
                module._parameters[name] = drawn[parameter]
    return model.to(case.profile.device)


def _drawn(shape: torch.Tensor, device: str) -> torch.Tensor:
    made = torch.empty(shape.shape, dtype=shape.dtype, device=device)
    return made.normal_(std=0.02) if made.dim() > 1 else made.fill_(1.0)


def _packed(linear: torch.nn.Linear, dtype: torch.dtype, device: str) -> torch.nn.Module:
    made = bnb.nn.Linear4bit(
        linear.in_features, linear.out_features, bias=linear.bias is not None, compute_dtype=dtype, quant_type="nf4", device="meta"
    )
    made.weight = bnb.nn.Params4bit(_drawn(linear.weight, device), requires_grad=False, quant_type="nf4", compress_statistics=True)
    made.weight = made.weight.to(device)
    made.support_avx512bf16_for_cpu = False  # as ``loading`` does
    return made


def _batch(case: Case, model: Any, num_pairs: int) -> dict[str, torch.Tensor]:
    made = BATCHES[case.spec.family](model.config, num_pairs=num_pairs, **case.plan.length._asdict())
    return {
        name: (torch.randn(item.shape) if item.is_meta else item).to(case.profile.device) for name, item in made.items()
    }  # fmt: skip


def _trains(case: Case, model: Any) -> tuple[int, float, float]:
    """Weights held, seconds of an optimizer step, tokens a second."""
    stage, profile, plan = case.stage, case.profile, case.plan
    if stage is None:
        raise ValueError(f"{case.name} trains nothing")
    is_matching = isinstance(stage.recipe, MatchRecipe)
    whole = stage.recipe.effective_batch if is_matching else plan.micro_batch
    ready = _matcher(plan, model, stage.recipe) if is_matching else _adapted(case, model, stage.recipe)
    trained = [item for item in ready.parameters() if item.requires_grad]
    for item in trained:
        item.data = item.data.float()
    weights, optimizer = live_tensor_bytes(profile.device), torch.optim.AdamW(trained)
    batch = _batch(case, model, whole)

    def micro() -> None:
        with _autocast(profile):
            loss = _loss_of_matching(ready, batch) if is_matching else _loss_of_answers(ready, batch)
        loss.backward()

    micro()  # gradients and the optimizer's state exist from here on
    optimizer.step()
    forth, stepping = _timed(profile, micro, TIMED), _timed(profile, optimizer.step, TIMED)
    seconds = plan.accumulation * forth + stepping
    return weights, seconds, plan.accumulation * batch["input_ids"].numel() / seconds


def _adapted(case: Case, model: Any, recipe: Recipe) -> Any:
    ready = adapt(Loaded(model=model, processor=None, prompts=None, precision="", load_seconds=0.0), case.spec, recipe)
    base = ready.get_base_model()
    add_fused_lm_head(base, outputs=("log_probs", "entropy", "is_top1"))  # as TRL's trainer does
    if case.profile.gradient_checkpointing:
        base.activation_checkpointing_enable({"use_reentrant": False})
        leave_inputs_alone(base)
    return ready.train()


def _loss_of_answers(ready: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    given = {**batch, "attention_mask": torch.ones_like(batch["input_ids"]), "labels": batch["input_ids"]}
    return -ready(**given, fused_lm_head=True, use_cache=False).log_probs.sum()


def _matcher(plan: Plan, model: Any, recipe: MatchRecipe) -> Matcher:
    return Matcher(adapted(model, recipe), chunk=plan.micro_batch if plan.micro_batch < recipe.effective_batch else 0).train()


def _loss_of_matching(ready: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    numbers = torch.arange(len(batch["input_ids"]), device=batch["input_ids"].device)
    return ready(**batch, texts=numbers, groups=numbers, pictures=numbers)["loss"]


class _Clock(LogitsProcessor):
    """Notes when each token is chosen."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self.times: list[float] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The scores as they are."""
        _wait(self._profile)
        self.times.append(time.perf_counter())
        return scores


def _answers(case: Case, model: Any) -> tuple[int, float, float]:
    """Weights held, seconds to the first tokens, tokens a second after them."""
    weights = live_tensor_bytes(case.profile.device)
    batch = _batch(case, model.eval(), case.plan.micro_batch)

    def write(count: int) -> list[float]:
        greedy = GenerationConfig(max_new_tokens=count, min_new_tokens=count, do_sample=False, use_cache=True, pad_token_id=0)
        clock = _Clock(case.profile)
        with torch.inference_mode(), _autocast(case.profile):
            model.generate(
                **batch, attention_mask=torch.ones_like(batch["input_ids"]), generation_config=greedy,
                logits_processor=LogitsProcessorList([clock]),
            )  # fmt: skip
        return clock.times

    write(1)
    started = time.perf_counter()
    times = write(NEW_TOKENS)
    return weights, times[0] - started, case.plan.micro_batch * (NEW_TOKENS - 1) / (times[-1] - times[0])


def _autocast(profile: Profile) -> Any:
    dtype = DTYPES[profile.weights_dtype]
    return nullcontext() if dtype == torch.float32 else torch.autocast(profile.device, dtype)


def _timed(profile: Profile, do: Callable[[], object], times: int) -> float:
    gc.collect()
    _wait(profile)
    started = time.perf_counter()
    for _ in range(times):
        do()
    _wait(profile)
    return (time.perf_counter() - started) / times


def _wait(profile: Profile) -> None:
    if profile.device == "cuda":
        torch.cuda.synchronize()
    elif profile.device == "mps":
        torch.mps.synchronize()


# -- in words ----------------------------------------------------------------------------------------------------------
HEADER = ("step", "at a time", "tokens", "weights GB", "planned", "peak GB", "planned", "seconds", "estimated", "tokens/s")


def render(found: Sequence[Measured]) -> str:
    """A table for a terminal."""
    rows = [HEADER, *(_row(item) for item in found)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(HEADER))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]) for row in rows
    ]
    models = {f"{item.model} with {item.num_layers} layers and random weights, on the profile {item.profile}" for item in found}
    return "\n".join([*sorted(models), "", *lines, ""])


def _row(item: Measured) -> tuple[str, ...]:
    return (
        item.step, str(item.micro_batch), f"{item.num_tokens:,}", f"{item.weights_bytes / GB:.3f}",
        f"{item.planned_weights_bytes / GB:.3f}", f"{item.peak_bytes / GB:.2f}", f"{item.planned_peak_bytes / GB:.2f}",
        f"{item.seconds:.2f}", "" if item.planned_seconds is None else f"{item.planned_seconds:.2f}", f"{item.tokens_per_second:,.1f}",
    )  # fmt: skip


def as_json(found: Sequence[Measured]) -> str:
    """Every value, unrounded."""
    return json.dumps([asdict(item) for item in found], indent=1) + "\n"
