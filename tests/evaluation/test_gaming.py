"""Answers that say nothing and look like something (facts on evaluation, sections 1, 2 and 5). If these passed wrongly, a model that dumps
words, echoes another patient's page or always says "normal" could beat the floors, and be served.

Each is scored on the metrics that a gate may decide by, and held against the floors of the very same test set.
"""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from medvl_lib.chat import SLICES
from medvl_lib.datasets import DATASETS
from medvl_lib.evaluation.floors import WORD, floors_of
from medvl_lib.evaluation.metrics import METRICS
from medvl_lib.evaluation.predictions import FLOORS, Reference
from medvl_lib.evaluation.statistics import Estimate, cluster_sums, estimate, mean
from medvl_lib.pairs import Draft, Triple
from medvl_lib.sample_data import write

Answer = Callable[[Reference], str]
HEDGE = "I cannot determine this; the image looks normal, nothing is seen."


def of_dataset(name: str, **counts: int) -> list[Reference]:
    """An invented dataset as references, in the split that it names itself."""
    with TemporaryDirectory() as folder:
        write(name, Path(folder) / "raw", counts=counts or None)
        pairs = [reading.pair for reading in DATASETS[name].read(Path(folder) / "raw") if isinstance(reading, Draft)]
    return [
        Reference(
            pair_id=pair.pair_id, dataset=name, split=pair.metadata.get("publisher_split") or pair.publisher_split, group_id=pair.group_id,
            language=pair.language, licence=pair.licence, request=pair.request, response=pair.response, expected=pair.expected,
            slices={key: pair.metadata[key] for key in SLICES if key in pair.metadata}, glyph_height_pixels=None,
        ) for pair in pairs
    ]  # fmt: skip


NORMAL = {
    "en": [
        ["The lungs are clear.", "Both lungs are well aerated without opacity.", "Lungs clear bilaterally.", "No infiltrate."],
        ["The heart size is normal.", "Cardiac silhouette normal.", "Heart not enlarged.", "Normal cardiac contour."],
        ["There is no pleural effusion.", "Costophrenic angles are sharp.", "No fluid in the pleural space.", "Pleura unremarkable."],
        ["There is no pneumothorax.", "Pneumothorax is absent.", "No free air in the chest.", "Neither side shows a pneumothorax."],
        ["The bony structures are intact.", "No acute osseous abnormality.", "Visualized skeleton unremarkable.", "Ribs and spine intact."],
    ],
    "zh": [
        ["双肺纹理清晰。", "两肺野透亮度正常，未见渗出。", "肺内未见异常密度影。", "双侧肺部无明显病变。"],
        ["心影大小正常。", "心脏轮廓在正常范围内。", "心脏不大。", "心膈未见异常。"],
        ["未见胸腔积液。", "双侧肋膈角锐利。", "胸膜腔内无液体。", "胸膜光整。"],
        ["未见气胸。", "无气胸征象。", "胸腔内没有游离气体。", "两侧均无气胸表现。"],
        ["骨质结构完整。", "所见骨骼无急性改变。", "肋骨及脊柱未见骨折。", "胸廓对称。"],
    ],
}  # fmt: skip
FOUND = {
    "en": [
        "There is a small left pleural effusion.", "Patchy opacity is seen in the right lower lobe.", "The heart is moderately enlarged.",
        "Mild degenerative changes of the thoracic spine.", "A calcified granuloma in the left upper lobe.", "Bibasilar atelectasis.",
        "A right chest tube is in place.", "Interval increase of the interstitial markings.", "Sternotomy wires are noted.",
    ],
    "zh": [
        "左侧少量胸腔积液。", "右下肺斑片状阴影。", "心影中度增大。", "胸椎轻度退行性变。", "左上肺钙化灶。", "双肺底条索状不张。",
        "右侧胸腔引流管在位。", "间质纹理较前增多。", "胸骨见金属丝影。",
    ],
}  # fmt: skip


def reports(language: str) -> list[Reference]:
    """Chest reports: each normal topic with 7 in 10, in one of four wordings; one to four findings below it in two of three."""
    draw, joint = random.Random(11), {"en": " ", "zh": ""}[language]
    found: list[Reference] = []
    for number in range(400):
        sentences = [draw.choice(topic) for topic in NORMAL[language] if draw.random() < 0.7] or NORMAL[language][0][:1]
        sentences += draw.sample(FOUND[language], draw.randrange(1, 5)) if draw.random() < 2 / 3 else []
        found.append(reference(f"r/{number}", language, "Write the report.", joint.join(sentences), is_test=number < 120))
    return found


