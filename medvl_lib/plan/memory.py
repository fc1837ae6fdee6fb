"""What a stage or a round of predictions needs, held against what a profile grants. Torch is imported inside functions only.

In: a stage (or an evaluation), a model's spec and perhaps the directory of its weights, a profile, and the sizes of what goes through.
Out: ``Plan``, or MedVLError with the numbers when not even one pair at a time fits. The walk itself is ``dry_run``'s.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from medvl_lib.audit import AUDIT, AuditRow
from medvl_lib.errors import MedVLError
from medvl_lib.evaluation.spec import EvaluationSpec
from medvl_lib.hardware import Profile, room_bytes
from medvl_lib.models.spec import ModelSpec, on_its_engine
from medvl_lib.models.weights import FOUR_BITS, PACKED_WIDTH
from medvl_lib.pairs import Split
from medvl_lib.plan.speed import Speed, training_speed
from medvl_lib.tables import read_table
from medvl_lib.training.recipe import MatchRecipe, Stage

if TYPE_CHECKING:
    from medvl_lib.plan.dry_run import Shape, Sizes, Walk, Walked

GB = 1e9
PROCESS_BYTES = 600_000_000  # libraries of the process, and a device's context: 0.4 GB measured on a CPU (docs/benchmarks.md)
STATE_WIDTH = 8  # AdamW keeps two numbers of 32 bits for each that is trained
GRADIENT_WIDTH = 4
CHECKPOINTS_ON_DISK = 4  # the two newest, the best of each
PUBLISHED_WIDTH = 2  # checkpoints come in 16 bits
LAYERS_AT_ONCE = 3  # of divided weights: the one that computes, the next one, and what that is gathered in
PACKED_NUMBER = 0.5  # bytes of a packed weight without its scales


class Length(NamedTuple):
    """The largest of what goes through a model: every bound is reached by some pair, perhaps not by the same one."""

    num_tokens: int
    num_pictures: int
    num_pixels: int


class Part(NamedTuple):
    """One line of the bill."""

    name: str
    num_bytes: float
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """Room on the disk, in bytes."""

    num_bytes: float
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one step needs on a profile."""

    step: str
    """The stage's name, or ``predictions``."""
    model: str
    profile: str
    is_training: bool
    parameters: Mapping[str, tuple[int, int]]
    """Part of the model -> (all, trainable)."""
    parts: tuple[Part, ...]
    micro_batch: int
    """Pairs that go through at a time."""
    accumulation: int
    """Micro-batches of an optimizer step, in each process; 1 where nothing is trained."""
    length: Length
    room_bytes: float
    """What the profile grants; infinite where it is not known."""
    speed: Speed | None
    disk: Disk | None
    num_processes: int = 1
    """Processes that train together; what is said of bytes, pairs and seconds is of each."""

    @property
    def total_bytes(self) -> float:
        """The most bytes at once."""
        return sum(part.num_bytes for part in self.parts)

    @property
    def fits(self) -> bool:
        """Whether the profile grants as much."""
        return self.total_bytes <= self.room_bytes


def longest(audit: Path, splits: Collection[Split], num_tokens: int = 0) -> Length:
    """The largest of what an audit found in some splits; ``num_tokens``: what else may be put before questions, as a bound of the whole."""
    found = Length(num_tokens, 0, 0)
    for row in read_table(audit / AUDIT, AuditRow):
        if row.split in splits:
            pixels = [picture.seen_height_pixels * picture.seen_width_pixels for picture in row.pictures]
            found = Length(
                max(found.num_tokens, row.num_tokens), max(found.num_pictures, len(pixels)), max(found.num_pixels, *pixels, 0)
            )  # fmt: skip
    return found


def micro_batches(effective_batch: int, most: int) -> list[int]:
    """How many pairs may go through at a time: the divisors of the effective batch up to ``most``, the largest first."""
    return [count for count in range(min(most, effective_batch), 0, -1) if effective_batch % count == 0]


