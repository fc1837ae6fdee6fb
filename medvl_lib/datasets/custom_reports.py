"""Reports of your own, with their pictures: a format that MedVL defines, since hospitals' exports have none in common.

A folder with one table or more (``.csv``, ``.tsv`` or ``.jsonl``, at any depth), pictures that the tables name (whatever Pillow opens, and
DICOM), and, where the defaults do not fit, ``custom_reports.toml``. Columns, by their default names:

* ``image`` (or images, image_path): the picture's path from the table's folder; several with ``|`` between them, in JSON also a list;
* ``text`` (report, answer): the report. Required;
* ``language`` (lang): ``en``, ``zh`` or another ISO 639-1 code. It is never guessed: ``language = "zh"`` in the toml says it for all rows;
* optional: ``request`` (question, ask), without which the model is asked to describe the picture; ``subject`` (subject_id, patient_id), the
  patient, who stays in one split; ``report_id`` (study_id); ``split`` (train, val, validation, test); ``licence``; ``category``.

Every other column is kept as metadata. **Rows that follow each other with the same report id, text and request are one report of several
pictures** (the later ones may leave the text empty). Tables are UTF-8 or GB18030, by the rules in ``encodings``. A record, before:

    image,text,language,subject,report_id
    ct/0007 (1).dcm,"右肺上叶见一结节影。",zh,P-12,R-7
    ct/0007 (2).dcm,,zh,P-12,R-7

and the pair, after:

    Pair(pair_id="custom_reports/reports/000000", request="请描述这张医学图像。", response="右肺上叶见一结节影。", subject_id="P-12",
         document_id="custom_reports/R-7", source="reports.csv line 2", language="zh", ...)       with two pictures

A row without a picture is rejected (``image_absent``): MedVL trains on pictures with texts, and a text alone has nothing to show. So is a
picture that no row names, and **a DICOM file that says who the patient is**: its tags are named, never what they hold. Where a patient, or
a report, or else a picture, is in two parts of ``split``, the split is not kept. The patient's name in a report's text is not looked for.
"""

import functools
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from medvl_lib.datasets import picture_files, publisher_split, raw_folder, report_tables
from medvl_lib.datasets.delimited import Damage
from medvl_lib.datasets.descriptions import CATEGORY, DESCRIBE
from medvl_lib.datasets.picture_files import NamedPictures
from medvl_lib.datasets.report_tables import BETWEEN_PICTURES, KNOWN, SIDECAR, ReportFormat, Row
from medvl_lib.errors import InputRefused, SettingsError
from medvl_lib.pairs import Dataset, Draft, ImageSource, Pair, Reading, Rejection, Split
from medvl_lib.sources import Acquisition

NAME = "custom_reports"
LICENCE = "as the reports' owner states for each"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Report:
    """A row that could be a pair, or several rows that are one."""

    report_id: str
    """Of the pair: ``custom_reports/<table>/<row>``."""
    source: str
    images: tuple[str, ...]
    text: str
    request: str
    language: str
    subject: str | None
    study: str | None
    part: Split | None
    licence: str
    labels: dict[str, str]

    def group(self, pictures: NamedPictures) -> str:
        """What must stay in one split: the patient, or the report, or the first picture."""
        return f"subject:{self.subject}" if self.subject else self.document(pictures)

    def document(self, pictures: NamedPictures) -> str:
        """The report, or its first picture where reports have no ids."""
        return f"{NAME}/{self.study or pictures.key(self.images[0])[:16]}"


class _Table:
    """A table and the pictures that are named from where it lies."""

    def __init__(self, path: Path, root: Path, declared: ReportFormat) -> None:
        self.path, self.root, self.declared = path, root, declared
        self.pictures = NamedPictures(root / declared.images if declared.images else path.parent)
        self.named: set[Path] = set()

    def readings(self) -> Iterator[_Report | Rejection]:
        """Every row as what it could be; rows that are one report, as one."""
        waiting: _Report | None = None
        for row in report_tables.rows(self.path, self.root, self.declared):
            found = self._of(row)
            if waiting is not None and isinstance(found, _Report) and _belongs_to(waiting, found):
                waiting = replace(waiting, images=(*waiting.images, *found.images))
                continue
            if waiting is not None:
                yield waiting
            waiting = found if isinstance(found, _Report) else None
            if isinstance(found, Rejection):
                yield found
        if waiting is not None:
            yield waiting

    def _of(self, row: Row) -> _Report | Rejection:
        pair_id = f"{NAME}/{self.path.relative_to(self.root).with_suffix('').as_posix()}/{row.number:06d}"

        def rejected(reason: str, detail: str) -> Rejection:
            return Rejection(pair_id=pair_id, dataset=NAME, source=row.source, stage="read", reason=reason, detail=detail)

        if isinstance(row.cells, Damage):
            return rejected(*row.cells)
        held = {what: report_tables.columns_of(what, row.cells, self.declared, row.source) for what in KNOWN}
        said = {what: row.cells[names[0]] if names else "" for what, names in held.items()}
        images = _images(row.cells[name] for name in held["image"])
        for name in images:
            if (path := self.pictures.path(name)) is None:
                return rejected("image_outside_folder", f"{name} leads out of the folder")
            self.named.add(path)
        language = _language(said["language"] or self.declared.language)
        why = _missing(said, images, language)
        if why is not None:
            return rejected(*why)
        used = {name for names in held.values() for name in names}
        labels = {name: text for name, text in row.cells.items() if name not in used}
        labels |= {CATEGORY: said["category"]} if said["category"] else {}
        labels |= {"publisher_split": said["split"]} if said["split"] else {}
        return _Report(
            report_id=pair_id, source=row.source, images=images, text=_text(row.cells, held["text"]),
            request=said["request"] or DESCRIBE[language], language=language, subject=said["subject"] or None, study=said["report"] or None,
            part=publisher_split.PARTS.get(said["split"].lower()), licence=said["licence"] or self.declared.licence, labels=labels,
        )  # fmt: skip


