r"""MIMIC-CXR-JPG: chest radiographs of 65,379 patients of one hospital, with the reports and CheXpert labels of 227,835 studies.

Johnson et al. 2019 (doi.org/10.1038/s41597-019-0322-0, arXiv 1901.07042). Licence: PhysioNet Credentialed Health Data License 1.5.0:
nothing of it may be shown, passed on, or sent to a service. The publisher's layout (physionet.org/content/mimic-cxr-jpg/2.0.0), and beside
it the reports of MIMIC-CXR 2.0.0 (``mimic-cxr-reports.zip``), unpacked into the same folder:

    mimic-cxr-2.0.0-metadata.csv.gz    mimic-cxr-2.0.0-split.csv.gz    mimic-cxr-2.0.0-chexpert.csv.gz      (or .csv)
    files/p10/p10000032/s50414267/02aa804e-bde0afdd-112c0b34-7bc16630-4e384014.jpg
    files/p10/p10000032/s50414267.txt                                                                     beside the study's folder
    mimic-iv/hosp/labevents.csv.gz, ...                              MIMIC-IV's tables about the same patients, if they are there

A study, before (two rows of the metadata, one report):

    02aa804e-...,10000032,50414267,CHEST (PA AND LAT),PA,3056,2544,21800506,213014.531,...
    174413ec-...,10000032,50414267,CHEST (PA AND LAT),LATERAL,3056,2544,21800506,213014.531,...
    FINDINGS:  The lungs are clear. ...        IMPRESSION:  No acute process, compared to ___.

and its two pairs, after, both with both pictures:

    Pair(pair_id="mimic_cxr/s50414267/impression", request="Write the impression of this chest radiograph study, then its CheXpert labels.",
         response="Impression: No acute process.\nCheXpert labels: No Finding present", subject_id="10000032",
         document_id="mimic_cxr/s50414267", publisher_split="train", metadata={"stage": "impression", "study_id": "50414267",
         "study_time": "2180-05-06T21:30:14", "view_positions": "PA|LATERAL", "No Finding": "1.0", "Edema": "", ...}, ...)
    Pair(pair_id="mimic_cxr/s50414267/reasoning", request="Describe the findings of this chest radiograph study.",
         response="Findings: The lungs are clear. ...", ...)

So a study gives a pair per stage of the radiology line, or a rejection that says why not: **reports without findings or without an
impression are common** (``findings_absent``, ``impression_absent``), and some hold nothing but masks (``findings_masked``). Masks are never
part of what is wanted (``masks``). Sections are cut by ``radiology_report``, requests and responses made by ``mimic_cxr_texts``, tables
joined by ``mimic_cxr_tables``. All pictures of a study are shown, in the order of the metadata, whatever their view; a study of which one
picture is missing is left out, since its report speaks of all. The publisher's split is by patient, and is kept.

Where MIMIC-IV's folder ``hosp`` lies below the raw folder, too, the reasoning pair of a study whose time is known shows what was on record
before it, and wants the diagnoses of the admission that contains it (``mimic_cxr_records``).
"""

import functools
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path

from medvl_lib import ehr
from medvl_lib.datasets import delimited, masks, mimic_cxr_records, mimic_cxr_texts, picture_files, radiology_report, raw_folder
from medvl_lib.datasets.delimited import Damage
from medvl_lib.datasets.descriptions import STAGE
from medvl_lib.datasets.mimic_cxr_tables import Spoilt, Study, Tables, read_tables
from medvl_lib.datasets.mimic_cxr_texts import STAGES, STUDY_ID, STUDY_TIME, Record, Stage, Wanted
from medvl_lib.datasets.radiology_report import Section
from medvl_lib.ehr.contexts import CONTEXTS, LIMITS
from medvl_lib.ehr.facts import EhrContext
from medvl_lib.ehr.hosp import ALLOWED_COLUMNS
from medvl_lib.pairs import Context, Dataset, Draft, ImageSource, Pair, Reading, Rejection, Split
from medvl_lib.sources import Acquisition, PhysioNet, Unpacking
from medvl_lib.step import Table

