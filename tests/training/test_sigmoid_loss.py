"""The sigmoid loss. If these passed wrongly, an encoder would be trained on another loss than the paper's, two pictures of one patient
would be pushed apart, or a batch in chunks or on several processes would have other gradients than the whole one.
"""

import math
import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed
from transformers import SiglipModel

from medvl_lib.models import siglip
from medvl_lib.training.sigmoid_loss import Embeddings, Matcher, loss_if_orthogonal, relation, sigmoid_loss

WIDTH = 16


def keys(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.int64)


def embeddings(count: int, seed: int) -> Embeddings:
    torch.manual_seed(seed)
    both = torch.nn.functional.normalize(torch.randn(2, count, WIDTH, dtype=torch.float64), dim=-1)
    return Embeddings(both[0], both[1])


def slow_loss(embedded: Embeddings, log_temperature: float, bias: float, texts, groups, pictures) -> float:
    """The paper's formula, one product after the other."""
    total, count = 0.0, len(texts)
    for i in range(count):
        for j in range(count):
            is_one = any(pictures[k] == pictures[i] and texts[k] == texts[j] for k in range(count))
            if not is_one and groups[i] == groups[j]:
                continue
            z = 1.0 if is_one else -1.0
            similarity = sum(float(a) * float(b) for a, b in zip(embedded.pictures[i], embedded.texts[j], strict=True))
            total += math.log(1 / (1 + math.exp(-z * (math.exp(log_temperature) * similarity + bias))))
    return -total / count


@pytest.mark.parametrize(
    ("texts", "groups", "pictures"),
    [
        ((1, 2, 3, 4, 5, 6), (1, 2, 3, 4, 5, 6), (1, 2, 3, 4, 5, 6)),
        ((1, 1, 3, 4, 5, 1), (1, 2, 3, 4, 5, 6), (1, 2, 3, 4, 5, 6)),  # three say the same
        ((1, 2, 3, 4, 5, 6), (1, 1, 3, 3, 5, 6), (1, 2, 3, 4, 5, 5)),  # two patients with two, a picture with two texts
        ((1, 1, 3, 4, 5, 6), (1, 1, 3, 3, 5, 6), (1, 2, 3, 4, 5, 6)),  # one patient twice, and word for word
        ((1, 2, 2, 4, 5, 6), (1, 1, 3, 4, 5, 6), (1, 1, 3, 4, 5, 6)),  # what a picture's second text says stands with another picture, too
    ],
)
def test_it_is_the_papers_formula(texts, groups, pictures):
    embedded, t, b = embeddings(6, 3), math.log(7.0), -4.0
    found = sigmoid_loss(
        embedded, torch.tensor(t, dtype=torch.float64), torch.tensor(b, dtype=torch.float64),
        relation(keys(*texts), keys(*groups), keys(*pictures)),
    )  # fmt: skip
    assert found.item() == pytest.approx(slow_loss(embedded, t, b, texts, groups, pictures), abs=1e-6)


def test_a_trainers_autocast_does_not_cut_the_logits():
    """In bfloat16 a logit near -10 has steps of 0.06, and the loss of similar negatives would be that of each other."""
    both = Embeddings(*(tensor.float() for tensor in embeddings(6, 3)))
    related, t, b = relation(keys(*range(6)), keys(*range(6)), keys(*range(6))), torch.tensor(math.log(7.0)), torch.tensor(-4.0)
    with torch.autocast("cpu", torch.bfloat16):
        found = sigmoid_loss(both, t, b, related)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(slow_loss(both, math.log(7.0), -4.0, *[range(6)] * 3), abs=1e-6)


def test_word_for_word_is_positive_and_another_text_of_a_patient_is_left_out():
    related = relation(keys(1, 1, 3), keys(7, 8, 8), keys(1, 2, 3))
    assert related.is_positive.tolist() == [[True, True, False], [True, True, False], [False, False, True]]
    assert related.is_counted.tolist() == [[True, True, True], [True, True, False], [True, False, True]]


