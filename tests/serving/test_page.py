"""The page without a browser: what it answers, refuses and keeps to itself. If these passed wrongly, somebody without the key could look at
it, a rater see whose answer they rate, or a rating of the page stand in the store otherwise than one of a sheet.
"""

import html
import io
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import httpx2
import pytest
from PIL import Image
from starlette.datastructures import Headers

from medvl_lib.benchmark.publish import ask as ask_store
from medvl_lib.reviews.handed_out import given
from medvl_lib.reviews.reading import read_reviews
from medvl_lib.reviews.sheet import SheetRequest
from medvl_lib.reviews.tables import ITEMS, REVIEWS, Item, Review
from medvl_lib.route.reviewing import make_sheet
from medvl_lib.serving.counter import Counter
from medvl_lib.serving.keys import Keys
from medvl_lib.serving.page import entry
from medvl_lib.serving.page.asking import Said
from medvl_lib.serving.page.samples import samples
from medvl_lib.tables import read_table
from tests.benchmark.evaluated import Evaluated
from tests.report.reported import HIDDEN, PLANTED, SHOWN, reported
from tests.reviews.sheets import blank, filled_in
from tests.serving.conftest import PAGE, Project, serving, wait_until
from tests.serving.hostile import form

KEY = "a key of this test, 32 characters"
RATED = SheetRequest(num_pairs=3, variants=("base", "adapter"), seed="a secret of this test", seen_by_raters=("secret",))


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    """An evaluation whose store the page shows, with a sheet to rate."""
    return reported(tmp_path_factory.mktemp("evaluated"))


@pytest.fixture(scope="module")
def site(counter: Callable[..., Counter], evaluated: Evaluated) -> Iterator[httpx2.Client]:
    """A server of an adapter, beside that evaluation; a copy of the store goes into a folder beside it."""
    with serving(counter("adapter", workspace=evaluated.workspace, benchmark_url=f"file://{evaluated.workspace.root}-copy")) as client:
        wait_until(client, "ready")
        yield client


def post(client: httpx2.Client, tab: str, *pictures: bytes, **fields: str) -> httpx2.Response:
    """A form as a browser sends it: the field of the files is there, empty or not."""
    files = [("image", ("page.png", data, "image/png")) for data in pictures] or [("image", ("", b"", "application/octet-stream"))]
    return client.post(f"/page/{tab}", data={"sample": "", **fields}, files=files)


def told(response: httpx2.Response) -> str:
    """What stands in the alert of a page."""
    found = re.search(r'role="alert"[^>]*>(.*?)</p>', response.text, re.DOTALL)
    return html.unescape(re.sub(r"<[^>]+>", "", found[1])) if found else ""


def answers_on(page: httpx2.Response) -> list[str]:
    """The texts of the model on a page, whatever is marked in them."""
    return [html.unescape(re.sub(r"</?mark[^>]*>", "", text)) for text in re.findall(r'class="answer">(.*?)</p>', page.text, re.DOTALL)]


# -- the model ---------------------------------------------------------------------------------------------------------
def test_the_front_door_leads_to_the_first_tab_and_every_tab_is_there(site: httpx2.Client):
    assert site.get("/").headers["location"] == "/page/extract"
    for tab in entry.TABS:
        page = site.get(f"/page/{tab}")
        assert page.status_code == 200, tab
        assert f'<a href="/page/{tab}" aria-current="page">' in page.text
        assert "documents serves adapter" in page.text


def test_nothing_on_any_page_comes_from_elsewhere(site: httpx2.Client):
    for path in [*(f"/page/{name}" for name in (*entry.TABS, *entry.FILES)), "/page/nowhere"]:
        page = site.get(path)
        assert "default-src 'none'" in page.headers["content-security-policy"], path
        assert page.headers["cache-control"] == "no-store"
        links = re.findall(r"""(?:src|href|action)=["']([^"']*)|url\(([^)]*)""", page.text)
        assert [link for pair in links for link in pair if link and not link.startswith(("/page/", "#", "data:image/"))] == [], path


