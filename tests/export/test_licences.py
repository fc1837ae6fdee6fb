"""Licences of exported weights. If these passed wrongly, weights that were trained on credentialed reports would be labelled as free."""

import pytest

from medvl_lib.datasets import DATASETS
from medvl_lib.export.licences import (
    APACHE,
    CC_BY,
    CC_BY_NC,
    CC_BY_NC_SA,
    HUB_MODELS,
    LLAMA,
    PHYSIONET,
    PUBLIC,
    RESEARCH,
    UNKNOWN,
    licence_of,
    licence_of_model,
    strictest,
)
from medvl_lib.lines import ENCODER, MODELS, tiny_model


@pytest.mark.parametrize(
    ("stated", "wanted"),
    [
        ("CC0-1.0", PUBLIC), ("CC-BY-4.0", CC_BY), ("CC BY", CC_BY), ("CC-BY-NC-SA-4.0", CC_BY_NC_SA), ("MIT", licence_of("mit")),
        ("PhysioNet Credentialed Health Data License 1.5.0", PHYSIONET), ("not stated", UNKNOWN), ("", UNKNOWN),
        ("CC-BY-4.0 as stated on Mendeley Data, unconfirmed", UNKNOWN), ("CC BY-NoDerivs 4.0", UNKNOWN),
        ("cc by-nc-nd 4.0".upper(), UNKNOWN),
        ("cc-by-nc-nd-4.0", UNKNOWN), ("Attribution-NonCommercial-NoDerivatives (CC BY-NC)", UNKNOWN), ("CC BY-NC 4.0", CC_BY_NC),
        ("ours", UNKNOWN),
        ("MIT as labelled on the hub; the pictures' copyright stays with the publishers", UNKNOWN), ("CC CODE", UNKNOWN),
    ],
)  # fmt: skip
def test_a_publishers_words_are_read_with_caution(stated: str, wanted: object) -> None:
    assert licence_of(stated) == wanted


def test_every_dataset_whose_card_allows_to_show_it_has_a_licence_that_is_understood() -> None:
    assert {
        name: licence_of(data.licence) for name, data in DATASETS.items() if data.may_be_shown and licence_of(data.licence) == UNKNOWN
    } == {}
    assert licence_of(DATASETS["mimic_cxr"].licence) == PHYSIONET
    assert licence_of(DATASETS["mtsamples"].licence) == UNKNOWN


def test_the_strictest_one_counts() -> None:
    assert strictest([APACHE, PUBLIC]) == APACHE
    assert strictest([APACHE, CC_BY, PUBLIC]) == CC_BY
    assert strictest([RESEARCH, PHYSIONET, CC_BY_NC_SA]) == PHYSIONET
    assert strictest([PHYSIONET, UNKNOWN]) == UNKNOWN


def test_every_published_base_model_has_a_licence() -> None:
    assert {MODELS[family].hub_id for family in MODELS} | {ENCODER.model.hub_id} == set(HUB_MODELS)
    assert licence_of_model(MODELS["mllama"]) == LLAMA
    assert licence_of_model(MODELS["llava_med"]) == RESEARCH
    assert licence_of_model(tiny_model("siglip")) == APACHE
