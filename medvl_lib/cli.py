"""``medvl``: what needs no Dagster. For the graph, Dagster's own commands are used (``dg dev``, ``dg launch``).

In: the command line. Out: text for a person, and an exit status: 0 done, 1 the doctor found something wrong, 2 refused, in three
parts on stderr. Each verb parses and prints; what it does stands in the room it calls, which is imported when the verb runs.
"""

import argparse
import json
import math
import os
import re
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from medvl_lib.errors import MedVLError
from medvl_lib.files import write_bytes
from medvl_lib.models.spec import Family
from medvl_lib.settings import Settings, read_settings
from medvl_lib.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from medvl_lib.doctor import Finding
    from medvl_lib.lines import Line
    from medvl_lib.provenance import Fact

MARKS = {"ok": "ok   ", "note": "note ", "wrong": "WRONG"}
REFUSED = 2


def doctor(arguments: argparse.Namespace) -> int:
    """Say what stands in the way before anything is started; of one line also whether a few steps of it go as they should."""
    from medvl_lib.doctor import examine

    is_wrong = _told(examine())
    if arguments.line is not None and not is_wrong:
        settings = read_settings()
        line = _line(settings, arguments.line)
        is_wrong = _told(_smoke(settings, line))
    return int(is_wrong)


def _smoke(settings: Settings, line: "Line") -> "Iterable[Finding]":
    """The smoke test, in the environment of the profile: what it sets is read when torch is loaded."""
    from medvl_lib.hardware import process_environment, profile_for

    profile = profile_for(settings).profile
    for name, value in process_environment(profile).items():
        os.environ.setdefault(name, value)
    from medvl_lib.smoke import smoke

    return smoke(line, profile)


def _told(findings: "Iterable[Finding]") -> bool:
    """Print each finding as it comes; whether one of them is wrong."""
    is_wrong = False
    for finding in findings:
        is_wrong |= finding.level == "wrong"
        print(f"{MARKS[finding.level]}  {finding.name:<12} {finding.found}", flush=True)
        if finding.do:
            print(f"{'':<20}-> {finding.do}")
    return is_wrong


def sample_data(arguments: argparse.Namespace) -> int:
    """Write invented raw files where a dataset's own are expected, or below ``--root``."""
    from medvl_lib.sample_data import SEED, write

    settings = read_settings()
    for name in arguments.names or settings.enabled_datasets():
        folder = _own_raw_folder(settings, name) if arguments.root is None else Path(arguments.root) / name
        seed = SEED if arguments.seed is None else arguments.seed
        written = write(name, folder, seed=seed, counts=dict(arguments.count))
        if written.is_new:
            print(f"{name}: {written.num_records} invented records in {written.root}")
        else:
            print(f"{name}: {written.root} holds files already and was left alone")
    return 0


def fetch(arguments: argparse.Namespace) -> int:
    """Bring a dataset's raw files, or say what to put where; 1 where time ran out before all of it was there."""
    from medvl_lib.datasets import DATASETS
    from medvl_lib.fetching.by_hand import by_hand
    from medvl_lib.fetching.downloads import Away
    from medvl_lib.fetching.fetch import fetch as bring
    from medvl_lib.fetching.fetch import sentence
    from medvl_lib.fetching.wanted import Limits

    settings, name = read_settings(), arguments.dataset
    folder = settings.own_raw_folder(name) if name in settings.datasets else Workspace(root=settings.data_root).raw(name)
    if arguments.by_hand or not DATASETS[name].acquisition.sources:
        print(by_hand(DATASETS[name], folder))
        return 0 if arguments.by_hand else REFUSED
    limits = Limits(
        max_patients=arguments.max_patients, max_studies_per_patient=arguments.max_studies, max_bytes=arguments.max_bytes,
        max_seconds=arguments.max_seconds,
    )  # fmt: skip
    try:
        found = bring(DATASETS[name], folder, Workspace(root=settings.data_root).fetched(name), limits, arguments.only, _tell)
    except Away:
        print(by_hand(DATASETS[name], folder), end="\n\n", flush=True)
        raise
    print(sentence(found, name, folder))
    return int(found.reached == "seconds")