class Planner:
    """The plans of one stage on one profile; each size is walked once."""

    def __init__(
        self, stage: Stage, spec: ModelSpec, profile: Profile, length: Length, directory: Path | None = None, room: float | None = None
    ) -> None:
        """``room``: of another machine, in bytes; without it what this one grants and has."""
        self.stage, self.spec, self.length, self._directory = stage, spec, length, directory
        self.profile = on_its_engine(profile, spec.family)
        self._room = room_bytes(profile) if room is None else room

    @property
    def is_packed(self) -> bool:
        """Whether the base is trained on in four bits."""
        return self.profile.quantization in FOUR_BITS and not isinstance(self.stage.recipe, MatchRecipe)

    @property
    def share(self) -> int:
        """Pairs of an optimizer step in each of the processes that train together; of those that are matched all, a bound."""
        effective, processes = self.stage.recipe.effective_batch, self.profile.launcher.num_processes
        return effective if isinstance(self.stage.recipe, MatchRecipe) else max(1, effective // processes)

    @cached_property
    def _walk(self) -> "Walk":
        from medvl_lib.plan.dry_run import Walk, config_of

        return Walk(config_of(self.spec, self._directory), self.spec, self.profile, self.stage.recipe, packed=self.is_packed)

    @cached_property
    def _shape(self) -> Any:
        return self._walk.shape()

    def plan(self, micro_batch: int) -> Plan:
        """What a step with so many pairs at a time needs."""
        from medvl_lib.plan.dry_run import Walk

        recipe = self.stage.recipe
        if not isinstance(recipe, MatchRecipe):
            return self._weighed(micro_batch, self._walk.walk(_sizes(micro_batch, self.length)))
        chunked = replace(self.profile, training_batch=micro_batch)
        walk = Walk(self._walk.config, self.spec, chunked, recipe, packed=False)
        return self._weighed(micro_batch, walk.walk(_sizes(recipe.effective_batch, self.length)))

    def plans(self, counts: Sequence[int]) -> Iterator[Plan]:
        """The same for several numbers of pairs; of those that answer, what lies beyond three is multiplied."""
        if isinstance(self.stage.recipe, MatchRecipe):
            yield from map(self.plan, counts)
        else:
            for count, walked in zip(counts, self._walk.walk_many(counts, _sizes(1, self.length)), strict=True):
                yield self._weighed(count, walked)

    def _weighed(self, micro_batch: int, walked: "Walked") -> Plan:
        recipe, profile = self.stage.recipe, self.profile
        is_matching = isinstance(recipe, MatchRecipe)
        trained = sum(own for _, own in self._shape.parameters.values())
        processes = 1 if is_matching else profile.launcher.num_processes
        num_parts = 1 if is_matching else profile.launcher.num_parts
        each = f", in each of {num_parts} processes a part" if num_parts > 1 else ""
        parts = (
            *(
                Part(f"weights: {name}", num_bytes / num_parts, f"{self._shape.parameters[name][0]:,} parameters{each}")
                for name, num_bytes in self._shape.weight_bytes.items()
            ),
            Part("gradients", trained * GRADIENT_WIDTH / num_parts, f"{trained:,} trained, in 32 bits{each}"),
            Part("optimizer", trained * STATE_WIDTH / num_parts, f"AdamW's two moments of each, in 32 bits{each}"),
            *activations(walked),
            Part("process", PROCESS_BYTES, "libraries and the device's context"),
        )
        if num_parts > 1:
            parts = (*parts, *_whole_at_times(self._shape, parts, num_parts))
        accumulation = 1 if is_matching else self.share // micro_batch
        passes = 2 if is_matching and micro_batch >= recipe.effective_batch else 3 if is_matching or profile.gradient_checkpointing else 2
        return Plan(
            step=self.stage.name, model=self.spec.hub_id, profile=profile.name, is_training=True, parameters=self._shape.parameters,
            parts=parts, micro_batch=micro_batch, accumulation=accumulation, length=self.length, room_bytes=self._room,
            speed=training_speed(
                profile, num_operations=walked.num_operations, weight_bytes=sum(self._shape.weight_bytes.values()),
                wide_bytes=self._shape.wide_bytes if self.is_packed else 0.0, num_passes=passes * (
                    -(-recipe.effective_batch // micro_batch) if is_matching else 1
                ), accumulation=accumulation, num_trained=trained // num_parts,
            ),
            disk=_disk(
                self._shape, packed_width=PACKED_WIDTH[FOUR_BITS[profile.quantization]] if self.is_packed else 0.0, is_matching=is_matching
            ),
            num_processes=processes,
        )  # fmt: skip

    def fitting(self) -> Plan:
        """The plan with the most pairs at a time that the profile allows and has room for; raises MedVLError where there is none."""
        share, most = self.share, self.profile.training_batch
        first = min(share, most) if isinstance(self.stage.recipe, MatchRecipe) else math.gcd(share, most)
        plan = self.plan(first)  # what the trainer would do by itself
        for micro_batch in micro_batches(share, first - 1):
            if plan.fits:
                break
            plan = self.plan(micro_batch)
        if not plan.fits:
            raise refusal(plan, self.profile)
        return plan


def _whole_at_times(shape: "Shape", parts: Sequence[Part], num_parts: int) -> Iterator[Part]:
    """What a process that holds a part of the weights has whole: all but the layers during a pass, scales always, everything at the start.

    A bound: parts that no pass needs at the same time are counted together. accelerate divides a model that every process has loaded.
    """
    weights = sum(shape.weight_bytes.values())
    scales = shape.num_packed * (PACKED_WIDTH["nf4"] - PACKED_NUMBER)
    layers = LAYERS_AT_ONCE * max(shape.layer_bytes, default=0.0)
    gathered = Part(
        "weights: gathered", weights - sum(shape.layer_bytes) + layers + scales * (1 - 1 / num_parts),
        f"for a pass: all but the layers, {LAYERS_AT_ONCE} of these; and the scales of packed weights, which are not divided",
    )  # fmt: skip
    yield gathered
    beyond = weights * (1 + 1 / num_parts) + PROCESS_BYTES - sum(part.num_bytes for part in parts) - gathered.num_bytes
    if beyond > 0:
        yield Part("weights: loading", beyond, "more than all of this at the start, when each process has loaded them whole")


def _sizes(num_pairs: int, length: Length) -> "Sizes":
    from medvl_lib.plan.dry_run import Sizes

    return Sizes(num_pairs, *length)


def activations(walked: "Walked") -> Iterable[Part]:
    """What was alive at the highest peak, by maker."""
    words = {
        "batch": "ids, masks and pictures that go in", "loss": "what stands between the last layer and the loss, logits in tiles",
        "back": "made on the way back, forgotten layers computed again among them",
    }  # fmt: skip
    cache = walked.cache_bytes
    if cache:
        yield Part("cache", cache, "keys and values of every token, prompt and answer")
    for maker, num_bytes in walked.peak.items():
        if num_bytes > 0:
            own = num_bytes - cache if maker == "language" else num_bytes
            yield Part(f"activations: {maker}", max(own, 0.0), words.get(maker, f"alive at the peak, made by the {maker}"))


def _disk(shape: Any, *, packed_width: float, is_matching: bool) -> Disk:
    """Downloads and the base model, its packed form, checkpoints with the optimizer's state, and what is kept."""
    total, trained = (sum(counts[i] for counts in shape.parameters.values()) for i in (0, 1))
    published = (total if is_matching else total - trained) * (4 if is_matching else PUBLISHED_WIDTH)
    packed = shape.num_packed * packed_width + (total - trained - shape.num_packed) * PUBLISHED_WIDTH if packed_width else 0.0
    state = trained * (4 + STATE_WIDTH)
    return Disk(
        num_bytes=2 * published + packed + CHECKPOINTS_ON_DISK * state + 4 * trained,
        why=f"the checkpoint as downloaded and as base model, 2 x {published / GB:.1f} GB"
        + (f"; in four bits {packed / GB:.1f} GB" if packed else "")
        + f"; up to {CHECKPOINTS_ON_DISK} checkpoints of {state / GB:.1f} GB and what was trained",
    )  # fmt: skip


def plan_predictions(
    evaluation: EvaluationSpec, spec: ModelSpec, profile: Profile, length: Length, batch: int, directory: Path | None = None,
    room: float | None = None, packed: bool | None = None,
) -> Plan:  # fmt: skip
    """What answering ``batch`` questions at a time needs: the base, and its packed form beside it where both have room.

    ``packed``: of one of the two alone, in four bits or in full width.
    """
    from medvl_lib.evaluation.predict import SHARE_FOR_WEIGHTS
    from medvl_lib.plan.dry_run import Walk, config_of

    profile = on_its_engine(profile, spec.family)
    config, room = config_of(spec, directory), room_bytes(profile) if room is None else room
    walk = Walk(config, spec, profile, None, packed=False)
    shape = walk.shape()
    wide = sum(shape.weight_bytes.values())
    weights = [Part("weights: base", wide, f"{sum(all_ for all_, _ in shape.parameters.values()):,} parameters")]
    if packed is not False and (form := FOUR_BITS.get(profile.quantization)) is not None:
        narrow = sum(Walk(config, spec, profile, None, packed=True).shape().weight_bytes.values())
        if packed:
            weights = [Part(f"weights: {form}", narrow, "language linears in four bits")]
        elif wide + narrow <= room * SHARE_FOR_WEIGHTS:
            weights.append(Part(f"weights: {form}", narrow, "beside the base: both answer in turns"))
    walked = walk.walk(_sizes(batch, length._replace(num_tokens=length.num_tokens + evaluation.max_answer_tokens)))
    return Plan(
        step="predictions", model=spec.hub_id, profile=profile.name, is_training=False, parameters=shape.parameters,
        parts=(*weights, *activations(walked), Part("process", PROCESS_BYTES, "libraries and the device's context")),
        micro_batch=batch, accumulation=1, length=length, room_bytes=room, speed=None, disk=None,
    )  # fmt: skip


def fitting_predictions(
    evaluation: EvaluationSpec, spec: ModelSpec, profile: Profile, length: Length, directory: Path | None = None
) -> Plan:
    """The plan with the most questions at a time, halved from the profile's until they fit; raises MedVLError where one does not."""
    batch = profile.prediction_batch
    while True:
        plan = plan_predictions(evaluation, spec, profile, length, batch, directory)
        if plan.fits:
            return plan
        if batch == 1:
            raise refusal(plan, profile)
        batch //= 2


def refusal(plan: Plan, profile: Profile) -> MedVLError:
    """The numbers of a plan that does not fit, and what would make it smaller."""
    kinds = ("weights", "gradients", "optimizer", "activations", "cache", "process")
    sums = {kind: sum(part.num_bytes for part in plan.parts if part.name.partition(":")[0] == kind) for kind in kinds}
    bill = ", ".join(f"{kind} {num_bytes / GB:.2f}" for kind, num_bytes in sums.items() if num_bytes)
    rank = ", a lower lora_rank" if plan.is_training else ""
    cures = [f"fewer tokens or pixels (audit.max_tokens, model.max_pixels){rank} in the line's settings"]
    if plan.is_training and not profile.gradient_checkpointing:
        cures.insert(0, f"gradient_checkpointing = true in [profiles.{profile.name}]")
    return MedVLError(
        found=f"{plan.step} of {plan.model} needs {plan.total_bytes / GB:.2f} GB with {_counted(plan.micro_batch, 'pair')} of at most "
        f"{plan.length.num_tokens:,} tokens at a time ({bill}), and there is room for {plan.room_bytes / GB:.2f} GB",
        where=f"the profile {profile.name}, memory_budget_bytes = {profile.memory_budget_bytes:,} less its margin of "
        f"{profile.memory_margin_share:.0%}",
        do=f"free memory; or {'; or '.join(cures)}; or use a machine with more memory (`medvl plan` prints every part)",
    )  # fmt: skip


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def kinds_of(parts: Sequence[Part]) -> dict[str, float]:
    """Bytes by the kind before the colon: weights, gradients, ..."""
    found: dict[str, float] = {}
    for part in parts:
        kind = part.name.partition(":")[0]
        found[kind] = found.get(kind, 0.0) + part.num_bytes
    return found