def _images(cells: Iterable[str]) -> tuple[str, ...]:
    return tuple(name.strip() for cell in cells for name in cell.split(BETWEEN_PICTURES) if name.strip())


def _language(text: str) -> str:
    """``zh-CN`` and ``ZH`` are ``zh``."""
    return text.strip().lower().replace("_", "-").split("-")[0]


def _missing(said: Mapping[str, str], images: tuple[str, ...], language: str) -> Damage | None:
    """What a row lacks to be a pair."""
    if not images:
        return Damage("image_absent", "the row names no picture")
    if not language:
        return Damage("language_missing", f'no language: give the rows a column for it, or write language = "..." in {SIDECAR}')
    if not said["request"] and language not in DESCRIBE:
        return Damage("request_missing", f"no request, and none is known in the language {language[:16]!r}: {', '.join(DESCRIBE)} are")
    if said["split"] and said["split"].lower() not in publisher_split.PARTS:
        return Damage("split_unknown", f"a split that is none of {', '.join(publisher_split.PARTS)}")
    return None


def _text(cells: Mapping[str, str], names: list[str]) -> str:
    """One column as it is; several, each below its name, as reports print their sections."""
    texts = [(name, cells[name]) for name in names if name in cells]
    return texts[0][1] if len(names) == 1 and texts else "\n".join(f"{name}: {text}" for name, text in texts)


def _belongs_to(first: _Report, later: _Report) -> bool:
    """Whether a row is another picture of the report before it."""
    same = ("study", "request", "language", "subject", "part", "licence")
    return bool(first.study) and later.text in {"", first.text} and all(getattr(first, name) == getattr(later, name) for name in same)


def _draft(report: _Report, table: _Table, home: Split | None, is_invented: bool) -> Draft:
    pair = Pair(
        pair_id=report.report_id, dataset=NAME, image_ids=(), request=report.request, response=report.text, expected=(),
        subject_id=report.subject, document_id=report.document(table.pictures), publisher_split=home, language=report.language,
        source=report.source, licence=raw_folder.INVENTED_LICENCE if is_invented else report.licence, metadata=report.labels,
    )  # fmt: skip
    paths = [(name, path) for name in report.images if (path := table.pictures.path(name)) is not None]
    return Draft(
        pair=pair,
        images=tuple(
            ImageSource(name=name, data=functools.partial(Path.read_bytes, path), clearance=table.declared.dicom) for name, path in paths
        ),
    )


def read(root: Path) -> Iterator[Reading]:
    """The reports of every table, then a rejection per picture that no row names; raises InputMissing where there is no table."""
    declared = report_tables.read_format(root)
    tables = [_Table(path, root, declared) for path in report_tables.tables(root, declared)]
    if not tables:
        raise raw_folder.missing(NAME, root, "/".join(f"*{suffix}" for suffix in report_tables.SUFFIXES))
    is_invented = raw_folder.is_invented(root)
    homes = publisher_split.homes(
        (found.group(table.pictures), found.part) for table in tables for found in table.readings() if isinstance(found, _Report)
    )
    for table in tables:
        for found in table.readings():
            yield found if isinstance(found, Rejection) else _draft(found, table, homes[found.group(table.pictures)], is_invented)
    named = {path for table in tables for path in table.named}
    for path in picture_files.pictures(root):
        if path not in named:
            place = path.relative_to(root).as_posix()
            detail = "no row of any table names this picture"
            yield Rejection(pair_id=f"{NAME}/file/{place}", dataset=NAME, source=place, stage="read", reason="row_missing", detail=detail)


def _is_read(root: Path, place: str) -> bool:
    """A picture, the declaration, or a table; where tables are declared, of these they alone."""
    if Path(place).suffix.lower() not in report_tables.SUFFIXES:
        return place == SIDECAR or _PICTURES(root, place)
    with suppress(InputRefused, SettingsError):  # ``read`` says what is wrong with a declaration
        tables = report_tables.read_format(root).tables
        return not tables or place in tables
    return True


_PICTURES = raw_folder.named(*picture_files.PATTERNS)


DATASET = Dataset(
    name=NAME,
    title="Reports of your own, with their pictures",
    licence=LICENCE,
    source="yours; the format is described in docs/data-cards/custom_reports.md",
    acquisition=Acquisition(
        sources=(),
        layout=("*.csv, *.tsv or *.jsonl", "pictures and DICOM files, as the reports name them"),
        terms="These are your own reports: put them there as docs/data-cards/custom_reports.md describes.",
    ),
    may_be_shown=False,  # they are somebody's
    read=read,
    is_read=_is_read,
    answers=None,  # a user's own columns say it
    revision=2,  # what is invented says so in its licence
    literals=(tuple(DESCRIBE.items()),),
)