def _tell(facts: "Mapping[str, Fact]") -> None:
    """Print how far something is."""
    print(", ".join(f"{name} {value:,}" if isinstance(value, int) else f"{name} {value}" for name, value in facts.items()), flush=True)


def _own_raw_folder(settings: Settings, name: str) -> Path:
    """Where invented files may go: never where the settings say that a user's own lie."""
    if settings.dataset(name).raw_path is None:
        return settings.own_raw_folder(name)
    raise MedVLError(
        found=f"raw_path = {str(settings.raw_folder(name))!r}", where=settings.where("datasets", name),
        do="that folder is yours and gets nothing invented; name another one with --root, or only the datasets to write",
    )  # fmt: skip


def sql(arguments: argparse.Namespace) -> int:
    """Ask the published benchmark, read-only."""
    from medvl_lib.benchmark.publish import ask
    from medvl_lib.benchmark.terminal import render_csv, render_json, render_table

    answer = ask(Workspace(root=_checked_settings().data_root), arguments.question)
    render = {"table": render_table, "csv": render_csv, "json": render_json}[arguments.form]
    print(render(answer.columns, answer.rows))
    return 0


def report(arguments: argparse.Namespace) -> int:
    """Write what is known of a line's evaluation: a page by default, Markdown or JSON to the terminal when asked for."""
    from medvl_lib.benchmark.terms import Terms
    from medvl_lib.datasets import SHOWN_LICENCES
    from medvl_lib.report import content, gather, html, markdown

    wanted = None if arguments.output is None else _writable(arguments.output)
    settings = _checked_settings()
    workspace = Workspace(root=settings.data_root)
    meant = _line(settings, arguments.line)
    line = meant.name
    now = Terms(gate=meant.gate, evaluation=meant.evaluation)
    found = gather.gather(workspace, gather.find(workspace, line, arguments.evaluation), SHOWN_LICENCES, now)
    text = (content.as_json if arguments.json else markdown.render_markdown if arguments.markdown else html.render_html)(found)
    if wanted is None and (arguments.json or arguments.markdown):
        print(text, end="")
        return 0
    path = workspace.page(line, found.evaluation_id) if wanted is None else wanted
    write_bytes(path, text.encode())
    print(path)
    return 0


def _writable(named: str, *, is_folder: bool = False) -> Path:
    """What ``--output`` names; raises MedVLError for what can be no file, or no folder."""
    kind, other = ("folder", "file") if is_folder else ("file", "folder")
    path = Path(named)
    above = next((folder for folder in path.parents if folder.exists() and not folder.is_dir()), None)
    found = (
        f"{named!r}, which names nothing" if not named.strip()
        else f"a {other}" if path.exists() and path.is_dir() != is_folder
        else f"{above} is a file, and no folder" if above is not None else ""
    )  # fmt: skip
    if found:
        example = "sheets" if is_folder else "report.html"
        raise MedVLError(found=found, where=f"--output {named}".strip(), do=f"name a {kind}, such as {example}")
    return path


def override(arguments: argparse.Namespace) -> int:
    """Serve a variant because a person says so, whatever the gate said: recorded with name and reason, and published."""
    from medvl_lib.benchmark.publish import publish
    from medvl_lib.route.pointing import serve_anyway

    settings = _checked_settings()
    workspace = Workspace(root=settings.data_root)
    moved = serve_anyway(workspace, _line(settings, arguments.line), arguments.variant, by=arguments.by, reason=arguments.reason)
    print(moved.sentence)
    publish(workspace, settings.benchmark_url)
    return 0


def rollback(arguments: argparse.Namespace) -> int:
    """Serve again what was served before, and hold it there: recorded with name and reason, and published."""
    return _on_the_pointer(arguments, "roll_back")


def release(arguments: argparse.Namespace) -> int:
    """Let a pointer go that was held: recorded with name and reason, and published."""
    return _on_the_pointer(arguments, "release")


def _on_the_pointer(arguments: argparse.Namespace, deed: str) -> int:
    from medvl_lib.benchmark.publish import publish
    from medvl_lib.route import pointing

    settings = _checked_settings()
    workspace, line = Workspace(root=settings.data_root), _line(settings, arguments.line)
    moved = {"roll_back": pointing.roll_back, "release": pointing.release}[deed](workspace, line, by=arguments.by, reason=arguments.reason)
    print(moved.sentence)
    publish(workspace, settings.benchmark_url)
    return 0


