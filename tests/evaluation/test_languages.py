"""If these passed wrongly, a Chinese abbreviation would be called a foreign answer and score nothing, or an answer in the wrong language
would count among the merely wrong ones.
"""

import pytest

from medvl_lib.evaluation.metrics.languages import is_in_another_script


@pytest.mark.parametrize(
    ("answer", "wanted", "language"),
    [
        ("the left lung", "左肺", "zh"),
        ("lung", "肺", "zh"),
        ("The CT shows a nodule in the left upper lobe.", "CT示左肺上叶结节", "zh"),
        ("Yes.", "是的", "zh"),
        ("左肺", "the left lung", "en"),
        ("CT显示双肺清晰", "The lungs are clear.", "en"),
        ("左肺 lung 上叶结节", "A nodule in the left upper lobe", "en"),  # most of it
        ("Лёгкие чистые", "The lungs are clear.", "en"),
        ("lungs are clear", "Лёгкие чистые", "ru"),
        ("THE LEFT LUNG IS CLEAR", "左肺清晰", "zh"),  # capitals are no disguise
        ("THERE IS A MASS.", "有肿块", "zh"),
        ("ADENOCARCINOMA", "腺癌", "zh"),
        ("NO ACUTE DISEASE", "未见急性病变", "zh"),
        ("双肺清晰", "THE LUNGS ARE CLEAR", "en"),
        ("肺はきれいです", "The lungs are clear", "en"),
    ],
)
def test_an_answer_in_another_script_is_told(answer: str, wanted: str, language: str):
    assert is_in_another_script(answer, wanted, language)


@pytest.mark.parametrize(
    ("answer", "wanted", "language"),
    [
        ("CT", "CT", "zh"),  # the wanted answer is no Chinese either
        ("MRI", "核磁共振", "zh"),  # an abbreviation is of no language
        ("X-Ray", "X光", "zh"),
        ("T2", "T2加权", "zh"),
        ("CT显示COPD", "CT显示慢性阻塞性肺病", "zh"),
        ("CT, MRI, PET", "断层扫描", "zh"),  # a list is no sentence
        ("MRI FLAIR", "核磁共振", "zh"),
        ("左肺 adenocarcinoma", "左肺腺癌", "zh"),  # as much of the one as of the other
        ("adenocarcinoma", "左肺上叶结节，考虑 adenocarcinoma 可能", "zh"),  # a word that the wanted answer has
        ("120/80 mmHg, 4.1", "血压 120/80 mmHg", "zh"),
        ("", "左肺", "zh"),
        ("4.1", "the value is 4.1", "en"),
        ("μ α β", "the mean", "en"),  # signs, not a language
        ("le poumon gauche", "the left lung", "en"),  # one script: not told apart
        ("the left lung", "左肺", "en"),  # the pair's own language and its answer do not agree
        ("左肺", "the left lung", "zh"),
        ("左肺", "左肺", "ja"),
        ("lung", "肺", "und"),  # nothing is known of the language
    ],
)
def test_what_may_be_right_is_not_held_against_an_answer(answer: str, wanted: str, language: str):
    assert not is_in_another_script(answer, wanted, language)


def test_words_of_the_question_and_its_labels_are_in_every_language():
    assert is_in_another_script("sagittal", "矢状面", "zh")
    assert not is_in_another_script("sagittal", "矢状面", "zh", ("这是 sagittal 还是 coronal?",))
    assert not is_in_another_script("lung", "肺", "zh", ("哪个器官?", "肺=lung", "心脏=heart"))
