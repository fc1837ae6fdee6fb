"""Forms as they are parsed: words in UTF-8, no more files than a batch has, and no field that an endpoint does not know.

In: the bytes of a form. Out: its fields, or a refusal. Starlette's parsers read words that are not UTF-8 as Latin-1, or put question marks
in their place, and have no setting for it: ``install`` puts stricter ones where it looks for them. Fields of the page go the same way.
"""

from typing import Any
from urllib.parse import unquote_to_bytes

from fastapi import Request
from starlette import requests
from starlette.exceptions import HTTPException
from starlette.formparsers import FormParser, MultiPartException, MultiPartParser

from medvl_lib.serving.problems import Problem, named
from medvl_lib.serving.uploads import MAX_BODY_BYTES

NOT_UNICODE = "a form whose words are not UTF-8: send them as UTF-8"
MOST_NAMES = 3  # of unknown fields that are told


class StrictMultiPartParser(MultiPartParser):
    """Of a form with files."""

    spool_max_size = MAX_BODY_BYTES  # an upload stays in memory: nothing of a patient is written to disk

    def on_headers_finished(self) -> None:
        """Refuse the file that is one too many."""
        try:
            super().on_headers_finished()
        except MultiPartException as error:
            if self._current_files <= self.max_files:
                raise
            raise HTTPException(422, f"more than {self.max_files} files in one form: send fewer at a time") from error

    def on_part_end(self) -> None:
        """Refuse words that cannot be read; what a file is called is not looked at."""
        if self._current_part.file is None:
            _words(bytes(self._current_part.data))
        super().on_part_end()


class StrictFormParser(FormParser):
    """Of a form of words alone."""

    def on_field_end(self) -> None:
        """Take name and value as UTF-8, or refuse them."""
        super().on_field_end()
        self._items[-1] = (_words(_unquoted(self._field_name)), _words(_unquoted(self._field_value)))


def _unquoted(written: bytearray) -> bytes:
    return unquote_to_bytes(bytes(written).replace(b"+", b" "))


def _words(written: bytes) -> str:
    try:
        return written.decode("utf-8")
    except UnicodeDecodeError as error:
        raise HTTPException(400, NOT_UNICODE) from error


def install() -> None:
    """Let every form of this process be parsed so."""
    for name, parser in (("MultiPartParser", StrictMultiPartParser), ("FormParser", StrictFormParser)):
        setattr(requests, name, parser)


async def require_known_fields(request: Request) -> None:
    """Refuse a field that the endpoint does not know: what is misspelt would mean nothing."""
    route: Any = request.scope["route"]
    known = [field.alias for field in route.dependant.body_params]
    form = await request.form()  # parsed before, and kept
    if unknown := sorted(set(form) - set(known)):
        names = ", ".join(map(named, unknown[:MOST_NAMES]))
        raise Problem(422, found=f"a form with an unknown field ({names})", do=f"send {', '.join(sorted(known))}")
