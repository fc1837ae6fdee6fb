"""The sigmoid loss of pictures and texts, and the module whose forward is that loss over a whole batch on the memory of a part of it.

In: embeddings, or the tensors that an encoder embeds, with keys that say which of them belong together. Out: a loss. Who walks the
optimizer, and where pairs come from, is not known here.
Source: Zhai et al. 2023, "Sigmoid Loss for Language Image Pre-Training", arXiv 2303.15343, section 3.2; the requirement documents have a
term inside the sigmoid that normalizes over the batch: the paper has none.

Legend: B pairs of the whole batch (of all processes), b of a process, D width of the embeddings; in formulas t' and b are the paper's.
"""

from typing import Any, NamedTuple

import torch
import torch.distributed.nn.functional as across
from torch import distributed
from torch.nn.functional import logsigmoid, normalize
from torch.utils.checkpoint import checkpoint

ROWS = "rows"  # which captioned picture each pair is (b,): the trainer's label, not the loss's


class Embeddings(NamedTuple):
    """Unit vectors (b, D) of pictures and of their texts."""

    pictures: torch.Tensor
    texts: torch.Tensor


class Relation(NamedTuple):
    """What picture i and text j are to each other, (B, B) each."""

    is_positive: torch.Tensor
    """They belong together: the text stands, word for word, with picture i somewhere in the batch."""
    is_counted: torch.Tensor
    """False where they are of one patient and neither belong together nor speak against each other."""


def relation(texts: torch.Tensor, groups: torch.Tensor, pictures: torch.Tensor) -> Relation:
    """The relation of every picture to every text, from the keys (B,) of the pairs."""
    is_positive = _equal(pictures).float() @ _equal(texts).float() > 0  # of a row with picture i and a row with text j
    return Relation(is_positive, is_positive | ~_equal(groups))


def _equal(keys: torch.Tensor) -> torch.Tensor:
    return keys[:, None] == keys[None, :]


def sigmoid_loss(embedded: Embeddings, log_temperature: torch.Tensor, bias: torch.Tensor, related: Relation) -> torch.Tensor:
    """-1/B sum over i and j of log sigmoid(z_ij (t x_i . y_j + b)): z is 1 where they belong together, -1 where not; t = exp(t').

    Divided by the number of pairs and not of their products, so that every pair weighs the same however large the batch is. In the width
    of the embeddings, wherever it is called: a trainer's autocast would leave three digits of a logit, and steps of 0.06 around -10.
    """
    with torch.autocast(embedded.pictures.device.type, enabled=False):
        logits = embedded.pictures @ embedded.texts.T * log_temperature.exp() + bias
        signs = related.is_positive.to(logits.dtype) * 2 - 1
        return -(logsigmoid(signs * logits) * related.is_counted).sum() / len(logits)


def loss_if_orthogonal(log_temperature: float, bias: float, related: Relation) -> float:
    """The loss of a model to which no picture and text are similar at all: where one without training starts.

    softplus(-b) for each positive and softplus(b) for each negative, by pair: with b = -10 and B distinct pairs 10.00005 + (B - 1) 0.00005.
    The temperature multiplies similarities of 0, and does not matter.
    """
    num_pairs = len(related.is_positive)
    zero = torch.zeros(num_pairs, 1)
    return float(sigmoid_loss(Embeddings(zero, zero), torch.tensor(log_temperature), torch.tensor(bias), related))


def gathered(local: torch.Tensor) -> torch.Tensor:
    """The rows of all processes (B, ...), in the order of their ranks; gradients find their way back. Alone: the same tensor.

    Each process has as many rows as any other, which the trainer's sampler sees to.
    """
    if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
        return local
    if not local.is_floating_point():
        parts = [torch.empty_like(local) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, local.contiguous())
        return torch.cat(parts)
    return torch.cat(across.all_gather(local.contiguous()))


class Matcher(torch.nn.Module):
    """An encoder whose forward is the loss of a batch.

    A picture's negatives are the other texts of its batch, so that accumulation would not give it any more of them. Here all pairs go
    through one loss while only ``chunk`` of them are embedded at a time: what a chunk computed on its way is forgotten, and computed again
    in the backward pass. Over several processes each has the loss of all pairs; the mean of their gradients, which distributed training
    takes, is the gradient of the whole.
    """

    def __init__(self, encoder: torch.nn.Module, chunk: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.chunk = chunk
        """Pairs that are embedded at a time; 0: all of them, and nothing is computed twice. Operational: without dropout the gradient is
        the same."""
        self.num_tokens = 0
        """Patches and text positions that were trained on so far, padding included: these models are shown it."""

    @property
    def log_temperature(self) -> torch.nn.Parameter:
        """The logarithm of the temperature, t' (1,)."""
        return plain(self.encoder).logit_scale

    @property
    def bias(self) -> torch.nn.Parameter:
        """The bias of the logits, b (1,)."""
        return plain(self.encoder).logit_bias

    def embed(self, pixel_values: torch.Tensor, input_ids: torch.Tensor) -> Embeddings:
        """Unit vectors, chunk by chunk."""
        size = self.chunk or len(input_ids)
        parts: list[Embeddings] = []
        for start in range(0, len(input_ids), size):
            given = pixel_values[start : start + size], input_ids[start : start + size]
            if self.chunk and torch.is_grad_enabled():
                parts.append(Embeddings(*checkpoint(self._embed, *given, use_reentrant=False)))
            else:
                parts.append(self._embed(*given))
        return Embeddings(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))

    def _embed(self, pixel_values: torch.Tensor, input_ids: torch.Tensor) -> Embeddings:
        pictures = self.encoder.get_image_features(pixel_values=pixel_values).pooler_output
        texts = self.encoder.get_text_features(input_ids=input_ids).pooler_output
        return Embeddings(normalize(pictures.float(), dim=-1), normalize(texts.float(), dim=-1))

    def forward(
        self, pixel_values: torch.Tensor, input_ids: torch.Tensor, texts: torch.Tensor, groups: torch.Tensor, pictures: torch.Tensor,
        rows: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:  # fmt: skip
        """The loss over the batches of all processes, and this one's embeddings (b, D)."""
        local = self.embed(pixel_values, input_ids)
        if self.training:
            self.num_tokens += input_ids.numel() + len(input_ids) * num_patches(self.encoder)
        related = relation(gathered(texts), gathered(groups), gathered(pictures))
        loss = sigmoid_loss(Embeddings(gathered(local.pictures), gathered(local.texts)), self.log_temperature, self.bias, related)
        return {"loss": loss, "picture_embeddings": local.pictures, "text_embeddings": local.texts}


def plain(encoder: Any) -> Any:
    """The encoder itself, below a low-rank update."""
    return encoder.get_base_model() if hasattr(encoder, "get_base_model") else encoder


def num_patches(encoder: Any) -> int:
    """How many patches a picture becomes."""
    return plain(encoder).vision_model.embeddings.num_patches
