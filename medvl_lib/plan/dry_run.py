"""A step that is walked without memory: the real model, the real loss, and tensors that have a shape and no contents.

In: a model's config, how a stage trains it (or that it answers), and the sizes of a batch. Out: ``Walked``: bytes alive at the peak of each
phase and by whom they were made, floating-point operations, bytes of the cache. No formula of a family stands here: whatever its forward
makes is counted, so a new family needs its ``sized_batch`` alone.

How: parameters and activations are torch's fake tensors; numbers that decide shapes (ids, grids, masks) are computed for real. Lists of
equal layers are cut to two and to three periods (``LAYER_LISTS``), and what the third adds is multiplied.
"""

import math
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry
from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, PreTrainedConfig
from trl.trainer.utils import add_fused_lm_head

from medvl_lib.errors import MedVLError
from medvl_lib.hardware import Profile
from medvl_lib.models import llava_med, mllama, qwen2_5_vl, shipped, siglip
from medvl_lib.models.counting import parameters_by_part
from medvl_lib.models.loading import DTYPES, Loaded
from medvl_lib.models.preparing import LAYOUTS
from medvl_lib.models.published import CONFIGS
from medvl_lib.models.spec import LANGUAGE_LAYERS, LAYER_LISTS, ONLY_WITH_PICTURES, PARTS, SKIP_MODULES, Family, ModelSpec
from medvl_lib.models.weights import FOUR_BITS, PACKED_WIDTH
from medvl_lib.training.matching import adapted
from medvl_lib.training.recipe import MatchRecipe, Recipe
from medvl_lib.training.route import adapt, leave_inputs_alone
from medvl_lib.training.sigmoid_loss import Matcher

BATCHES = {
    "qwen2_5_vl": qwen2_5_vl.sized_batch, "mllama": mllama.sized_batch, "llava_med": llava_med.sized_batch, "siglip": siglip.sized_batch,
}  # fmt: skip
CPU = torch.device("cpu")  # where fake tensors say that they are: torch asks the real device for its attention kernel
BACK = "back"
LOSS = "loss"
FEWEST = 2  # periods: on the way back the lowest layer is unlike all others, since nothing below it wants a gradient
ATTENTION_FACTORS = {"_scaled_dot_product_flash_attention_for_cpu": 1.0, "_scaled_dot_product_flash_attention_for_cpu_backward": 2.5}
"""Operations of attention that torch's own table lacks, in forward passes of it (Dao et al. 2022, arXiv 2205.14135)."""


class Sizes(NamedTuple):
    """What goes through a model at a time."""

    num_pairs: int
    num_tokens: int
    """Of the longest conversation, image tokens included; the others are padded to it."""
    num_pictures: int
    """Of a conversation."""
    num_pixels: int
    """Of a picture, as the model sees it."""