def gc(arguments: argparse.Namespace) -> int:
    """Say what no pointer, champion or unfinished run refers to, and remove it when told to."""
    from medvl_lib.route.collecting import find, remove

    workspace = Workspace(root=_checked_settings().data_root)
    found = find(workspace)
    for each in found:
        print(f"{each.num_bytes / 1e6:12,.1f} MB  {each.path.relative_to(workspace.root)}")
    total = f"{len(found)} folders, {sum(each.num_bytes for each in found) / 1e6:,.1f} MB"
    if not arguments.delete:
        print(f"{total}: nothing was removed; `medvl gc --delete` removes them")
        return 0
    removed = remove(workspace, found)
    print(f"{total}; {len(removed)} of them were removed")
    return 0


def reviews_sheet(arguments: argparse.Namespace) -> int:
    """Write a blinded rating sheet into a folder; whose answers are on it stays in the data root."""
    from medvl_lib.datasets import SHOWN_LICENCES
    from medvl_lib.reviews.sheet import SheetRequest, named_variants
    from medvl_lib.route.reviewing import hand_out, make_sheet

    settings = _checked_settings()
    request = SheetRequest(
        num_pairs=arguments.pairs, variants=named_variants(arguments.variants), seed=arguments.seed or secrets.token_hex(16),
        seen_by_raters=tuple(sorted(set(arguments.raters_may_see))),
    )  # fmt: skip
    workspace, line = Workspace(root=settings.data_root), _line(settings, arguments.line).name
    folder = _writable(arguments.output, is_folder=True)
    made = make_sheet(workspace, line, request, SHOWN_LICENCES, arguments.evaluation)
    table, page = hand_out(made, folder)
    facts = made.facts
    print(
        f"{table}: {facts['num_items']} answers to {facts['num_pairs']} of {facts['num_pairs_to_choose_from']} test pairs, to be filled in"
    )
    print(f"{page}: their pictures, questions and answers; {facts['num_pairs_without_picture']} pairs of it may not be shown there")
    if facts["num_pairs_withheld"]:
        print(f"left out: {facts['num_pairs_withheld']} pairs that the data card does not allow to show (--raters-may-see DATASET)")
    print(f"the key stays in {made.directory}; `medvl reviews read FILE.csv` reads what comes back")
    return 0


def reviews_read(arguments: argparse.Namespace) -> int:
    """Read filled-in sheets, and publish what they say."""
    from medvl_lib.benchmark.publish import publish
    from medvl_lib.reviews.reading import read_reviews

    settings = _checked_settings()
    workspace = Workspace(root=settings.data_root)
    for found in read_reviews(workspace, [Path(name) for name in arguments.files], is_replacing=arguments.replace):
        for filled in found.files:
            print(f"{filled.path}: {len(filled.ratings)} answers rated, {len(filled.empty)} rows left empty")
        facts = found.reviews.facts
        print(
            f"sheet {found.sheet.fingerprint} of {facts['line']}: {facts['num_items_rated']} of {found.sheet.facts['num_items']} answers"
            f" have {facts['num_reviews']} ratings by {facts['num_raters']} raters, {facts['num_comments']} with a comment"
        )
    publish(workspace, settings.benchmark_url)
    print(f"published; `medvl sql expert_ratings` shows means and agreement, `medvl report` has them as well: {workspace.store}")
    return 0