def questions() -> list[Reference]:
    """Closed and open questions about invented pictures, 400 of each: findings are there more or less often, places have 90 names."""
    draw = random.Random(12)
    findings = [f"{kind} {sort}" for kind in ("calcified", "cystic", "solid", "diffuse") for sort in ("nodule", "mass", "lesion", "edema")]
    bones = [
        start + end for start in ("fem", "tib", "rad", "uln", "hum", "tars", "clav", "fib", "sac", "ili") for end in ("ur", "ia", "ius")
    ]
    places = [f"{side} {bone}" for bone in bones for side in ("left", "right", "proximal")]
    found: list[Reference] = []
    for number in range(800):
        finding = draw.choice(findings)
        if number % 2:
            answer = "yes" if draw.random() < 0.35 + 0.3 * finding.startswith("solid") else "no"
            asked, kind = f"Is there a {finding}?", "closed"
        else:
            answer = draw.choices(places, weights=range(len(places), 0, -1))[0]
            asked, kind = f"Where is the {finding}?", "open"
        found.append(reference(f"q/{number}", "en", asked, answer, is_test=number < 240, answer_type=kind))
    return found


def reference(pair_id: str, language: str, request: str, response: str, *, is_test: bool, **slices: str) -> Reference:
    return Reference(
        pair_id=pair_id, dataset=pair_id[0], split="test" if is_test else "train", group_id=pair_id, language=language, licence="CC0-1.0",
        request=request, response=response, expected=(), slices=slices, glyph_height_pixels=None,
    )  # fmt: skip


SETS: dict[str, Callable[[], list[Reference]]] = {
    "documents": lambda: of_dataset("clinical_documents", validation=0, benchmark=0),
    "questions": questions,
    "reports_en": lambda: reports("en"),
    "reports_zh": lambda: reports("zh"),
}
GATED = {
    "documents": ("pair_accuracy",),
    "questions": ("closed_accuracy", "open_exact", "token_f1"),
    "reports_en": ("bleu_4", "rouge_l"),
    "reports_zh": ("bleu_4", "rouge_l"),
}


@cache
def both(name: str) -> tuple[list[Reference], list[Reference]]:
    """The training and the test pairs of a set."""
    references = SETS[name]()
    return [one for one in references if one.split == "train"], [one for one in references if one.split == "test"]


def scored(metric: str, answer: Answer, held_out: Iterable[Reference]) -> Estimate:
    """What the metric makes of an answer to every pair that it applies to."""
    found = METRICS[metric]
    asked = [one for one in held_out if found.applies_to(one)]
    assert len(asked) >= 20
    if found.corpus is None:
        return estimate(cluster_sums([(one.group_id, found.score(answer(one), one)) for one in asked], mean))
    return estimate(cluster_sums([(one.group_id, found.corpus.statistics(answer(one), one)) for one in asked], found.corpus.value))


@cache
def best_floor(name: str, metric: str) -> Estimate:
    """The best of the four floors on the same pairs."""
    training, held_out = both(name)
    floors = floors_of(training, seed=42)
    return max((scored(metric, floors[floor], held_out) for floor in FLOORS), key=lambda found: found.mean)


def commonest_words(training: Sequence[Reference], count: int) -> str:
    words = Counter(word for one in training for word in WORD.findall(one.response.casefold()))
    return " ".join(word for word, _ in words.most_common(count))


def on_wrong_terms(reference: Reference) -> str:
    """Every value of the page, none where it belongs."""
    values = [f"{one.value} {one.unit}" for one in reference.expected]
    return "\n".join(f"{one.term}: {value}" for one, value in zip(reference.expected, values[1:] + values[:1], strict=True))


def soup_for_every_term(reference: Reference) -> str:
    return "\n".join(f"{one.term}: {' '.join(map(str, range(200)))}" for one in reference.expected)


def digits(_: Reference) -> str:
    return " ".join(map(str, range(1000)))


ALWAYS_NORMAL = {"reports_en": " ".join(topic[0] for topic in NORMAL["en"]), "reports_zh": "".join(topic[0] for topic in NORMAL["zh"])}
SHORT_NORMAL = {"reports_en": "Normal chest. No acute disease.", "reports_zh": "胸部未见异常。"}
GAMES: dict[str, tuple[str, ...]] = {
    "right values on wrong terms": ("documents",),
    "digit soup for every term": ("documents",),
    "digit soup": ("documents", "questions", "reports_en", "reports_zh"),
    "the 50 commonest words": ("documents", "questions", "reports_en", "reports_zh"),
    "the 200 commonest words": ("documents", "questions", "reports_en", "reports_zh"),
    "nothing": ("documents", "questions", "reports_en", "reports_zh"),
    "yes and no": ("questions",),
    "a hedge": ("questions", "reports_en"),
    "a constant with a yes": ("questions",),
    "normal in two sentences": ("reports_en", "reports_zh"),
    "the question": ("documents", "questions", "reports_en"),
}
CASES = [(game, name, metric) for game, names in GAMES.items() for name in names for metric in GATED[name]]


def played(game: str, name: str) -> Answer:
    training, _ = both(name)
    dump = {count: commonest_words(training, count) for count in (50, 200)}
    answers: dict[str, Answer] = {
        "right values on wrong terms": on_wrong_terms, "digit soup for every term": soup_for_every_term, "digit soup": digits,
        "the 50 commonest words": lambda _: dump[50], "the 200 commonest words": lambda _: dump[200], "nothing": lambda _: "",
        "yes and no": lambda _: "yes and no", "a hedge": lambda _: HEDGE, "a constant with a yes": lambda _: "The nodule is abnormal, yes.",
        "normal in two sentences": lambda _: SHORT_NORMAL[name], "the question": lambda one: one.request,
    }  # fmt: skip
    return answers[game]