NAME = "mimic_cxr"
LICENCE = "PhysioNet Credentialed Health Data License 1.5.0"
BETWEEN = "|"  # pictures, in metadata
VIEWS, PROCEDURES, CHEXPERT, TAKEN_FROM = "view_positions", "procedures", "chexpert", "section"
NUM_PHRASES, NUM_SENTENCES = "num_masked_phrases_removed", "num_masked_sentences_removed"
NO_ROW = "the table has no row of this study"


def _labels(study: Study, home: Split | None) -> dict[str, str]:
    """What the tables say of a study; empty view positions and label cells included."""
    known = {
        STUDY_ID: study.study_id,
        STUDY_TIME: study.time,
        VIEWS: BETWEEN.join(picture.view for picture in study.pictures),
        PROCEDURES: BETWEEN.join(dict.fromkeys(picture.procedure for picture in study.pictures if picture.procedure)),
    }
    known |= study.labels or {CHEXPERT: NO_ROW}
    return known | ({} if home is None else {"publisher_split": home})


def _report(path: Path) -> str | Damage:
    """A study's report, or why there is none."""
    try:
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return Damage("report_missing", f"no report {path.name} beside the study's folder")
    if delimited.is_undecoded(text):
        return Damage("not_utf8", f"{path.name} holds a byte that is not utf8")
    return text if text.strip() else Damage("report_empty", f"{path.name} holds no text")


def _texts(stage: Stage, sections: tuple[Section, ...], study: Study, record: Record | None) -> tuple[Wanted, dict[str, str]] | Damage:
    """Request and response of a stage with what was done to the report's words, or why there are none."""
    name = "impression" if stage == "impression" else "findings"
    chosen = radiology_report.impression(sections) if stage == "impression" else radiology_report.findings(sections)
    if chosen is None:
        return Damage(f"{name}_absent", f"the report has no {name}")
    left = masks.unmasked(chosen.text)
    if not left.text:
        return Damage(f"{name}_masked", f"each of the {left.num_sentences} sentences of the {name} hangs on a mask")
    did = {TAKEN_FROM: chosen.kind}
    did |= {NUM_PHRASES: str(left.num_phrases), NUM_SENTENCES: str(left.num_sentences)} if left.num_phrases + left.num_sentences else {}
    if stage == "impression":
        return mimic_cxr_texts.impression_texts(left.text, study.labels), did
    return mimic_cxr_texts.reasoning_texts(left.text, record), did


def study_readings(study: Study, tables: Tables, record: Record | None, licence: str) -> Iterator[Reading]:
    """A pair per stage, or why not; ``record`` is what was on record about the patient, None where nothing is known.

    The pictures are those of both stages, so both are in one split.
    """
    document, report = f"{NAME}/s{study.study_id}", tables.files / f"{study.folder}.txt"
    source = f"{study.source} + files/{study.folder}.txt"
    text = _report(report)
    if isinstance(text, Damage):
        yield _rejection(document, source, text)
        return
    sections, home = radiology_report.sections(text), tables.homes[study.subject_id]
    images = tuple(
        ImageSource(name=f"files/{study.folder}/{picture.dicom_id}.jpg", data=functools.partial(Path.read_bytes, path))
        for picture in study.pictures
        for path in [tables.files / study.folder / f"{picture.dicom_id}.jpg"]
    )
    for stage in STAGES:
        made = _texts(stage, sections, study, record)
        if isinstance(made, Damage):
            yield _rejection(f"{document}/{stage}", source, made)
            continue
        wanted, did = made
        pair = Pair(
            pair_id=f"{document}/{stage}", dataset=NAME, image_ids=(), request=wanted.request, response=wanted.response, expected=(),
            subject_id=study.subject_id, document_id=document, publisher_split=home, language="en", source=source, licence=licence,
            metadata={STAGE: stage, **_labels(study, home), **did},
        )  # fmt: skip
        yield Draft(pair=pair, images=images)


def _rejection(pair_id: str, source: str, why: Damage) -> Rejection:
    return Rejection(pair_id=pair_id, dataset=NAME, source=source, stage="read", reason=why.reason, detail=why.detail)


def _spoilt(row: Spoilt) -> Rejection:
    return _rejection(f"{NAME}/{row.row_id}", row.source, row.why)