def positive(text: str) -> int:
    """``20`` -> 20."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def serve(arguments: argparse.Namespace) -> int:
    """Serve what was promoted over HTTP, until it is stopped."""
    from medvl_lib.hardware import process_environment, profile_for

    settings = _checked_settings()
    workspace, profile = Workspace(root=settings.data_root), profile_for(settings).profile
    for name, value in process_environment(profile).items():  # before torch is imported
        os.environ.setdefault(name, value)
    from medvl_lib.route.parity import decided_otherwise, require_compared
    from medvl_lib.serving.running import Serving, key_for, listen, run
    from medvl_lib.serving.served import ServedModel, served_model

    line = _line(settings, arguments.line)
    key, model = key_for(arguments.host), served_model(workspace, line)

    def compare(model: ServedModel) -> str:
        said = "it was not compared with what was judged" if arguments.unchecked else require_compared(workspace, line, profile, model)
        return "; ".join(filter(None, (said, decided_otherwise(workspace, line, model))))

    compared = compare(model)
    listening = listen(arguments.host, arguments.port)
    host, port = listening.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    print(f"{model.sentence}; {compared}; {address} is the page, {address}/health says when it is ready", flush=True)
    told = Serving(
        model=model, compared=compared, line=line, profile=profile, workspace=workspace, api_key=key, compare=compare,
        answer_seconds=arguments.answer_seconds, benchmark_url=settings.benchmark_url,
    )  # fmt: skip
    run(told, listening)
    return 0


def export(arguments: argparse.Namespace) -> int:
    """Write what a line serves into a folder that others load, once it was shown to answer as it was judged."""
    from medvl_lib.hardware import process_environment, profile_for

    folder = _writable(arguments.output, is_folder=True)
    settings = _checked_settings()
    workspace, profile = Workspace(root=settings.data_root), profile_for(settings).profile
    for name, value in process_environment(profile).items():  # before torch is imported
        os.environ.setdefault(name, value)
    line = _line(settings, arguments.line)
    from medvl_lib.route.exporting import export as export_line

    for sentence in export_line(workspace, line, profile, folder, num_pairs=arguments.pairs, is_unchecked=arguments.unchecked):
        print(sentence)
    print(f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")
    return 0


def similar(arguments: argparse.Namespace) -> int:
    """Print the training cases whose pictures are nearest to one: similarity, pair, and what is said of it; also those below the floor."""
    from medvl_lib.hardware import process_environment, profile_for

    settings = _checked_settings()
    profile, path = profile_for(settings).profile, Path(arguments.image)
    for name, value in process_environment(profile).items():  # before torch is imported
        os.environ.setdefault(name, value)
    from medvl_lib.case_index import is_alike
    from medvl_lib.serving.cases import floor_of
    from medvl_lib.serving.cases import similar as nearest_cases
    from medvl_lib.serving.describing import picture_in

    workspace, line = Workspace(root=settings.data_root), _line(settings, arguments.line)
    found = nearest_cases(workspace, line, profile, picture_in(path), str(path), arguments.count)
    floor = floor_of(workspace, line)
    for case in found:
        print(f"{case.similarity:6.3f}  {'' if is_alike(case.similarity, floor) else 'below the floor  '}{case.pair_id}  {case.text}")
    print(_said_of_floor(floor), file=sys.stderr)
    return 0


def _said_of_floor(floor: float | None) -> str:
    if floor is None:
        return "NOTE: the index knows no floor of similarity, so the nearest cases may be like the picture in nothing"
    return f"floor of similarity: {floor:.3f}, which 19 of 20 validation pictures reach; a case below it is like the picture in nothing"


def describe(arguments: argparse.Namespace) -> int:
    """Let what is served describe one picture file; who answers, and in another language than asked, is told on standard error."""
    from medvl_lib.hardware import process_environment, profile_for

    settings = _checked_settings()
    workspace, profile = Workspace(root=settings.data_root), profile_for(settings).profile
    for name, value in process_environment(profile).items():  # before torch is imported
        os.environ.setdefault(name, value)
    from medvl_lib.serving.describing import before_it, keeps_language, picture_in
    from medvl_lib.serving.describing import describe as described
    from medvl_lib.serving.served import served_model

    line, path = _line(settings, arguments.line), Path(arguments.image)
    model, cases = served_model(workspace, line), list[str]()
    print(model.sentence, file=sys.stderr)
    if arguments.cases:
        from medvl_lib.case_index import is_alike
        from medvl_lib.serving.cases import floor_of
        from medvl_lib.serving.cases import similar as nearest_cases

        count = line.evaluation.num_retrieved_cases
        found = nearest_cases(workspace, line, profile, picture_in(path), str(path), count, arguments.language)
        floor = floor_of(workspace, line)
        cases = [case.text for case in found if is_alike(case.similarity, floor)]  # the first ones: the most similar come first
        num_fitting = before_it([picture_in(path)], arguments.language, cases, model=model, line=line).num_cases
        for place, case in enumerate(found):
            where = (
                "before the question" if place < num_fitting
                else f"left out, beyond {line.audit.max_tokens} tokens" if place < len(cases) else "left out, below the floor"
            )  # fmt: skip
            print(f"{where}: {case.similarity:6.3f}  {case.pair_id}  {case.text}", file=sys.stderr)
        print(_said_of_floor(floor), file=sys.stderr)
    answer = described(path, arguments.language, model=model, line=line, profile=profile, cases=cases).answer
    is_in_language = keeps_language(answer, arguments.language)
    if not is_in_language:
        found = "in another language" if answer.strip() else "with nothing"
        print(f"WRONG: asked in {arguments.language!r}, and answered {found}; the gate counts such an answer as failed", file=sys.stderr)
    told = {"answer": answer, "language": arguments.language, "is_in_language": is_in_language, "variant": model.variant}
    print(json.dumps(told, ensure_ascii=False) if arguments.json else answer)
    return 0


def plan(arguments: argparse.Namespace) -> int:
    """Say what a line's stages and predictions need on a profile: bytes by part, seconds as an estimate, room on the disk."""
    from medvl_lib.hardware import profile_for, profile_named, room_bytes

    settings = _checked_settings()
    line = _line(settings, arguments.line)
    here = profile_for(settings).profile
    profile, room = here, None
    if arguments.profile not in {None, here.name} or arguments.memory is not None:
        memory = None if arguments.memory is None else round(arguments.memory * 1e9)
        profile = profile_named(settings, arguments.profile or here.name, memory)
        room = profile.memory_budget_bytes * (1 - profile.memory_margin_share) or math.inf
    from medvl_lib.plan.outlook import outlooks
    from medvl_lib.plan.wording import as_json, render

    found = list(outlooks(
        line, profile, num_tokens=arguments.tokens, num_pixels=arguments.pixels, num_pairs=arguments.pairs,
        room=room_bytes(profile) if room is None else room,
    ))  # fmt: skip
    print(as_json(found) if arguments.json else render(found, profile), end="\n" if arguments.json else "")
    return int(any(not outlook.plan.fits for outlook in found))


