r"""MTSamples: sample medical transcriptions of 40 specialties (mtsamples.com), drawn onto pages and transcribed back.

Text only, so MedVL makes the picture: each transcription is wrapped and drawn onto pages of one fixed style, and every page is a pair.
Two layouts are known (``mtsamples_files`` reads them), and each file found at any depth is read:

* ``mtsamples.csv`` as Kaggle ships it (kaggle.com/datasets/tboyle10/medicaltranscriptions, version 1): 4,999 rows. Licence: CC0, as
  labelled on Kaggle; the site's own terms are not confirmed, so nothing of it is shown (``may_be_shown`` is False). Any other csv file
  with its columns is read beside it, so that new rows may come in a file of their own.
* ``train-*.parquet`` and ``test-*.parquet`` from the hub (huggingface.co/datasets/rungalileo/medical_transcription_40 @ 8c1952b, since
  renamed to galileo-ai): 4,499 + 500 rows of (id, text, label). No licence is given.

A record, before (the first column has no name; a blank opens each field, and what was a section break on the web page is a comma):

    17, Consult for gastric bypass., Bariatrics, Gastric Bypass Consult ,"PAST MEDICAL HISTORY:, He has ...,ALLERGIES:, None.",""

and its first page, after:

    Pair(pair_id="mtsamples/csv/000017/p1", request="Transcribe this page.",
         response="PAST MEDICAL HISTORY:\nHe has ...\nALLERGIES:\nNone.", document_id="mtsamples/9f2c...", publisher_split=None,
         source="mtsamples.csv line 21", metadata={"specialty": "Bariatrics", "sample_name": "Gastric Bypass Consult", ...}, ...)

The response is, line for line, what the page shows: section breaks begin a new line, runs of blanks are one blank, and a character without
a glyph is U+FFFD on the page and in the response (counted in ``num_replaced_characters``; a text that lost more than 1 % is rejected).

``document_id`` is a hash of the transcription, since the same one recurs under several specialties: its pages stay in one split.
``publisher_split`` stays empty: the hub's test rows repeat transcriptions of its train rows, so that split leaks. Where the hub put a row
is kept in the metadata. A repeated transcription is yielded again: ``validation`` decides.
"""

import functools
import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from medvl_lib import pages
from medvl_lib.datasets import hub_parquet, mtsamples_files, raw_folder
from medvl_lib.datasets.mtsamples_files import NAME, Transcription
from medvl_lib.pages import PageStyle
from medvl_lib.pairs import Dataset, Draft, ImageSource, Pair, Reading
from medvl_lib.sources import Acquisition, Hub

REQUEST = "Transcribe this page."
PAGE = PageStyle(font="sans", font_size_pixels=14, width_pixels=336, height_pixels=336, margin_pixels=8, line_pitch_pixels=18)
MAX_REPLACED_SHARE = 0.01  # a page with more question marks than this no longer shows the transcription

SECTION_BREAK = re.compile(
    r"(?<=:)\s*,\s*"  # "ALLERGIES:, None."
    r"|(?<=\.)\s*,(?=[A-Z0-9])"  # "lungs are clear.,Neck:  Supple": after a full stop an ordinary comma has a blank behind it
    r"|\s*,(?=[A-Z][A-Z /&-]+:)"  # "13 years ago,SOCIAL HISTORY:"
)


def _document_id(text: str) -> str:
    """The same for every copy of a transcription, whatever its blanks and capitals."""
    return f"{NAME}/{hashlib.sha256(' '.join(text.casefold().split()).encode()).hexdigest()[:16]}"


def page_text(text: str) -> str:
    """A transcription with its section breaks as line breaks."""
    return SECTION_BREAK.sub("\n", text.strip().strip(","))


def _pages_of(record: Transcription) -> Iterator[Reading]:
    """A row -> a draft per page, drawn when its bytes are asked for; or a rejection."""
    shown, num_replaced = pages.printable(page_text(record.text))
    lines = pages.wrap(shown, PAGE)
    if not lines:
        yield mtsamples_files.rejection(record.row_id, record.source, "empty_text", "the transcription has no text")
        return
    if num_replaced > MAX_REPLACED_SHARE * len(shown):
        detail = f"{num_replaced} of {len(shown)} characters have no glyph in the page fonts"
        yield mtsamples_files.rejection(record.row_id, record.source, "characters_without_glyph", detail)
        return
    sheets = pages.paginate(lines, PAGE)
    labels = record.labels | {"glyph_height_pixels": f"{pages.x_height_pixels(PAGE):g}", "num_pages": str(len(sheets))}
    labels |= {"num_replaced_characters": str(num_replaced)} if num_replaced else {}
    for number, sheet in enumerate(sheets, start=1):
        pair = Pair(
            pair_id=f"{record.row_id}/p{number}", dataset=NAME, image_ids=(), request=REQUEST, response="\n".join(sheet), expected=(),
            subject_id=None, document_id=_document_id(record.text), publisher_split=None, language="en", source=record.source,
            licence=record.licence, metadata=labels,
        )  # fmt: skip
        yield Draft(pair=pair, images=(ImageSource(name=pair.pair_id, data=functools.partial(pages.text_page, sheet, PAGE)),))


def read(root: Path) -> Iterator[Reading]:
    """The pages of every row, the csv files first, then the hub's train and test; raises InputMissing where no known file lies."""
    tables = mtsamples_files.csv_tables(root)
    tables += [mtsamples_files.hub_rows(root, part) for part in mtsamples_files.HUB_PARTS if hub_parquet.part_files(root, part)]
    if not tables:
        raise raw_folder.missing(NAME, root, f"{mtsamples_files.CSV_FILE} / *.csv with its header / train-*.parquet / test-*.parquet")
    is_invented = raw_folder.is_invented(root)
    for table in tables:
        for row in table:
            if isinstance(row, Transcription):
                yield from _pages_of(replace(row, licence=raw_folder.INVENTED_LICENCE) if is_invented else row)
            else:
                yield row


DATASET = Dataset(
    name=NAME,
    title="MTSamples: medical transcriptions of 40 specialties, drawn onto pages",
    licence=f"csv: {mtsamples_files.CSV_LICENCE}; hub: {mtsamples_files.HUB_LICENCE}",
    source="kaggle.com/datasets/tboyle10/medicaltranscriptions version 1; "
    "huggingface.co/datasets/rungalileo/medical_transcription_40 @ 8c1952b",
    acquisition=Acquisition(
        sources=(Hub(name="hub", repository="galileo-ai/medical_transcription_40", revision="8c1952b", files=("data/*.parquet",)),),
        layout=(
            "data/train-*.parquet, data/test-*.parquet    from the hub, at any depth",
            "mtsamples.csv                                or this one, from kaggle.com/datasets/tboyle10/medicaltranscriptions",
            "*.csv                                        further rows, with the header of mtsamples.csv",
        ),
        terms="No licence is given on the hub; Kaggle labels the csv CC0. Neither is confirmed.",
    ),
    may_be_shown=False,  # neither layout's licence is confirmed
    read=read,
    is_read=mtsamples_files.is_read,
    answers=("report",),
    revision=4,  # every csv file with the publisher's columns is read
    literals=(REQUEST, PAGE, pages.REVISION, MAX_REPLACED_SHARE),
)