def read(root: Path, records: Path | None = None) -> Iterator[Reading]:
    """The rows that are spoilt, then the pairs of every study, then the pictures that no row names.

    ``records`` is the directory with what was on record before each study; without it findings are asked for alone. Raises InputMissing
    without the publisher's tables, InputRefused where one is cut, there twice, or lacks a column.
    """
    tables = read_tables(root)
    licence = raw_folder.INVENTED_LICENCE if raw_folder.is_invented(root) else LICENCE
    for row in tables.spoilt:
        yield _spoilt(row)
    for study, record in mimic_cxr_records.recorded(tables, records):
        yield from study_readings(study, tables, record, licence)
    named = {f"{picture.dicom_id}.jpg" for study in tables.studies.values() for picture in study.pictures}
    for path in picture_files.pictures(root):
        if path.name not in named:
            place = path.relative_to(root).as_posix()
            yield _rejection(f"{NAME}/file/{place}", place, Damage("row_missing", "no row of the metadata names this picture"))


DATASET = Dataset(
    name=NAME,
    title="MIMIC-CXR-JPG: chest radiographs with reports and CheXpert labels",
    licence=LICENCE,
    source="physionet.org/content/mimic-cxr-jpg/2.0.0; reports: physionet.org/content/mimic-cxr/2.0.0",
    acquisition=Acquisition(
        sources=(
            PhysioNet(
                name="mimic-cxr-jpg", project="mimic-cxr-jpg", version="2.0.0",
                files=(
                    r"mimic-cxr-2\.0\.0-(metadata|split|chexpert)\.csv\.gz",
                    r"files/p\d\d/p(?P<patient>\d{8})/s(?P<study>\d{8})/[-0-9a-f]+\.jpg",
                ),
            ),
            PhysioNet(
                name="mimic-cxr", project="mimic-cxr", version="2.0.0", files=(r"mimic-cxr-reports\.zip",),
                archives={"mimic-cxr-reports.zip": Unpacking(member=r"files/p\d\d/p(?P<patient>\d{8})/s\d{8}\.txt")},
            ),
            PhysioNet(
                name="mimic-iv", project="mimiciv", version="3.1", into="mimic-iv",
                files=tuple(rf"hosp/{table}\.csv\.gz" for table in ALLOWED_COLUMNS),
            ),
        ),
        layout=(
            "mimic-cxr-2.0.0-{metadata,split,chexpert}.csv.gz",
            "files/p10/p10000032/s50414267/<dicom_id>.jpg    558 GB in all",
            "files/p10/p10000032/s50414267.txt               from mimic-cxr-reports.zip",
            "mimic-iv/hosp/*.csv.gz                          MIMIC-IV: may be absent",
        ),
        terms="PhysioNet Credentialed Health Data License 1.5.0: finish the training, sign the agreement of each project with your own "
        "account, and pass nothing on to anyone, third-party services included.",
    ),
    may_be_shown=False,  # credentialed: nothing of it may be passed on
    read=read,
    is_read=raw_folder.named(
        *(f"mimic-cxr-*-{table}.csv{packed}" for table in ("metadata", "split", "chexpert") for packed in ("", ".gz")),
        *(f"hosp/{table}.csv{packed}" for table in ALLOWED_COLUMNS for packed in ("", ".gz")),
        "files/p*/p*/s*.txt",
        *picture_files.PATTERNS,
    ),
    revision=2,  # what is invented says so in its licence
    answers=("report", "impression", "findings", "diagnoses"),  # the last where MIMIC-IV's tables are there
    rejected_share_budget=0.5,  # a study is two records, and many reports have findings or an impression alone
    literals=(
        mimic_cxr_texts.IMPRESSION_REQUEST, mimic_cxr_texts.FINDINGS_REQUEST, mimic_cxr_texts.DIAGNOSES_REQUEST,
        mimic_cxr_texts.RECORD_HEADING, mimic_cxr_texts.IMPRESSION, mimic_cxr_texts.LABELS, mimic_cxr_texts.FINDINGS,
        mimic_cxr_texts.NONE_STATED, tuple(mimic_cxr_texts.STATES.items()),
    ),
    context=Context(
        step=mimic_cxr_records.STEP, description=mimic_cxr_records.__doc__ or "", table=Table(file=CONTEXTS, model=EhrContext),
        write=mimic_cxr_records.write, rules=mimic_cxr_records.rules, read=read, revision=ehr.REVISION,
        literals=astuple(LIMITS),
    ),
)  # fmt: skip
