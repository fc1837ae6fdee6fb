"""How a user's text file is encoded: UTF-8, with or without a mark, or GB18030 (which GBK and GB2312 are parts of). Nothing is guessed.

In: a file, and what its owner declares. Out: a codec's name, by the first of these rules that fits:

1. what is declared counts; a byte that it has no character for then costs its own row;
2. UTF-8, if the whole file is;
3. GB18030, if the whole file is and nearly all that is not ASCII are characters of GB2312, the ones in use since 1980. Two bytes of many
   other encodings make *some* character of GB18030 ("on" of Jönköping in Latin-1 does), but rare ones;
4. anything else is refused, with the first byte that is not UTF-8 and the way to declare the encoding.

A character that the end of the file cuts in two does not count against a rule.
"""

import codecs
from pathlib import Path
from typing import Literal

from medvl_lib.errors import InputRefused

Declared = Literal["", "utf-8", "gb18030"]
UTF8, GB18030 = "utf-8-sig", "gb18030"  # the first drops a mark
CHUNK_BYTES = 1 << 20
MIN_COMMON_SHARE = 0.95  # real text has a rare character now and then, in a name
WIDE_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # those of UTF-32 begin with them, or with NUL


def encoding_of(path: Path, declared: Declared, cure: str) -> str:
    """The codec to open a file with; raises InputRefused with ``cure`` where no rule fits."""
    if declared:
        return UTF8 if declared == "utf-8" else GB18030
    with path.open("rb") as stream:
        if stream.read(2) in WIDE_MARKS:
            raise InputRefused(found="UTF-16, by its mark", where=str(path), do="save the file as UTF-8")
    problem = _utf8_problem(path)
    if problem is None:
        return UTF8
    share = _common_share(path)
    if share is not None and share >= MIN_COMMON_SHARE:
        return GB18030
    chinese = "bytes that GB18030 does not have" if share is None else f"only {share:.0%} common characters as GB18030"
    raise InputRefused(found=f"not UTF-8 ({problem}), and {chinese}", where=str(path), do=cure)


def _utf8_problem(path: Path) -> str | None:
    """The first byte that is not UTF-8, and where; None where all of it is."""
    decoder, offset = codecs.getincrementaldecoder("utf-8")(), 0
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            waiting = len(decoder.getstate()[0])
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError as error:
                return f"byte 0x{error.object[error.start]:02X} at {offset - waiting + error.start}"
            offset += len(chunk)
    return None


def _common_share(path: Path) -> float | None:
    """How much of what is not ASCII is in GB2312 (0-1), read as GB18030; None where it cannot be read so."""
    decoder = codecs.getincrementaldecoder("gb18030")()
    num_common = num_others = 0
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            try:
                text = "".join(character for character in decoder.decode(chunk) if not character.isascii())
            except UnicodeDecodeError:
                return None
            common = len(text.encode("gb2312", errors="ignore")) // 2
            num_common, num_others = num_common + common, num_others + len(text) - common
    return num_common / max(1, num_common + num_others)