def test_every_text_of_a_picture_is_true_of_it_wherever_it_stands():
    """A picture with the texts 1 and 2, and another one with the text 2: the row with text 1 shows what text 2 is true of."""
    related = relation(keys(1, 2, 2), keys(7, 7, 8), keys(4, 4, 5))
    assert related.is_positive.tolist() == [[True, True, True], [True, True, True], [False, True, True]]
    assert related.is_counted.all()


def test_a_model_without_training_starts_at_the_loss_of_orthogonal_vectors():
    alone = relation(keys(*range(64)), keys(*range(64)), keys(*range(64)))
    expected = math.log1p(math.exp(10)) + 63 * math.log1p(math.exp(-10))
    assert loss_if_orthogonal(math.log(10), -10.0, alone) == pytest.approx(expected, rel=1e-6)
    assert expected == pytest.approx(10.0029, abs=1e-4)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("encoder")
    siglip.write_tiny(directory, seed=3, max_pixels=96 * 96)
    return directory


def fresh(directory: Path) -> SiglipModel:
    return SiglipModel.from_pretrained(directory, dtype=torch.float32).train()


def batch(count: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    numbers = torch.arange(count)
    return {
        "pixel_values": torch.rand(count, 3, 96, 96) * 2 - 1, "input_ids": torch.randint(1, 500, (count, 64)),
        "texts": numbers.clone(), "groups": numbers.clone(), "pictures": numbers.clone(),
    }  # fmt: skip


def test_it_is_the_loss_of_the_library_where_all_texts_are_distinct(encoder: Path):
    model, given = fresh(encoder), batch(5)
    theirs = model(input_ids=given["input_ids"], pixel_values=given["pixel_values"], return_loss=True).loss
    assert Matcher(model, chunk=0)(**given)["loss"].item() == pytest.approx(theirs.item(), rel=1e-6)


def gradients(matcher: Matcher, given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    matcher.zero_grad()
    matcher(**given)["loss"].backward()
    return {name: parameter.grad.clone() for name, parameter in matcher.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("chunk", [1, 3, 4])
def test_a_batch_in_chunks_has_the_gradient_of_the_whole(encoder: Path, chunk: int):
    given = {**batch(8), "texts": keys(1, 1, 3, 4, 5, 6, 7, 8), "groups": keys(1, 2, 3, 3, 5, 6, 7, 8)}
    whole, parts = (gradients(Matcher(fresh(encoder), chunk=size), given) for size in (0, chunk))
    assert whole.keys() == parts.keys()
    assert {"encoder.logit_scale", "encoder.logit_bias"} < set(whole)
    norm = torch.cat([gradient.flatten() for gradient in whole.values()]).norm()
    difference = torch.cat([(whole[name] - parts[name]).flatten() for name in whole]).norm()
    assert norm > 1e-2
    assert difference / norm < 1e-5


def _of_one_process(rank: int, world: int, encoder: Path, rendezvous: Path, results: Any) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world)
    given = {name: tensor.chunk(world)[rank] for name, tensor in _shared_batch().items()}
    model = torch.nn.parallel.DistributedDataParallel(Matcher(fresh(encoder), chunk=1))
    loss = model(**given)["loss"]
    loss.backward()
    found = {name: parameter.grad for name, parameter in model.module.named_parameters() if parameter.grad is not None}
    torch.save({"loss": loss.detach(), "gradients": found}, f"{results}/{rank}.pt")
    distributed.destroy_process_group()


def _shared_batch() -> dict[str, torch.Tensor]:
    return {**batch(4), "texts": keys(1, 2, 1, 4), "groups": keys(1, 2, 3, 2)}  # across the processes: a text twice, a patient twice


def test_two_processes_have_the_loss_and_the_gradient_of_one_with_all_pairs(encoder: Path, tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_of_one_process, args=(rank, 2, encoder, tmp_path / "meet", tmp_path)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    matcher, given = Matcher(fresh(encoder), chunk=0), _shared_batch()
    loss, whole = matcher(**given)["loss"], gradients(matcher, given)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert found["loss"].item() == pytest.approx(loss.item(), rel=1e-6)
        assert found["gradients"].keys() == whole.keys()
        difference = torch.cat([(whole[name] - found["gradients"][name]).flatten() for name in whole]).norm()
        assert difference / torch.cat([gradient.flatten() for gradient in whole.values()]).norm() < 1e-5