@pytest.mark.parametrize(("game", "name", "metric"), CASES, ids=[" - ".join(case) for case in CASES])
def test_an_empty_show_scores_at_most_its_honest_floor(game: str, name: str, metric: str):
    assert METRICS[metric].is_gateable
    assert scored(metric, played(game, name), both(name)[1]).mean <= best_floor(name, metric).mean


ECHOES = [(name, metric) for name in SETS for metric in GATED[name]]


@pytest.mark.parametrize(("name", "metric"), ECHOES)
def test_another_patients_text_is_worth_a_floor(name: str, metric: str):
    """It is the random floor with other draws, so it lies below the best floor, or within that one's interval."""
    training, held_out = both(name)
    draw = random.Random(99)
    said = {one.pair_id: draw.choice(training).response for one in held_out}
    assert scored(metric, lambda one: said[one.pair_id], held_out).mean <= best_floor(name, metric).ci_high


@pytest.mark.parametrize("name", ALWAYS_NORMAL)
@pytest.mark.parametrize("metric", ["bleu_4", "rouge_l"])
def test_a_report_that_is_always_normal_does_not_beat_the_constant_floor(name: str, metric: str):
    """The constant floor was sought among the training reports, and is as good as one that names every normal thing in order."""
    _, held_out = both(name)
    constant = scored(metric, lambda _: ALWAYS_NORMAL[name], held_out)
    assert constant.mean <= best_floor(name, metric).mean
    assert constant.mean > 3 * scored(metric, lambda _: "The chest.", held_out).mean


@pytest.mark.parametrize(
    ("metric", "name", "game"),
    [
        ("term_recall", "documents", "digit soup for every term"),
        ("value_recall", "documents", "right values on wrong terms"),
        ("open_recall", "questions", "the 200 commonest words"),
    ],
)
def test_what_can_be_gamed_is_no_gates_metric(metric: str, name: str, game: str):
    """The same answers win where only finding counts: far above every floor."""
    assert not METRICS[metric].is_gateable
    assert scored(metric, played(game, name), both(name)[1]).ci_low > best_floor(name, metric).ci_high


@pytest.mark.parametrize(
    ("metric", "answer", "kind"),
    [
        ("silent_page_rate", "K: 7", {"expected": (Triple(term="K", value="4.1", unit=""),)}),
        ("closed_unparsable", "yes", {"slices": {"answer_type": "closed"}, "response": "no"}),
        ("impression_unparsable", "Impression: Normal.", {"slices": {"stage": "impression"}, "response": "Impression: Edema."}),
        ("unsupported_statement_rate", "", {"slices": {"stage": "reasoning"}, "response": "Findings: Edema."}),
    ],
)
def test_what_is_lowest_for_silence_or_a_constant_is_no_gates_metric(metric: str, answer: str, kind: dict[str, object]):
    one = both("questions")[1][0]
    reference = Reference(**{**{name: getattr(one, name) for name in Reference.__slots__}, "slices": {}, "expected": (), **kind})
    assert METRICS[metric].applies_to(reference)
    assert METRICS[metric].score(answer, reference) == 0.0
    assert not METRICS[metric].is_gateable


REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def slake(language: str) -> list[Reference]:
    records = [
        (part, record) for part in ("train", "test") for record in json.loads((REAL / "SLAKE" / f"{part}.json").read_text())
        if record["q_lang"] == language and record["answer_type"] == "OPEN"
    ]  # fmt: skip
    return [
        reference(f"s/{one['qid']}", language, one["question"], one["answer"], is_test=part == "test", answer_type="open")
        for part, one in records
    ]


def transcriptions() -> list[Reference]:
    pairs = [reading.pair for reading in DATASETS["mtsamples"].read(REAL / "mtsamples") if isinstance(reading, Draft)]
    return [reference(pair.pair_id, "en", pair.request, pair.response, is_test=int(pair.document_id[-1], 16) % 4 == 0) for pair in pairs]


REAL_SETS: dict[str, tuple[Callable[[], list[Reference]], tuple[str, ...]]] = {
    "slake_en": (lambda: slake("en"), ("open_exact", "token_f1")), "slake_zh": (lambda: slake("zh"), ("open_exact", "token_f1")),
    "transcriptions": (transcriptions, ("bleu_4", "rouge_l")),
}  # fmt: skip


@pytest.mark.real_data
@pytest.mark.parametrize("name", REAL_SETS)
def test_a_dump_of_common_words_does_not_beat_a_floor_on_real_texts(name: str, monkeypatch: pytest.MonkeyPatch):
    if not REAL.is_dir():
        pytest.skip(f"{REAL} is not there")
    read, metrics = REAL_SETS[name]
    monkeypatch.setitem(SETS, name, read)
    training, held_out = both(name)
    for metric in metrics:
        for count in (50, 200):
            dump = commonest_words(training, count)
            assert scored(metric, lambda _, dump=dump: dump, held_out).mean < best_floor(name, metric).mean, (metric, count)