def bench(arguments: argparse.Namespace) -> int:
    """Measure memory and time of a line's steps on this machine, with random weights of the real shapes."""
    from medvl_lib.hardware import process_environment, profile_for

    settings = _checked_settings()
    profile = profile_for(settings).profile
    for name, value in process_environment(profile).items():  # before torch is imported
        os.environ.setdefault(name, value)
    from medvl_lib.plan.bench import as_json, render
    from medvl_lib.plan.bench import bench as measured

    line = _line(settings, arguments.line)
    found = list(measured(line, profile, num_tokens=arguments.tokens, num_pixels=arguments.pixels, num_layers=arguments.layers))
    print(as_json(found) if arguments.json else render(found), end="")
    return 0


def _checked_settings() -> Settings:
    """The settings, refused by every verb alike where a line or a dataset of them cannot be meant, whether it needs that one or not."""
    from medvl_lib.lines import dataset_runs, lines_of

    settings = read_settings()
    lines_of(settings)
    dataset_runs(settings)
    return settings


def _line(settings: Settings, named: str | None) -> "Line":
    """The line that is meant: the one that is named, or else the only one there is."""
    from medvl_lib.lines import lines_of

    lines = {line.name: line for line in lines_of(settings)}
    if named in lines or (named is None and len(lines) == 1):
        return lines[named or next(iter(lines))]
    found = f"no line was named, and there are {len(lines)}" if named is None else f"the line {named!r}"
    raise MedVLError(found=found, where=str(settings.path), do=f"name one of {', '.join(lines)}")


def pretrain_tiny(arguments: argparse.Namespace) -> int:
    """Make a small model anew: about two hours on two cores; started again with the same folder it goes on."""
    from medvl_lib.pretraining.making import make

    make(arguments.model, Path(arguments.output), read_settings(), lambda sentence: print(sentence, flush=True))
    return 0