def test_an_upload_is_extracted_with_a_form_and_no_script(site: httpx2.Client, project: Project):
    said = site.post("/extract", files=[("image", ("page.png", PAGE, "image/png"))]).json()
    page = post(site, "extract", PAGE)
    assert page.status_code == 200
    assert answers_on(page) == [said["text"]]
    assert page.text.count('<tr><th scope="row">') == len(said["facts"])
    assert page.text.count("data:image/jpeg;base64,") == 1 + len(samples(project.line.datasets))


def test_an_example_is_asked_about_as_an_upload_of_it_would_be(site: httpx2.Client, project: Project):
    offered = samples(project.line.datasets)
    assert len(offered) >= 4
    result = re.compile(r'<section id="result".*?</section>', re.DOTALL)
    seconds = re.compile(r"\d+\.\d s")
    of_example = seconds.sub("", result.search(post(site, "extract", sample="1").text)[0])
    assert of_example == seconds.sub("", result.search(post(site, "extract", *offered[1].pictures).text)[0])


def test_the_answer_of_each_tab_is_the_endpoints_own(site: httpx2.Client):
    said = site.post("/analyze", data={"prompt": "Which sodium?"}, files=[("image", ("page.png", PAGE, "image/png"))]).json()
    [answer] = answers_on(post(site, "analyze", PAGE, prompt="Which sodium?"))
    assert answer == said["text"]


def test_both_sides_of_a_comparison_are_the_same_weights_with_and_without_the_adapter(
    site: httpx2.Client, counter: Callable[..., Counter], project: Project
):
    question = "List every term with its value and unit."
    page = post(site, "compare", PAGE, prompt=question)
    bare, adapted = answers_on(page)
    assert [re.sub(r"\s+", " ", name) for name in re.findall(r'id="speaker-\d">(.*?)</h3>', page.text)] == [
        "Without the adapter (nf4)", "As served (adapter)",
    ]  # fmt: skip
    with serving(counter("nf4")) as client:
        wait_until(client, "ready")
        asked = {"data": {"prompt": question}, "files": [("image", ("page.png", PAGE, "image/png"))]}
        assert client.post("/analyze", **asked).json()["text"] == bare
        assert site.post("/analyze", **asked).json()["text"] == adapted
        refused = post(client, "compare", PAGE, prompt=question)
    assert bare != adapted
    assert (refused.status_code, told(refused)) == (409, "Not done. nf4 is served, without an adapter: look at the benchmark")


def test_where_no_adapter_is_served_the_page_says_why_and_shows_what_was_measured(
    counter: Callable[..., Counter], evaluated: Evaluated, tmp_path: Path
):
    from medvl_lib.workspace import Workspace

    with serving(counter("nf4", workspace=evaluated.workspace)) as client:
        page, board = client.get("/page/compare").text, client.get("/page/benchmark").text
    assert "a server holds one set of weights" in page
    assert "<form" not in re.search(r"<main.*</main>", page, re.DOTALL)[0]
    three = re.search(r'<table id="compared-forms-pair_accuracy">.*?</table>', page, re.DOTALL)[0]
    assert re.findall(r'<th scope="row">(.*?)</th>', three) == ["base", "nf4", "adapter"]
    assert three in board
    assert "<svg " in page
    with serving(counter("nf4", workspace=Workspace(root=tmp_path))) as client:
        assert "No evaluation of documents was published yet" in client.get("/page/compare").text


def test_questions_with_and_without_the_adapter_that_wait_together_get_their_own_answers(site: httpx2.Client):
    question = "List every term with its value and unit."

    def answers(tab: str) -> list[str]:
        return answers_on(post(site, tab, PAGE, prompt=question))

    alone = {tab: answers(tab) for tab in ("compare", "analyze")}
    assert alone["compare"][1:] == alone["analyze"]
    assert alone["compare"][0] != alone["analyze"][0]
    with ThreadPoolExecutor(8) as pool:
        tabs = ["compare", "analyze"] * 4
        assert list(pool.map(answers, tabs)) == [alone[tab] for tab in tabs]


