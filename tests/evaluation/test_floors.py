"""Floors. If these passed wrongly, a model could look good because it was held against a floor that is too low."""

import random

from medvl_lib.evaluation.floors import NUM_COMPARED, NUM_LABELLED, floor_predictions, floors_of, majority_answer, most_typical
from medvl_lib.evaluation.predictions import FLOORS, Reference
from medvl_lib.pairs import Triple
from medvl_lib.provenance import digest


def reference(
    number: int, response: str, *facts: tuple[str, str, str], dataset: str = "labs", request: str = "What is it?", language: str = "en",
) -> Reference:  # fmt: skip
    return Reference(
        pair_id=f"{dataset}/{number}", dataset=dataset, split="train", group_id=str(number), language=language, licence="CC0-1.0",
        request=request,
        response=response,
        expected=tuple(Triple(term=term, value=value, unit=unit) for term, value, unit in facts), slices={}, glyph_height_pixels=None,
    )  # fmt: skip


SODIUM, SODIUM_LOW = ("Sodium", "139", "mmol/L"), ("Sodium", "128", "mmol/L")
GLUCOSE, LACTATE, SEX = ("Glucose", "92", "mg/dL"), ("Lactate", "1.3", "mmol/L"), ("Sex", "female", "")
LABS = [
    reference(1, "b", SODIUM, GLUCOSE),
    reference(2, "a", SODIUM_LOW),
    reference(3, "b", SODIUM_LOW, SODIUM, SEX, LACTATE, *((metal, "1", "mg/L") for metal in ("Copper", "Iron", "Zinc"))),
    reference(4, "a", SODIUM_LOW, SEX),
]  # Sodium is stated 5 times (128 three times), Sex twice, all others once; 2 facts at the median, 3 on average
HELD_OUT = reference(9, "the truth", LACTATE)


def answers(training: list[Reference], asked: Reference, seed: int = 7) -> dict[str, str]:
    return {found.variant: found.answer for found in floor_predictions(training, [asked], seed)}


def test_the_empty_floor_says_nothing():
    assert answers(LABS, HELD_OUT)["floor_empty"] == ""


def test_the_constant_floor_says_the_commonest_answer_and_the_first_of_equals():
    assert answers(LABS, HELD_OUT)["floor_constant"] == "a"
    assert answers([*LABS, reference(5, "b")], HELD_OUT)["floor_constant"] == "b"


def test_the_random_floor_says_another_pairs_answer_the_same_each_time():
    training = [reference(number, str(number)) for number in range(100)]
    said = [answers(training, reference(number, ""))["floor_random"] for number in range(200, 230)]
    assert said == [answers(training, reference(number, ""))["floor_random"] for number in range(200, 230)]
    assert said[0] == str(random.Random(digest([7, "labs/200"])).randrange(100))
    assert len(set(said)) > 15
    assert said != [answers(training, reference(number, ""), seed=8)["floor_random"] for number in range(200, 230)]


def test_the_majority_floor_says_the_commonest_terms_with_their_commonest_values():
    assert answers(LABS, HELD_OUT)["floor_majority"] == "Sodium: 128 mmol/L\nSex: female"


def test_equally_common_terms_and_values_come_in_alphabetical_order():
    training = [reference(1, "", GLUCOSE, SODIUM), reference(2, "", LACTATE, SODIUM_LOW)]
    assert majority_answer(training) == "Sodium: 128 mmol/L\nGlucose: 92 mg/dL"


def test_without_facts_the_majority_is_the_commonest_answer():
    assert majority_answer([reference(1, "yes"), reference(2, "no"), reference(3, "yes")]) == "yes"


def test_a_dataset_is_answered_from_its_own_training_pairs():
    training = [*LABS, reference(1, "a long page", dataset="mtsamples")]
    said = answers(training, reference(2, "", dataset="mtsamples"))
    assert said == {
        "floor_empty": "", "floor_constant": "a long page", "floor_random": "a long page", "floor_majority": "a long page",
    }  # fmt: skip


def test_each_language_is_answered_from_its_own_training_pairs():
    """In a set of two languages the commonest answer of all would be wrong for every question of the rarer one."""
    training = [reference(number, "yes") for number in range(5)] + [reference(number, "是的", language="zh") for number in range(5, 7)]
    assert answers(training, reference(9, "", language="zh")) == {
        "floor_empty": "", "floor_constant": "是的", "floor_random": "是的", "floor_majority": "是的",
    }  # fmt: skip
    assert answers(training, reference(9, "", language="fr"))["floor_majority"] == ""


