"""Masks. If these passed wrongly, a model would be taught to write ``___``, or what is left of a sentence would say something else."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medvl_lib.datasets.masks import MASK, Unmasked, unmasked


def test_a_text_without_a_mask_is_left_as_it_is():
    text = "1. Cardiomegaly,  unchanged .\n3. No effusion (left)."
    assert unmasked(text) == Unmasked(text, 0, 0)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Compared to ___, the heart is larger.", "The heart is larger."),
        ("As compared to ___ and ___, the heart is larger.", "The heart is larger."),
        ("In comparison with ___, there is no change.", "There is no change."),
        ("In comparison with the study of ___, there is no change.", "In comparison with the study, there is no change."),
        ("As compared to the last radiograph of ___ at ___, it is larger.", "As compared to the last radiograph, it is larger."),
        ("The opacity is unchanged since ___.", "The opacity is unchanged."),
        ("The opacity seen on ___ has cleared.", "The opacity seen has cleared."),
        ("Unchanged from ___ (___).", None),
        ("AP chest compared to ___: The heart is larger.", "The heart is larger."),
        ("Comparison is made to the chest radiograph from ___ at 9:04 a.m. It is larger.",
         "Comparison is made to the chest radiograph. It is larger."),
        ("Since the film of ___ at 9 a.m., the heart is larger.", "Since the film, the heart is larger."),
        ("Compared to ___ at 14:32, the heart is larger.", "The heart is larger."),
        ("The heart is larger than on the prior ___ chest radiograph.", "The heart is larger than on the prior chest radiograph."),
        ("Since the last study (___, ___), the heart is larger.", "Since the last study, the heart is larger."),
        ("The tube, seen on ___ at ___, is gone.", "The tube, seen, is gone."),
        ("The heart (unchanged from ___) is large.", "The heart (unchanged) is large."),
        ("The heart is large, compared to ___.", "The heart is large."),
    ],
)  # fmt: skip
def test_a_phrase_that_only_dates_something_is_taken_out(text: str, left: str | None):
    found = unmasked(text)
    assert found.text == (left or "")
    assert (found.num_phrases > 0, found.num_sentences) == ((True, 0) if left else (False, 1))


@pytest.mark.parametrize(
    "masked",
    [
        "There is no evidence of ___.",
        "The nodule of ___ mm is new.",
        "Heart size: ___ cm.",
        "The tube ends ___ cm above the carina.",
        "___ year old man with cough.",
        "The findings were discussed with Dr. ___ by ___ at 9:40 a.m. on ___.",
        "Dr. ___ was paged on ___.",
        "Findings were telephoned to Dr. ___ at 9 a.m. ___ minutes after discovery.",
        "Unchanged since ___.",
        "On ___ liters of oxygen the lungs are clear.",
        "Study of ____/__ read as normal at __________.",
    ],
)
def test_a_sentence_that_hangs_on_a_mask_is_left_out_whole_and_its_neighbours_stay(masked: str):
    assert unmasked(masked) == Unmasked("", 0, 1)
    assert unmasked(f"The lungs are clear. {masked} The heart is large.") == Unmasked("The lungs are clear. The heart is large.", 0, 1)


def test_lists_are_numbered_anew():
    text = "1. Opacity on the left. Discussed with Dr. ___.\n2. ___ was told.\n3. Large heart, unchanged since ___.\nA last line."
    assert unmasked(text) == Unmasked("1. Opacity on the left.\n2. Large heart, unchanged.\nA last line.", 1, 2)


def test_nothing_is_left_of_a_text_of_masks():
    assert unmasked("___.\n1. ___\n2. ___ ___") == Unmasked("", 0, 3)


PIECES = st.sampled_from([
    "___", "____", "compared to ", "since ", "of ", "on ", "Dr. ", "a.m. ", "The heart is large. ", "study ", "no evidence of ", ", ", ". ",
    "\n", "1. ", "2) ", "(", ")", "discussed ", "Lungs clear", " and ", "/", "_ _ ",
])  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES, max_size=14).map("".join))
def test_no_mask_is_ever_left_and_no_word_is_ever_made_up(text: str):
    found = unmasked(text)
    assert not MASK.search(found.text)
    words = re.findall(r"[a-z]+", text.lower())
    rest = iter(words)
    assert all(word in rest for word in re.findall(r"[a-z]+", found.text.lower())), "the words that stay, in their order"
    assert unmasked(found.text) == Unmasked(found.text, 0, 0)