@pytest.mark.parametrize(
    ("tab", "pictures", "fields", "status", "words"),
    [
        ("extract", [b"no picture at all"], {}, 415, "no picture"),
        ("extract", [PAGE[:200]], {}, 415, "decoded to its end"),
        ("extract", [], {}, 422, "no document"),
        ("extract", [PAGE], {"sample": "0"}, 422, "a file and an example"),
        ("extract", [], {"sample": "99"}, 422, "an example that is not there"),
        ("extract", [], {"sample": "²"}, 422, "an example that is not there"),
        ("analyze", [PAGE], {"prompt": "  "}, 422, "an empty prompt"),
        ("analyze", [PAGE], {"prompt": "x" * 9000}, 422, "9000 characters"),
        ("compare", [], {"prompt": "What?"}, 422, "no document"),
        ("extract", [PAGE] * 9, {}, 422, "more than 8 files in one form"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_said_above_the_form(
    site: httpx2.Client, tab: str, pictures: list[bytes], fields: dict[str, str], status: int, words: str
):
    page = post(site, tab, *pictures, **fields)
    assert (page.status_code, words in told(page)) == (status, True), told(page)


def test_what_may_say_who_the_patient_is_is_told(site: httpx2.Client):
    page = post(site, "analyze", PAGE, prompt="Is this the page of MRN: 00412-7?")
    assert "prompt: record number (characters" in page.text
    assert "00412-7" in page.text  # in the form and beside the answer, where whoever asked wrote it
    assert "May say who the patient is" not in post(site, "analyze", PAGE, prompt="Which sodium?").text


def test_markup_in_a_question_is_text(site: httpx2.Client):
    page = post(site, "analyze", PAGE, prompt=PLANTED)
    assert html.escape(PLANTED) in page.text.replace("&#39;", "&#x27;")
    assert "<script>alert" not in page.text


def test_markup_in_an_answer_is_text():
    """An answer says what stands in a document, and that may be anything."""
    from medvl_lib.evaluation.predictions import Prediction
    from medvl_lib.serving.extraction import stated_facts
    from medvl_lib.serving.page.asking import Answered
    from medvl_lib.serving.page.routes import _templates

    text = f'{PLANTED}: 4.1 <img src=x onerror=alert(1)>\nSodium: 3 "><script>alert(2)</script>'
    prediction = Prediction(
        pair_id="p", variant="base", condition="as_is", answer=text, num_prompt_tokens=1, num_answer_tokens=1, is_cut=False, batch_id=0,
        batch_size=1, latency_seconds=1.0,
    )  # fmt: skip
    said = Said(speaker="", model=None, prediction=prediction, facts=tuple(stated_facts(text)))
    shown = Answered(question=PLANTED, pictures=(), identifiers=(), said=(said, said))
    model = SimpleNamespace(sentence="", line="documents", adapter="one", variant="adapter", weights_variant="nf4")
    for tab in ("extract", "analyze", "compare"):
        page = _templates().get_template(f"{tab}.html.jinja").render(
            tab=tab, tabs=entry.TABS, model=model, status="ready", reason=None, has_key=False, problem=None, answered=shown, samples=(),
            sample="", taken="", max_pictures=8, max_characters=8, own="", prompt=PLANTED,
        )  # fmt: skip
        assert not re.findall(r"<(?:script>|img src=x)", page), tab
        assert "alert(2)" in page


def test_marked_pieces_together_are_the_answer():
    from medvl_lib.evaluation.predictions import Prediction
    from medvl_lib.serving.extraction import stated_facts

    text = "Potassium: 4.1 mmol/L (high)\nSinus rhythm.\n- Stage: III"
    prediction = Prediction(
        pair_id="p", variant="base", condition="as_is", answer=text, num_prompt_tokens=1, num_answer_tokens=1, is_cut=False, batch_id=0,
        batch_size=1, latency_seconds=1.0,
    )  # fmt: skip
    said = Said(speaker="", model=None, prediction=prediction, facts=tuple(stated_facts(text)))
    pieces = list(said.pieces)
    assert "".join(piece.text for piece in pieces) == text
    assert [(piece.text, piece.kind) for piece in pieces if piece.kind] == [
        ("Potassium", "term"), ("4.1", "value"), ("mmol/L", "unit"), ("Stage", "term"), ("III", "value"),
    ]  # fmt: skip


# -- the benchmark -----------------------------------------------------------------------------------------------------
def test_the_benchmark_is_what_the_store_says(site: httpx2.Client, evaluated: Evaluated):
    page = site.get("/page/benchmark").text
    _, rows = ask_store(evaluated.workspace, "select mean, n from leaderboard where line = 'documents' and condition = 'as_is'")
    board = re.search(r'<table id="whole-board">.*?</table>', page, re.DOTALL)[0]
    assert board.count("<tr>") == 1 + len(rows)
    for mean, n in rows:
        assert f'<data value="{n}">{n}</data>' in board
        assert mean is None or f'<data value="{mean}">{mean:.3f}</data>' in board
    assert '<table id="compared-forms-pair_accuracy">' in page
    three = re.search(r'<table id="compared-forms-pair_accuracy">.*?</table>', page, re.DOTALL)[0]
    assert re.findall(r'<th scope="row">(.*?)</th>', three) == ["base", "nf4", "adapter"]
    assert page.count("<svg ") >= 2
    assert "promote" in re.search(r'<table id="verdict">.*?</table>', page, re.DOTALL)[0]


def test_a_line_without_an_evaluation_says_so(site: httpx2.Client):
    page = site.get("/page/benchmark", params={"line": "'; drop table scores; --"})
    assert page.status_code == 200
    assert "No evaluation of &#39;; drop table scores; -- was published yet" in page.text


def test_no_store_at_all_is_no_error(counter: Callable[..., Counter], tmp_path: Path, evaluated: Evaluated):
    from medvl_lib.serving.page.measured import measured
    from medvl_lib.workspace import Workspace

    assert measured(Workspace(root=tmp_path), "documents").sections == ()


# -- ratings -----------------------------------------------------------------------------------------------------------
def go_on(client: httpx2.Client, sheet_id: str, rater: str, **fields: str) -> httpx2.Response:
    return client.post("/page/review", data={"sheet": sheet_id, "rater": rater, **fields})


def item_on(page: httpx2.Response) -> str:
    found = re.search(r'<h2 id="item">.*?</span> (\w+)</h2>', page.text)
    return found[1] if found else ""


def stored(evaluated: Evaluated, sheet_id: str) -> list[Review]:
    import json

    workspace = evaluated.workspace
    mark = json.loads(workspace.current("reviews", sheet_id).read_text())["fingerprint"]
    return list(read_table(workspace.directory("reviews", sheet_id, mark) / REVIEWS, Review))


def test_a_rating_of_the_page_is_the_rating_of_a_sheet(site: httpx2.Client, evaluated: Evaluated, tmp_path: Path):
    made = make_sheet(evaluated.workspace, "documents", RATED, SHOWN)
    assert f'value="{made.fingerprint}"' in site.get("/page/review").text
    page = go_on(site, made.fingerprint, " Anna  Adler")
    seen: list[str] = []
    while item := item_on(page):
        assert item not in seen
        seen.append(item)
        comment = 'line one\nµ, "quoted"' if len(seen) == 1 else ""
        said = {"doing": "save", "correctness": str(1 + len(seen) % 5), "harmful": "no", "comment": comment}
        page = go_on(site, made.fingerprint, "Anna Adler", item=item, **said)
        assert page.status_code == 200, told(page)
    rows = blank(made.directory / "sheet.csv")
    assert seen == [row["item"] for row in rows]
    by_page = stored(evaluated, made.fingerprint)
    assert [row.rater for row in by_page] == ["Anna Adler"] * 6
    for place, row in enumerate(rows, start=1):
        row.update(rater="Boris", correctness=str(1 + place % 5), harmful="no", comment='line one\nµ, "quoted"' if place == 1 else "")
    read_reviews(evaluated.workspace, [filled_in(tmp_path / "boris.csv", rows)], is_replacing=False)
    both = stored(evaluated, made.fingerprint)
    assert [replace(row, rater="") for row in both if row.rater == "Boris"] == [replace(row, rater="") for row in by_page]
    assert [row for row in both if row.rater == "Anna Adler"] == by_page
    _, published = ask_store(evaluated.workspace, "select sheet_id from reviews")
    assert published.count((made.fingerprint,)) == 6  # what the page published; the sheet of the other was read and not published here


def test_a_rating_can_be_changed_and_stands_once(site: httpx2.Client, evaluated: Evaluated):
    made = make_sheet(evaluated.workspace, "documents", replace(RATED, seed="another secret"), SHOWN)
    item = item_on(go_on(site, made.fingerprint, "Anna"))
    again = go_on(site, made.fingerprint, "Anna", item=item, doing="save", correctness="2", harmful="", comment="")
    assert f"Saved {item}." in again.text
    shown = go_on(site, made.fingerprint, "Anna", item=item)
    assert 'name="correctness" value="2" checked' in shown.text
    go_on(site, made.fingerprint, "Anna", item=item, doing="save", correctness="4", harmful="yes", comment="")
    [review] = stored(evaluated, made.fingerprint)
    assert (review.correctness, review.is_harmful) == (4, True)
    copy = Path(f"{evaluated.workspace.root}-copy") / evaluated.workspace.store.name
    assert copy.read_bytes() == evaluated.workspace.store.read_bytes()  # it knows of the rating too


def test_a_rater_is_shown_what_the_sheet_shows_and_nothing_of_its_key(site: httpx2.Client, evaluated: Evaluated):
    made = make_sheet(evaluated.workspace, "documents", replace(RATED, num_pairs=60, seed="a third secret"), SHOWN)
    key = {item.item_id: item for item in read_table(made.directory / ITEMS, Item)}
    items = given(made.directory)
    rows = blank(made.directory / "sheet.csv")
    assert [(item.item_id, item.question, item.answer) for item in items] == [
        (row["item"], row["question"].removeprefix("'"), row["answer"].removeprefix("'")) for row in rows
    ]
    some = {is_shown: next(item for item in items if key[item.item_id].is_shown is is_shown) for is_shown in (True, False)}
    for is_shown, item in some.items():
        page = go_on(site, made.fingerprint, "Anna", item=item.item_id).text
        article = re.search(r'<article class="item".*?</article>', page, re.DOTALL)[0]
        assert ("data:image/jpeg" in article) is is_shown
        assert (key[item.item_id].pair_id in article) is not is_shown
        assert not re.search(r"adapter|base\b|nf4|doc\d|patient\d", article)
    assert HIDDEN in go_on(site, made.fingerprint, "Anna", item=some[False].item_id).text


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"rater": " "}, "no name"),
        ({"rater": "x" * 90}, "a name of 90 characters"),
        ({"sheet": "0123456789abcdef"}, "a sheet that is not there"),
        ({"sheet": "../../etc"}, "a sheet that is not there"),
        ({"item": "r000000000", "doing": "save", "correctness": "3"}, "an item that is not on the sheet"),
        ({"doing": "save"}, "nothing was rated"),
        ({"doing": "save", "correctness": "6"}, "'6'"),
        ({"doing": "save", "harmful": "perhaps"}, "'perhaps'"),
        ({"doing": "save", "comment": "x" * 5000}, "a comment of 5000 characters"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_rating_is_refused_and_not_kept(site: httpx2.Client, evaluated: Evaluated, fields: dict[str, str], words: str):
    made = make_sheet(evaluated.workspace, "documents", replace(RATED, seed="a fourth secret"), SHOWN)
    item = item_on(go_on(site, made.fingerprint, "Anna"))
    asked = {"sheet": made.fingerprint, "rater": "Anna", "item": item, "correctness": "", "harmful": "", "comment": ""}
    page = site.post("/page/review", data={**asked, **fields})
    assert (page.status_code, words in told(page)) == (422, True), told(page)
    assert not evaluated.workspace.current("reviews", made.fingerprint).exists()


def test_one_rater_has_one_spelling(site: httpx2.Client, evaluated: Evaluated):
    made = make_sheet(evaluated.workspace, "documents", replace(RATED, seed="a fifth secret"), SHOWN)
    item = item_on(go_on(site, made.fingerprint, "Anna"))
    go_on(site, made.fingerprint, "Anna", item=item, doing="save", correctness="3", harmful="no", comment="")
    refused = go_on(site, made.fingerprint, "anna")
    assert (refused.status_code, "'Anna' and 'anna'" in told(refused)) == (422, True)


# -- the key -----------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def locked(counter: Callable[..., Counter], evaluated: Evaluated) -> Iterator[httpx2.Client]:
    """A server that others reach; it need not be ready."""
    with serving(counter("base", workspace=evaluated.workspace, keys=Keys({"": KEY}))) as client:
        yield client


def test_without_the_key_there_is_a_form_for_it_and_nothing_else(locked: httpx2.Client):
    for path in [f"/page/{tab}" for tab in (*entry.TABS, "status", "nowhere")] + ["/page"]:
        for method in ("GET", "POST"):
            refused = locked.request(method, path)
            assert (refused.status_code, refused.headers["location"]) == (303, "/page/login"), path
    form = locked.get("/page/login")
    assert "documents" not in form.text
    wrong = locked.post("/page/login", data={"key": "not this one"})
    assert (wrong.status_code, "set-cookie" in wrong.headers) == (401, False)
    assert locked.post("/analyze", data={"prompt": "?"}).status_code == 401


def test_whoever_shows_the_key_gets_a_cookie_that_opens_the_page_alone(locked: httpx2.Client):
    shown = locked.post("/page/login", data={"key": KEY})
    cookie = shown.headers["set-cookie"]
    assert (shown.status_code, shown.headers["location"]) == (303, "/page/extract")
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    assert KEY not in cookie
    value = {"cookie": cookie.partition(";")[0]}
    assert "documents serves the base model" in locked.get("/page/extract", headers=value).text
    assert locked.get("/benchmark", headers=value).status_code == 401
    elsewhere = locked.post("/page/review", data={"sheet": "x"}, headers={**value, "origin": "http://127.0.0.1:1"})
    assert elsewhere.status_code == 303
    here = locked.post("/page/review", data={"sheet": "x"}, headers={**value, "origin": str(locked.base_url).rstrip("/")})
    assert here.status_code == 422
    gone = locked.post("/page/logout", headers=value).headers["set-cookie"]
    assert 'medvl_page=""' in gone


@pytest.mark.parametrize("codec", ["utf-7", "undefined"])
def test_a_key_that_is_no_text_fails_nothing(locked: httpx2.Client, codec: str):
    body, headers = form([], {"key": "+2AA-"})
    shown = locked.post("/page/login", content=body, headers={"content-type": f"{headers['content-type']}; charset={codec}"})
    assert shown.status_code == 400


def test_a_page_of_another_port_of_this_machine_cannot_send_a_form(site: httpx2.Client):
    said = {"data": {"sheet": "x"}}
    assert site.post("/page/review", **said, headers={"origin": "http://127.0.0.1:1"}).status_code == 403
    assert site.post("/page/review", **said, headers={"origin": "null"}).status_code == 403
    assert site.post("/page/review", **said, headers={"origin": str(site.base_url).rstrip("/")}).status_code == 422


def test_a_cookie_holds_for_a_working_day_and_for_one_key():
    def admits(cookie: str, key: str = KEY, later: float = 0.0) -> bool:
        asked = entry.Asked("GET", "/page/extract", Headers({"cookie": f"a=b; {entry.COOKIE}={cookie}"}))
        return entry.admitted(asked, Keys({"": key, "Anna Adler": KEY[::-1]}), time.time() + later) is not None

    cookie = entry.session(Keys({"": KEY}), "", time.time())
    until, _, signature = cookie.partition(".")
    assert admits(cookie)
    assert not admits(cookie, later=entry.SESSION_SECONDS + 1)
    assert not admits(cookie, key="another key of this test")
    assert not admits(f"{int(until) + 1}.{signature}")
    for other in ("", ".", "9.", f"{until}.", f"²{cookie}", "%00"):
        assert not admits(other), other


def test_a_cookie_says_whose_it_is_and_is_nobody_elses():
    mine = Keys({"": KEY, "Anna Adler": KEY[::-1], "小明": "x" * 20})

    def holder(cookie: str, keys: Keys = mine) -> str | None:
        return entry.admitted(entry.Asked("GET", "/page/extract", Headers({"cookie": f"{entry.COOKIE}={cookie}"})), keys, time.time())

    cookies = {name: entry.session(mine, name, time.time()) for name in ("", "Anna Adler", "小明")}
    assert {name: holder(cookie) for name, cookie in cookies.items()} == {name: name for name in cookies}
    assert all(cookie.isascii() and not set(cookie) & set(' ;,"') for cookie in cookies.values())
    until, _, signature = cookies["Anna Adler"].split(".")
    assert holder(f"{until}.{'小明'.encode().hex()}.{signature}") is None
    assert holder(f"{until}..{signature}") is None
    assert holder(cookies["Anna Adler"], Keys({"": KEY})) is None


def test_who_has_a_key_of_their_own_rates_under_its_name_alone(counter: Callable[..., Counter], evaluated: Evaluated):
    made = make_sheet(evaluated.workspace, "documents", replace(RATED, seed="a sixth secret"), SHOWN)
    mine = Keys({"": KEY, "Anna Adler": KEY[::-1], "Boris": KEY.upper()})
    with serving(counter("base", workspace=evaluated.workspace, keys=mine)) as client:
        for key in (KEY[::-1], KEY.upper()):
            client.cookies.clear()
            client.post("/page/login", data={"key": key})
            page = go_on(client, made.fingerprint, "Clara")
            assert ("Clara" in page.text, 'name="rater" type="text"' in page.text) == (False, False)
            item = item_on(page)
            go_on(client, made.fingerprint, "Boris", item=item, doing="save", correctness="3", harmful="no", comment="")
        assert "You rate as <strong>Boris</strong>" in client.get("/page/review").text
        client.cookies.clear()
        client.post("/page/login", data={"key": KEY})
        assert 'name="rater" type="text"' in client.get("/page/review").text
        assert "rated by Clara" in go_on(client, made.fingerprint, "Clara").text
        for name in ("Boris", " boris ", "Anna  Adler"):
            refused = go_on(client, made.fingerprint, name)
            assert (refused.status_code, "a name that belongs to a key of its own" in refused.text) == (422, True), name
    assert [row.rater for row in stored(evaluated, made.fingerprint)] == ["Anna Adler", "Boris"]


def test_what_is_done_on_the_page_is_logged_without_words(site: httpx2.Client, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO", logger="medvl_lib.serving")
    post(site, "analyze", PAGE, prompt="zebra zebra")
    site.get("/page/benchmark", params={"line": "zebra"})
    site.get("/page/zebra")
    time.sleep(0.1)
    assert "POST /page/analyze 200" in caplog.text
    assert "GET (unknown path) 404" in caplog.text
    assert "zebra" not in caplog.text


def test_a_rotated_photograph_is_shown_upright(site: httpx2.Client):
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    Image.new("RGB", (120, 60), "white").save(stream, "JPEG", exif=exif)
    page = post(site, "analyze", stream.getvalue(), prompt="What?").text
    assert 'width="60" height="120" alt="Picture 1 that was asked about"' in page


def test_a_rater_goes_on_where_no_copy_of_the_store_arrives(counter: Callable[..., Counter], evaluated: Evaluated, tmp_path: Path):
    made = make_sheet(evaluated.workspace, "documents", replace(RATED, seed="a seventh secret"), SHOWN)
    (tmp_path / "place").write_text("a file, where a folder should be")
    with serving(counter("base", workspace=evaluated.workspace, benchmark_url=f"file://{tmp_path}/place")) as client:
        first = item_on(go_on(client, made.fingerprint, "Clara"))
        page = go_on(client, made.fingerprint, "Clara", item=first, doing="save", correctness="3", harmful="no", comment="")
        assert page.status_code == 200
        assert "Kept: the benchmark is published here, and no copy of it arrived" in page.text
        assert item_on(page) != first
    assert [row.rater for row in stored(evaluated, made.fingerprint)] == ["Clara"]