def test_the_constant_report_is_the_most_typical_one_and_not_the_commonest():
    """By hand: of 2 x shared words / words of both, over all six, the third has 0.4 + 0.4 + 1 + 8/9 + 8/9 = 3.6, "clear" has 3.1."""
    texts = ["clear", "clear", "the lungs are clear", "the lungs are clear today", "the lungs are now clear", "fracture"]
    assert most_typical(texts) == "the lungs are clear"
    assert most_typical(["双肺纹理清晰", "骨折", "双肺清晰。"]) == "双肺清晰。"  # as typical, and the first of equals
    assert most_typical([]) == ""
    chinese = [reference(number, text, language="zh") for number, text in enumerate(["双肺纹理清晰", "骨折", "双肺清晰。"])]
    said = answers(chinese, reference(9, "", language="zh"))
    assert said["floor_constant"] == said["floor_majority"]  # the labeler reads nothing in any of them


NORMAL, EFFUSION = "No acute process.", "There is a small left pleural effusion at the base. No pneumothorax."
IMPRESSIONS = [
    "Impression: Normal chest.\nCheXpert labels: No Finding present", f"Impression: {NORMAL}\nCheXpert labels: No Finding present",
    f"Impression: {NORMAL} The lungs are clear.\nCheXpert labels: No Finding present",
    f"Impression: {EFFUSION}\nCheXpert labels: Pleural Effusion present, Pneumothorax absent",
    f"Impression: {EFFUSION} Unchanged.\nCheXpert labels: Pleural Effusion present, Pneumothorax absent",
    "Impression: Small left pleural effusion at the base. Possible edema.\nCheXpert labels: Edema uncertain, Pleural Effusion present",
]  # fmt: skip


def test_the_majority_report_is_normal_where_most_are_and_the_most_typical_one_need_not_be():
    """Half of them name nothing and half an effusion; two of these are alike word by word, so one of them is typical of all."""
    said = answers([reference(number, text) for number, text in enumerate(IMPRESSIONS)], reference(9, ""))
    assert "effusion" in said["floor_constant"]
    assert said["floor_majority"] == IMPRESSIONS[1]


def test_diagnoses_behind_findings_are_no_findings_and_equally_common_ones_are_the_fewest():
    reports = [
        "Findings: The lungs are clear.\n\nDiagnoses:\n- ICD-10 J189: Pneumonia, unspecified organism",
        "Findings: Cardiomegaly and edema.", "Findings: The lungs are clear.\n\nDiagnoses:\n- ICD-10 J90: Pleural effusion",
        "Findings: Cardiomegaly and edema are seen.",
    ]  # fmt: skip
    assert majority_answer([reference(number, text) for number, text in enumerate(reports)]).startswith("Findings: The lungs are clear.")


def test_the_commonest_findings_of_many_reports_are_sought_in_some_of_them():
    many = [reference(number, f"Edema, case {number}.") for number in range(NUM_LABELLED)]
    few = [reference(number, f"Normal, case {number}.") for number in range(NUM_LABELLED, NUM_LABELLED + 50)]
    assert majority_answer([*few, *many]) == majority_answer([*many, *few])
    assert majority_answer([*few, *many]).startswith("Edema")


def test_of_many_reports_some_are_looked_at_the_same_each_time():
    texts = [f"word{number} shared" for number in range(5 * NUM_COMPARED)]
    assert most_typical(texts) == most_typical(texts[::-1])


def test_a_dataset_without_training_pairs_gets_empty_answers():
    assert set(answers(LABS, reference(1, "x", dataset="benchmark_only")).values()) == {""}


def test_the_held_out_answer_never_reaches_a_floor():
    floors = floors_of(LABS, 7)
    other = reference(9, "something else", ("Zinc", "1", "mg"))
    assert {name: floor(HELD_OUT) for name, floor in floors.items()} == {name: floor(other) for name, floor in floors.items()}


def test_every_floor_answers_every_pair_with_no_tokens_and_no_latency():
    found = list(floor_predictions(LABS, [HELD_OUT, reference(10, "x")], 7))
    assert [(row.variant, row.pair_id) for row in found] == [(floor, f"labs/{number}") for number in (9, 10) for floor in FLOORS]
    assert {(row.num_prompt_tokens, row.num_answer_tokens, row.latency_seconds, row.condition) for row in found} == {(0, 0, None, "as_is")}


def test_the_majority_floor_knows_which_answer_a_question_mostly_gets():
    training = [
        reference(1, "yes", request="Is there a fracture?"), reference(2, "no", request="Is there an effusion?"),
        reference(3, "no", request="is there  an effusion"), reference(4, "yes", request="is there an effusion?"),
        reference(5, "lung", request="Which organ?"), reference(6, "no", request="Is it large?"),
    ]  # fmt: skip
    asked = {question: answers(training, reference(9, "", request=question))["floor_majority"]
             for question in ("Is there a fracture?", "IS THERE AN EFFUSION?", "which organ", "Which side?", "Never asked?")}  # fmt: skip
    assert asked == {
        "Is there a fracture?": "yes", "IS THERE AN EFFUSION?": "no", "which organ": "lung", "Which side?": "lung", "Never asked?": "no",
    }  # fmt: skip