def counted(text: str) -> tuple[str, int]:
    """``test=20`` -> ("test", 20)."""
    part, _, number = text.partition("=")
    if not number.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not PART=NUMBER, such as test=20")
    return part, int(number)


def dataset(text: str) -> str:
    """The name of a dataset; what is none is refused with their names. They are imported when one is asked for."""
    from medvl_lib.datasets import DATASETS

    if text not in DATASETS:
        raise argparse.ArgumentTypeError(f"{text!r} is no dataset; there are {', '.join(DATASETS)}")
    return text


def amount(text: str) -> int:
    """``20GB`` -> 20000000000."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMGT]?)B?", text)
    number = 0 if found is None else round(float(found[1]) * 1000 ** " kMGT".index(found[2] or " "))
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no size, such as 500MB or 20GB")
    return number


def gigabytes(text: str) -> float:
    """``119.7`` -> 119.7."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of gigabytes above 0")
    return found


def parser() -> argparse.ArgumentParser:
    """The verbs and what they take."""
    whole = argparse.ArgumentParser(prog="medvl", description="What needs no Dagster; the graph is opened with `make ui`.")
    verbs = whole.add_subparsers(dest="verb", required=True, metavar="VERB")

    verb = verbs.add_parser("doctor", help="say what stands in the way, and why this hardware profile was chosen")
    verb.add_argument("--line", metavar="LINE", help="also try the line's processor, model, template, stages and saves: a minute")
    verb.set_defaults(run=doctor)

    verb = verbs.add_parser("sample-data", help="write invented raw files in the publishers' real layouts")
    verb.add_argument("names", nargs="*", metavar="NAME", help="datasets; without one, those in the settings")
    verb.add_argument("--root", metavar="FOLDER", help="write FOLDER/NAME, not the folder that the settings expect")
    verb.add_argument(
        "--count",
        type=counted,
        action="append",
        default=[],
        metavar="PART=NUMBER",
        help="how many of a part (documents: of each type); may be repeated",
    )
    verb.add_argument("--seed", type=int, help="other records of the same kind")
    verb.set_defaults(run=sample_data)

    verb = verbs.add_parser("fetch", help="bring a dataset's raw files from their publisher, or say what to put where")
    verb.add_argument("dataset", metavar="DATASET", type=dataset, help="such as mtsamples; a wrong name is answered with all of them")
    verb.add_argument("--by-hand", action="store_true", help="fetch nothing: say where the files are, under which terms, and where they go")
    verb.add_argument("--only", action="append", default=[], metavar="SOURCE", help="of several sources this one; may be repeated")
    verb.add_argument("--max-patients", type=positive, metavar="N", help="the first N patients, where the publisher's paths name them")
    verb.add_argument("--max-studies", type=positive, metavar="N", help="of each patient the first N studies, whole ones")
    verb.add_argument("--max-bytes", type=amount, metavar="SIZE", help="of the whole set on this machine, such as 20GB")
    verb.add_argument("--max-seconds", type=positive, metavar="N", help="of this call; the next one goes on")
    verb.set_defaults(run=fetch)

    verb = verbs.add_parser("plan", help="what a line needs on a profile before anything is fetched or loaded: memory, time, disk")
    verb.add_argument("line", nargs="?", metavar="LINE", help="which line; may be left out where there is only one")
    verb.add_argument("--profile", metavar="NAME", help="cpu, cuda, gb10 or m3_ultra; without it this machine's")
    verb.add_argument("--memory", type=gigabytes, metavar="GB", help="of that machine; without it what the profile is known to have")
    verb.add_argument("--tokens", type=positive, metavar="N", help="of the longest conversation; without it audit.max_tokens")
    verb.add_argument("--pixels", type=positive, metavar="N", help="of the largest picture; without it the model's max_pixels")
    verb.add_argument("--pairs", type=positive, metavar="N", help="training pairs of an epoch; without it what the recipe says")
    verb.add_argument("--json", action="store_true", help="every value, for machines")
    verb.set_defaults(run=plan)

    verb = verbs.add_parser("bench", help="measure memory and speed of a line's steps here, without its weights and without data")
    verb.add_argument("line", nargs="?", metavar="LINE", help="which line; may be left out where there is only one")
    verb.add_argument(
        "--random-weights", action="store_true", required=True,
        help="weights of the published shapes, drawn by chance: nothing is fetched (real ones are measured by the graph's predictions)",
    )  # fmt: skip
    verb.add_argument("--tokens", type=positive, metavar="N", help="of the longest conversation; without it audit.max_tokens")
    verb.add_argument("--pixels", type=positive, metavar="N", help="of the largest picture; without it the model's max_pixels")
    verb.add_argument("--layers", type=positive, metavar="N", help="only the first layers of the language model: where it does not fit")
    verb.add_argument("--json", action="store_true", help="every value, for machines")
    verb.set_defaults(run=bench)

    verb = verbs.add_parser("pretrain-tiny", help="train a small model from scratch, as the shipped one was: up to two hours on two cores")
    verb.add_argument("model", metavar="MODEL", choices=sorted(get_args(Family)), help=f"one of {', '.join(sorted(get_args(Family)))}")
    verb.add_argument("--output", metavar="FOLDER", required=True, help="gets the model, its card, log and figures, and checkpoints")
    verb.set_defaults(run=pretrain_tiny)

    verb = verbs.add_parser("report", help="write the report of a line's evaluation, to be read, printed and signed")
    verb.add_argument("line", nargs="?", metavar="LINE", help="which line; may be left out where there is only one")
    form = verb.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="the same content for machines; printed, without --output")
    form.add_argument("--markdown", action="store_true", help="the same content as Markdown; printed, without --output")
    verb.add_argument("--evaluation", metavar="ID", help="an earlier evaluation, as the store names it; without it the current one")
    verb.add_argument("--output", metavar="FILE", help="where to write; without it a page goes below the data root")
    verb.set_defaults(run=report)

    verb = verbs.add_parser("override", help="serve a variant of the current evaluation against the gate's verdict; recorded")
    verb.add_argument("line", metavar="LINE", help="which line")
    verb.add_argument("variant", metavar="VARIANT", help="who is to be served: base, nf4, affine4, int8, adapter or merged")
    verb.add_argument("--by", metavar="NAME", required=True, help="who decides")
    verb.add_argument("--reason", metavar="TEXT", required=True, help="why")
    verb.set_defaults(run=override)

    for name, doing, help_text in (
        ("rollback", rollback, "serve again what a line served before, and hold it there until it is released; recorded"),
        ("release", release, "let a line's pointer move again after a rollback; recorded"),
    ):
        verb = verbs.add_parser(name, help=help_text)
        verb.add_argument("line", metavar="LINE", help="which line")
        verb.add_argument("--by", metavar="NAME", required=True, help="who decides")
        verb.add_argument("--reason", metavar="TEXT", required=True, help="why")
        verb.set_defaults(run=doing)

    verb = verbs.add_parser("gc", help="say which folders nothing refers to any more: no pointer, champion or unfinished run")
    verb.add_argument("--delete", action="store_true", help="remove them; without it nothing is removed")
    verb.set_defaults(run=gc)

    verb = verbs.add_parser("reviews", help="blinded ratings by experts: make a sheet, read what came back")
    doings = verb.add_subparsers(dest="doing", required=True, metavar="WHAT")
    doing = doings.add_parser("sheet", help="write a blinded rating sheet of a line's evaluation")
    doing.add_argument("line", nargs="?", metavar="LINE", help="which line; may be left out where there is only one")
    doing.add_argument("--output", metavar="FOLDER", required=True, help="gets sheet.csv, to be filled in, and sheet.html, to look at")
    doing.add_argument("--pairs", type=positive, default=20, metavar="N", help="how many test pairs, drawn at random; 20 without it")
    doing.add_argument("--variants", default="base,adapter", metavar="NAME,NAME", help="whose answers; base,adapter without it")
    doing.add_argument("--evaluation", metavar="ID", help="an earlier evaluation, as the store names it; without it the current one")
    doing.add_argument(
        "--raters-may-see", action="append", default=[], metavar="DATASET",
        help="put texts of a dataset that may not be shown into the table: your word that these raters may read them; may be repeated",
    )  # fmt: skip
    doing.add_argument("--seed", metavar="TEXT", help="keep it secret: the same seed makes the same sheet; without it one is drawn")
    doing.set_defaults(run=reviews_sheet)
    doing = doings.add_parser("read", help="read filled-in sheets into the store")
    doing.add_argument("files", nargs="+", metavar="FILE", help="sheets as they came back, CSV in UTF-8")
    doing.add_argument("--replace", action="store_true", help="let these ratings take the place of earlier ones by the same rater")
    doing.set_defaults(run=reviews_read)

    verb = verbs.add_parser("serve", help="serve what was promoted over HTTP: /health, /analyze, /extract")
    verb.add_argument("line", nargs="?", metavar="LINE", help="which line; may be left out where there is only one")
    verb.add_argument("--host", metavar="ADDRESS", default="127.0.0.1", help="where to listen; one that others reach needs MEDVL_API_KEY")
    verb.add_argument("--port", type=int, metavar="PORT", default=8000, help="8000 unless said otherwise; 0 for any that is free")
    verb.add_argument("--unchecked", action="store_true", help="serve it although nobody compared its answers with those that were judged")
    verb.add_argument(
        "--answer-seconds", type=positive, default=300, metavar="N", help="who waits longer is told so, and waits no more (default: 300)"
    )
    verb.set_defaults(run=serve)

    verb = verbs.add_parser("export", help="write what a line serves into a folder that transformers, PEFT, vLLM and mlx-vlm load")
    verb.add_argument("line", nargs="?", metavar="LINE", help="which line; may be left out where there is only one")
    verb.add_argument(
        "--output", metavar="FOLDER", required=True, help="gets adapter and merged weights, or the model; must not be there yet"
    )
    verb.add_argument(
        "--pairs", type=positive, metavar="N", help="test pairs that it is asked on again; without it what the line's parity asks"
    )
    verb.add_argument(
        "--unchecked", action="store_true", help="write it although it does not, or cannot, be shown to answer as it was judged"
    )
    verb.set_defaults(run=export)

    verb = verbs.add_parser("similar", help="find the training cases of a line whose pictures are nearest to one")
    verb.add_argument("image", metavar="IMAGE", help="a picture: PNG, JPEG, DICOM")
    verb.add_argument("--line", metavar="LINE", help="which line; may be left out where there is only one")
    verb.add_argument("-k", "--count", type=positive, default=5, metavar="N", help="how many; 5 without it")
    verb.set_defaults(run=similar)

    verb = verbs.add_parser("describe", help="let what was promoted describe one picture file, DICOM included")
    verb.add_argument("image", metavar="IMAGE", help="the file")
    verb.add_argument("--line", metavar="LINE", help="which line; may be left out where there is only one")
    verb.add_argument("--language", choices=("en", "zh"), default="en", help="in which it is asked; English without it")
    verb.add_argument(
        "--cases", action="store_true", help="put similar training cases before the question, as the condition retrieved_cases"
    )
    verb.add_argument("--json", action="store_true", help="print the answer, and whether it is in the language asked for, for machines")
    verb.set_defaults(run=describe)

    verb = verbs.add_parser("sql", help="ask the published benchmark")
    verb.add_argument("question", metavar="QUESTION", help="an SQL question, or the name of a table or view: leaderboard")
    form = verb.add_mutually_exclusive_group()
    form.add_argument("--csv", dest="form", action="store_const", const="csv", help="print every value whole, as comma-separated lines")
    form.add_argument("--json", dest="form", action="store_const", const="json", help="print every value whole, as a list of objects")
    verb.set_defaults(run=sql, form="table")
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line's entry point; what a person can mend is told in three parts, without a traceback."""
    parsed = parser().parse_args(arguments)
    try:
        status = int(parsed.run(parsed))
        sys.stdout.flush()  # here, where a closed pipe is still ours to notice
        return status
    except MedVLError as error:
        print(error, file=sys.stderr)
        return REFUSED
    except BrokenPipeError:  # the reader has seen enough: `medvl sql leaderboard | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more when it flushes
        return 0


if __name__ == "__main__":
    sys.exit(main())