@dataclass(slots=True)
class Tally:
    """Bytes that are alive, by who made them, and the most there were in each phase."""

    now: dict[str, int] = field(default_factory=dict[str, int])
    peaks: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])
    """Phase -> what was alive when it held the most, by maker."""

    def add(self, maker: str, num_bytes: int, phase: str) -> None:
        """Something came to be, or (negative) is gone."""
        self.now[maker] = self.now.get(maker, 0) + num_bytes
        if num_bytes > 0 and sum(self.now.values()) > sum(self.peaks.get(phase, {}).values()):
            self.peaks[phase] = dict(self.now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Walked:
    """What a step was found to need beyond weights, gradients and the optimizer's state."""

    phases: Mapping[str, Mapping[str, float]]
    """Phase -> bytes alive at its peak, by the part of the model that made them (``back``: made on the way back)."""
    num_operations: float
    """Floating-point operations, multiplications and additions each."""
    cache_bytes: float
    """Keys and values that are kept while an answer is written; 0 in training."""

    @property
    def peak(self) -> Mapping[str, float]:
        """Bytes at the highest peak, by maker."""
        return max(self.phases.values(), key=lambda found: sum(found.values()), default={})

    @property
    def peak_bytes(self) -> float:
        """The most bytes alive at once."""
        return sum(self.peak.values())


class Shape(NamedTuple):
    """What a model is made of."""

    parameters: Mapping[str, tuple[int, int]]
    """Part -> (all, trainable)."""
    weight_bytes: Mapping[str, float]
    """Part -> bytes, trainable ones in 32 bits."""
    num_packed: int
    """Parameters in four bits."""
    wide_bytes: float
    """Bytes that the packed ones take once they are unpacked, which every pass does."""
    layer_bytes: tuple[float, ...]
    """Of each language layer that every batch goes through: what processes that divide the weights gather alone."""


class _Counting(TorchDispatchMode):
    """Runs operations of fake tensors as fakes and all others for real, and keeps the tally of what they make."""

    def __init__(self, fake: FakeTensorMode, standing: Iterator[torch.Tensor]) -> None:
        super().__init__()
        self.tally, self.num_operations = Tally(), 0.0
        self.maker = self.phase = LOSS
        self._fake = fake
        self._known: dict[int, Any] = {_place(tensor): None for tensor in standing}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        made = self._run(func, args, kwargs)
        self.num_operations += _operations(func, args, kwargs, made)
        for item in tree_leaves(made):
            if isinstance(item, torch.Tensor):
                self._note(item.untyped_storage())
        return made

    def _run(self, func: Any, args: Any, kwargs: Any) -> Any:
        given = [item for item in tree_leaves((args, kwargs)) if isinstance(item, torch.Tensor)]
        if any(isinstance(item, FakeTensor) for item in given):
            with self._fake:
                return func(*args, **kwargs)
        if not given:  # made from nothing: numbers that are no shapes need no contents
            with self._fake:
                made = func(*args, **kwargs)
            if isinstance(made, torch.Tensor) and made.is_floating_point():
                return made
        return func(*args, **kwargs)

    def _note(self, storage: torch.UntypedStorage) -> None:
        place, num_bytes, maker = storage._cdata, storage.nbytes(), self.maker
        if place in self._known or not num_bytes:
            return

        def gone(_: Any) -> None:
            del self._known[place]
            self.tally.add(maker, -num_bytes, "")

        self._known[place] = weakref.ref(storage, gone)
        self.tally.add(maker, num_bytes, self.phase)


def _place(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _operations(func: Any, args: Any, kwargs: Any, made: Any) -> float:
    packet = func._overloadpacket
    if packet in flop_registry:
        return flop_registry[packet](*args, **kwargs, out_val=made)
    factor = ATTENTION_FACTORS.get(packet.__name__, 0.0)
    if not factor:
        return 0.0
    query, key = args[1:3] if "backward" in packet.__name__ else args[:2]
    return factor * 4 * math.prod(query.shape) * key.shape[-2]


class _Unpacked(torch.autograd.Function):
    """A product with weights in four bits: each pass unpacks them into a full matrix, and the way back needs no input."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.weight = weight
        return rows @ torch.empty_like(weight, dtype=rows.dtype).T

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0] @ torch.empty_like(ctx.weight, dtype=gradients[0].dtype), None


def config_of(spec: ModelSpec, directory: Path | None = None) -> Any:
    """The config of a model, without its weights: of a directory, of the small model, or as it was published.

    Raises MedVLError for a checkpoint of the hub whose config is not known here.
    """
    place = directory or (Path(spec.path) if spec.path else shipped.DIRECTORY / spec.family if spec.source == "tiny" else None)
    if place is not None:
        layout = LAYOUTS.get(spec.family)
        if layout is not None and layout.is_original(place):
            return layout.config(place)
        config = AutoConfig.from_pretrained(place)
        if hasattr(config, "quantization_config"):  # the shape is asked for; what is packed is known
            del config.quantization_config
        return config
    if spec.hub_id not in CONFIGS:
        raise MedVLError(
            found=f"no config of {spec.hub_id}", where="medvl_lib/models/published.py",
            do="add its config.json there, or fetch it and name its folder: source = 'directory' and path in the line's model",
        )  # fmt: skip
    values = dict(CONFIGS[spec.hub_id])
    return AutoConfig.for_model(values.pop("model_type"), **values)


def _gathered_alone(model: torch.nn.Module) -> list[str]:
    """The prefixes of language layers that ``training.sharding`` divides one by one."""
    return [
        f"{name}." for name, module in model.named_modules()
        if name.startswith(LANGUAGE_LAYERS) and name.removeprefix(LANGUAGE_LAYERS).isdigit()
        and type(module).__name__ not in ONLY_WITH_PICTURES
    ]  # fmt: skip


def is_packed(name: str, module: torch.nn.Module, family: Family) -> bool:
    """Whether four bits pack a linear: all but those that its family keeps."""
    return isinstance(module, torch.nn.Linear) and not any(name == kept or name.startswith(f"{kept}.") for kept in SKIP_MODULES[family])


class Walk:
    """A model without memory, and what a pass through it takes."""

    def __init__(
        self, config: PreTrainedConfig, spec: ModelSpec, profile: Profile, recipe: Recipe | MatchRecipe | None, packed: bool
    ) -> None:
        """``recipe``: how it is trained; None: it answers. ``packed``: its language linears are in four bits."""
        self.config, self.spec, self.profile, self.recipe, self.is_packed = config, spec, profile, recipe, packed

    @property
    def _dtype(self) -> torch.dtype:
        return torch.float32 if isinstance(self.recipe, MatchRecipe) else DTYPES[self.profile.weights_dtype]

    def _model(self) -> Any:
        auto = AutoModel if isinstance(self.recipe, MatchRecipe) else AutoModelForImageTextToText
        with torch.device("meta"):
            return auto.from_config(self.config, dtype=self._dtype, attn_implementation="sdpa")

    def shape(self) -> Shape:
        """Parameters and bytes of each part, the adapter's included."""
        model, family = self._model(), self.spec.family
        packed = {f"{name}.weight" for name, module in model.named_modules() if self.is_packed and is_packed(name, module, family)}
        width = PACKED_WIDTH[FOUR_BITS[self.profile.quantization]] if packed else 0.0
        widths = {name: width if name in packed else item.element_size() for name, item in model.named_parameters()}
        sizes = {name: item.numel() for name, item in model.named_parameters()}
        trained = self._trained(model)
        held, layers = {part: 0.0 for part, _ in PARTS[family]}, dict.fromkeys(_gathered_alone(model), 0.0)
        for name, item in trained.named_parameters():
            plain = name.removeprefix("base_model.model.").replace(".base_layer.", ".").replace(".original_module.", ".")
            part = next(part for part, prefix in PARTS[family] if plain.startswith(prefix))
            num_bytes = item.numel() * (4 if item.requires_grad else widths[plain])
            held[part] += num_bytes
            if (layer := next((layer for layer in layers if plain.startswith(layer)), None)) is not None:
                layers[layer] += num_bytes
        wide = sum(sizes[name] for name in packed) * torch.finfo(self._dtype).bits / 8
        counts = dict(parameters_by_part(trained, family))
        return Shape(counts, held, sum(sizes[name] for name in packed), wide, tuple(layers.values()))

    def _trained(self, model: Any) -> Any:
        """The model as the recipe trains it: with its adapter, or every weight of it."""
        with torch.device("meta"):
            if isinstance(self.recipe, MatchRecipe):
                return adapted(model, self.recipe)
            if isinstance(self.recipe, Recipe):
                loaded = Loaded(model=model, processor=None, prompts=None, precision="", load_seconds=0.0)  # pyright: ignore
                return adapt(loaded, self.spec, self.recipe)
        return model.requires_grad_(requires_grad=False)

    def walk(self, sizes: Sizes) -> Walked:
        """A step with a batch of these sizes; what repeats (layers, chunks of matched pairs) is walked a few times, and multiplied."""
        chunk = self.profile.training_batch
        if isinstance(self.recipe, MatchRecipe) and sizes.num_pairs > 4 * chunk:
            # from the third chunk on alike: the gradients of the first two begin the sum that the others are added to
            three, four = (self._walk_layers(sizes._replace(num_pairs=count * chunk)) for count in (3, 4))
            return _sum(three, _scaled(_difference(four, three), sizes.num_pairs / chunk - 3))
        return self._walk_layers(sizes)

    def walk_many(self, counts: Sequence[int], sizes: Sizes) -> Iterator[Walked]:
        """Steps with other numbers of pairs: one, two and three are walked, and what a pair adds is multiplied; alone none is padded."""
        known: dict[int, Walked] = {}

        def walked(count: int) -> Walked:
            if count not in known:
                known[count] = self._walk_layers(sizes._replace(num_pairs=count))
            return known[count]

        for count in counts:
            yield walked(count) if count <= 3 else _sum(walked(2), _scaled(_difference(walked(3), walked(2)), count - 2))

    def _walk_layers(self, sizes: Sizes) -> Walked:
        lists = {name: _Repeats.of(self._model().get_submodule(name)) for name in LAYER_LISTS[self.spec.family]}
        cut = {name: found for name, found in lists.items() if found.is_worth_cutting}
        short = {name: FEWEST * found.period for name, found in cut.items()}
        first = self._walk(sizes, short)
        walked = first
        for name, found in cut.items():
            longer = self._walk(sizes, {**short, name: short[name] + found.period})
            walked = _sum(walked, _scaled(_difference(longer, first), found.count / found.period - FEWEST))
        return walked

    def _walk(self, sizes: Sizes, lengths: Mapping[str, int]) -> Walked:
        model = self._model()
        for name, length in lengths.items():
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, torch.nn.ModuleList(list(model.get_submodule(name))[:length]))
        fake = FakeTensorMode(allow_non_fake_inputs=True)
        packed = [module for name, module in model.named_modules() if self.is_packed and is_packed(name, module, self.spec.family)]
        model = self._trained(model)
        _make_fake(model, fake)
        for module in packed:
            module.forward = _packed_forward(module)
        batch = {
            name: FakeTensor(fake, item.to(torch.float32), CPU) if item.is_meta else item
            for name, item in BATCHES[self.spec.family](self.config, **sizes._asdict()).items()
        }  # fmt: skip
        if isinstance(self.recipe, MatchRecipe):
            return self._matching(model, batch, fake)
        batch["attention_mask"] = _padded(batch["input_ids"])
        return self._answer(model, batch, fake) if self.recipe is None else self._train(model, batch, fake)

    def _train(self, model: Any, batch: dict[str, Any], fake: FakeTensorMode) -> Walked:
        base = model.get_base_model()
        add_fused_lm_head(base, outputs=("log_probs", "entropy", "is_top1"))  # as TRL's trainer does
        if self.profile.gradient_checkpointing:
            base.activation_checkpointing_enable({"use_reentrant": False})
            leave_inputs_alone(base)
        batch["labels"] = batch["input_ids"]
        model.train()

        def loss() -> torch.Tensor:
            return -model(**batch, fused_lm_head=True, use_cache=False).log_probs.sum()

        return self._there_and_back(model, base, batch, fake, loss)

    def _matching(self, model: Any, batch: dict[str, Any], fake: FakeTensorMode) -> Walked:
        num_pairs, chunk = len(batch["input_ids"]), self.profile.training_batch
        matcher = Matcher(model, chunk=chunk if chunk < num_pairs else 0).train()
        numbers = torch.arange(num_pairs)

        def loss() -> torch.Tensor:
            return matcher(**batch, texts=numbers, groups=numbers, pictures=numbers)["loss"]

        return self._there_and_back(model, model, batch, fake, loss)

    def _there_and_back(
        self, model: Any, base: Any, batch: Mapping[str, Any], fake: FakeTensorMode, loss: Callable[[], torch.Tensor]
    ) -> Walked:
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.grad = FakeTensor(fake, torch.empty_like(parameter, device="meta"), CPU)  # as from the second micro-batch on
        counting = self._counting(model, batch, fake)
        with _makers(base, self.spec.family, counting), self._attention(), counting:
            with self._autocast():
                found = loss()
            counting.maker = counting.phase = BACK
            found.backward()
        return Walked(phases=counting.tally.peaks, num_operations=counting.num_operations, cache_bytes=0.0)

    def _answer(self, model: Any, batch: Mapping[str, Any], fake: FakeTensorMode) -> Walked:
        counting = self._counting(model.eval(), batch, fake)
        with _makers(model, self.spec.family, counting), self._attention(), counting, torch.no_grad(), self._autocast():
            said = model(**batch, use_cache=True, logits_to_keep=1)
            layers = said.past_key_values.layers
            kept = sum(item.numel() * item.element_size() for layer in layers for item in (layer.keys, layer.values) if item is not None)
        return Walked(phases=counting.tally.peaks, num_operations=counting.num_operations, cache_bytes=float(kept))

    def _counting(self, model: Any, batch: Mapping[str, Any], fake: FakeTensorMode) -> _Counting:
        standing = [*model.parameters(), *model.buffers(), *(item.grad for item in model.parameters() if item.grad is not None)]
        counting = _Counting(fake, iter(standing))
        counting.maker = "batch"
        for item in batch.values():
            counting._note(item.untyped_storage())
        counting.maker = LOSS
        return counting

    def _attention(self) -> Any:
        """On MPS attention is composed of products: tokens x tokens numbers of each head are kept (pytorch #179294)."""
        return sdpa_kernel(SDPBackend.MATH) if self.profile.device == "mps" else nullcontext()

    def _autocast(self) -> Any:
        is_half = self.profile.weights_dtype != "float32"
        return torch.autocast("cpu", DTYPES[self.profile.weights_dtype]) if is_half else nullcontext()


class _Repeats(NamedTuple):
    """A list of layers, and after how many of them the kinds begin again."""

    count: int
    period: int

    @classmethod
    def of(cls, layers: Any) -> "_Repeats":
        kinds = [(type(layer), tuple(item.shape for item in layer.parameters())) for layer in layers]
        fits = (n for n in range(1, len(kinds) + 1) if len(kinds) % n == 0 and all(kinds[i] == kinds[i % n] for i in range(len(kinds))))
        return cls(len(kinds), next(fits))

    @property
    def is_worth_cutting(self) -> bool:
        return self.count > 2 * FEWEST * self.period


def _make_fake(model: torch.nn.Module, fake: FakeTensorMode) -> None:
    """Parameters and buffers that say they are on the CPU and have no contents; trainable ones in 32 bits, as ``settle`` leaves them."""
    for module in model.modules():
        for name, item in module._parameters.items():
            if item is not None:
                width = torch.float32 if item.requires_grad else item.dtype
                module._parameters[name] = torch.nn.Parameter(FakeTensor(fake, item.data.to(width), CPU), requires_grad=item.requires_grad)
        for name, item in module._buffers.items():
            if item is not None:
                module._buffers[name] = FakeTensor(fake, item.to("meta"), CPU)


def _packed_forward(module: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    def forward(rows: torch.Tensor) -> torch.Tensor:
        product = _Unpacked.apply(rows, module.weight)
        return product if module.bias is None else product + module.bias

    return forward


def _padded(input_ids: torch.Tensor) -> torch.Tensor:
    """The mask of a batch whose conversations differ in length: alone none is padded, and no mask is made of it."""
    mask = torch.ones_like(input_ids)
    if len(input_ids) > 1:
        mask[-1, -1] = 0
    return mask


@contextmanager
def _makers(model: Any, family: Family, counting: _Counting) -> Generator[None, None, None]:
    """While a part of the model computes, what comes to be is made by it; on the way back all is ``back``'s, computed again or not."""
    modules, before = dict(model.named_modules()), list[str]()

    def entering(part: str) -> Callable[..., None]:
        def enter(*_: Any) -> None:
            if counting.phase != BACK:
                before.append(counting.maker)
                counting.maker = counting.phase = part

        return enter

    def leave(*_: Any) -> None:
        if counting.phase != BACK:
            counting.maker = counting.phase = before.pop()

    parts = [(modules[prefix.rstrip(".")], part) for part, prefix in PARTS[family] if prefix.rstrip(".") in modules]
    hooks = [module.register_forward_pre_hook(entering(part)) for module, part in parts]
    hooks += [module.register_forward_hook(leave) for module, _ in parts]
    yield
    for hook in hooks:
        hook.remove()


def _combined(first: Walked, second: Walked, combine: Callable[[float, float], float]) -> Walked:
    def both(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
        return {name: combine(one.get(name, 0.0), other.get(name, 0.0)) for name in {**one, **other}}

    return Walked(
        phases={name: both(first.phases.get(name, {}), second.phases.get(name, {})) for name in {**first.phases, **second.phases}},
        num_operations=combine(first.num_operations, second.num_operations), cache_bytes=combine(first.cache_bytes, second.cache_bytes),
    )  # fmt: skip


def _sum(first: Walked, second: Walked) -> Walked:
    return _combined(first, second, lambda one, other: one + other)


def _difference(first: Walked, second: Walked) -> Walked:
    return _combined(first, second, lambda one, other: one - other)


def _scaled(walked: Walked, factor: float) -> Walked:
    return _combined(walked, walked, lambda one, _: one * factor)
