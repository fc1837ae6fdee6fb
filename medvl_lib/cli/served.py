"""``medvl serve``, ``export``, ``describe`` and ``similar``: what a line serves, over HTTP, for other tools, and for one picture."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medvl_lib.cli.arguments import AddVerb, add_line, add_line_option, port, positive
from medvl_lib.cli.project import checked_settings, entered_profile, line_of, workspace_of, writable

if TYPE_CHECKING:
    from medvl_lib.hardware import Profile
    from medvl_lib.lines import Line
    from medvl_lib.serving.served import ServedModel
    from medvl_lib.workspace import Workspace


def add_verbs(add: AddVerb) -> None:
    """What the four take."""
    verb = add("serve", help="serve what was promoted over HTTP: /health, /analyze, /extract")
    add_line(verb)
    verb.add_argument(
        "--host",
        metavar="ADDRESS",
        default="127.0.0.1",
        help="where to listen; one that others reach needs MEDVL_API_KEY, or MEDVL_API_KEYS",
    )
    verb.add_argument("--port", type=port, metavar="PORT", default=8000, help="8000 unless said otherwise; 0 for any that is free")
    verb.add_argument("--unchecked", action="store_true", help="serve it although nobody compared its answers with those that were judged")
    verb.add_argument(
        "--answer-seconds", type=positive, default=300, metavar="N", help="who waits longer is told so, and waits no more (default: 300)"
    )
    verb.set_defaults(run=serve)

    verb = add("export", help="write what a line serves into a folder that transformers, PEFT, vLLM and mlx-vlm load")
    add_line(verb)
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

    verb = add("describe", help="let what was promoted describe one picture file, DICOM included")
    verb.add_argument("image", metavar="IMAGE", help="the file")
    add_line_option(verb)
    verb.add_argument("--language", choices=("en", "zh"), default="en", help="in which it is asked; English without it")
    verb.add_argument(
        "--cases", action="store_true", help="put similar training cases before the question, as the condition retrieved_cases"
    )
    verb.add_argument("--json", action="store_true", help="print the answer, and whether it is in the language asked for, for machines")
    verb.set_defaults(run=describe)

    verb = add("similar", help="find the training cases of a line whose pictures are nearest to one")
    verb.add_argument("image", metavar="IMAGE", help="a picture: PNG, JPEG, DICOM")
    add_line_option(verb)
    verb.add_argument("-k", "--count", type=positive, default=5, metavar="N", help="how many; 5 without it")
    verb.set_defaults(run=similar)


def serve(arguments: argparse.Namespace) -> int:
    """Serve what was promoted over HTTP, until it is stopped."""
    settings = checked_settings()
    workspace, profile = workspace_of(settings), entered_profile(settings)
    from medvl_lib.route.parity import decided_otherwise, require_compared
    from medvl_lib.serving.running import Serving, keys_for, listen, run
    from medvl_lib.serving.served import served_model

    line = line_of(settings, arguments.line)
    keys, model = keys_for(arguments.host), served_model(workspace, line)

    def compare(model: "ServedModel") -> str:
        said = "it was not compared with what was judged" if arguments.unchecked else require_compared(workspace, line, profile, model)
        return "; ".join(filter(None, (said, decided_otherwise(workspace, line, model))))

    compared = compare(model)
    listening = listen(arguments.host, arguments.port)
    host, port = listening.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    print(f"{model.sentence}; {compared}; {address} is the page, {address}/health says when it is ready", flush=True)
    told = Serving(
        model=model, compared=compared, line=line, profile=profile, workspace=workspace, keys=keys, compare=compare,
        answer_seconds=arguments.answer_seconds, benchmark_url=settings.benchmark_url,
    )  # fmt: skip
    run(told, listening)
    return 0


def export(arguments: argparse.Namespace) -> int:
    """Write what a line serves into a folder that others load, once it was shown to answer as it was judged."""
    folder = writable(arguments.output, is_folder=True)
    settings = checked_settings()
    profile, line = entered_profile(settings), line_of(settings, arguments.line)
    from medvl_lib.route.exporting import export as export_line

    for sentence in export_line(workspace_of(settings), line, profile, folder, num_pairs=arguments.pairs, is_unchecked=arguments.unchecked):
        print(sentence)
    print(f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")
    return 0


def describe(arguments: argparse.Namespace) -> int:
    """Let what is served describe one picture file; who answers, and in another language than asked, is told on standard error."""
    settings = checked_settings()
    workspace, profile = workspace_of(settings), entered_profile(settings)
    from medvl_lib.serving.describing import describe as described
    from medvl_lib.serving.describing import keeps_language
    from medvl_lib.serving.served import served_model

    line, path = line_of(settings, arguments.line), Path(arguments.image)
    model = served_model(workspace, line)
    print(model.sentence, file=sys.stderr)
    cases = _cases(path, arguments.language, model, workspace, line, profile) if arguments.cases else ()
    answer = described(path, arguments.language, model=model, line=line, profile=profile, cases=cases).answer
    is_in_language = keeps_language(answer, arguments.language)
    if not is_in_language:
        found = "in another language" if answer.strip() else "with nothing"
        print(f"WRONG: asked in {arguments.language!r}, and answered {found}; the gate counts such an answer as failed", file=sys.stderr)
    told = {"answer": answer, "language": arguments.language, "is_in_language": is_in_language, "variant": model.variant}
    print(json.dumps(told, ensure_ascii=False) if arguments.json else answer)
    return 0


def _cases(path: Path, language: str, model: "ServedModel", workspace: "Workspace", line: "Line", profile: "Profile") -> Sequence[str]:
    """What is said of the similar cases above the floor, the most similar first; which of them fit is told on standard error."""
    from medvl_lib.case_index import is_alike
    from medvl_lib.serving.cases import floor_of
    from medvl_lib.serving.cases import similar as nearest_cases
    from medvl_lib.serving.describing import before_it, picture_in

    picture = picture_in(path)
    found = nearest_cases(workspace, line, profile, picture, str(path), line.evaluation.num_retrieved_cases, language)
    floor = floor_of(workspace, line)
    cases = [case.text for case in found if is_alike(case.similarity, floor)]
    num_fitting = before_it([picture], language, cases, model=model, line=line).num_cases
    for place, case in enumerate(found):
        where = (
            "before the question" if place < num_fitting
            else f"left out, beyond {line.audit.max_tokens} tokens" if place < len(cases) else "left out, below the floor"
        )  # fmt: skip
        print(f"{where}: {case.similarity:6.3f}  {case.pair_id}  {case.text}", file=sys.stderr)
    print(_said_of_floor(floor), file=sys.stderr)
    return cases


def similar(arguments: argparse.Namespace) -> int:
    """Print the training cases whose pictures are nearest to one: similarity, pair, and what is said of it; also those below the floor."""
    settings = checked_settings()
    profile, path = entered_profile(settings), Path(arguments.image)
    from medvl_lib.case_index import is_alike
    from medvl_lib.serving.cases import floor_of
    from medvl_lib.serving.cases import similar as nearest_cases
    from medvl_lib.serving.describing import picture_in

    workspace, line = workspace_of(settings), line_of(settings, arguments.line)
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
