"""Keys: who may come in where others can reach the server, and how often somebody may guess.

In: keys by the names of who has them, and what was shown from which address. Out: a name, or a Problem for whoever guesses on and on. Keys
are compared in constant time. An address that has shown ``MAX_WRONG`` wrong keys within a minute is heard again when that minute is over,
and not before, right key or not: else the limit would be none. Who is in already, by the page's cookie, stays in.
"""

import hashlib
import hmac
import ipaddress
import time
import unicodedata
from collections import OrderedDict
from collections.abc import Callable, Mapping
from math import ceil
from typing import NamedTuple

from medvl_lib.errors import MedVLError
from medvl_lib.serving.problems import Problem

MIN_KEY_CHARACTERS, MAX_NAME_CHARACTERS = 16, 80
MAX_WRONG = 10  # keys from one address within ``WINDOW_SECONDS``
WINDOW_SECONDS = 60.0
MOST_ADDRESSES = 10_000  # that are remembered
NAMELESS = ""
NAMED = f"write name:key,name:key with names of 1 to {MAX_NAME_CHARACTERS} characters, without a comma in a key"


class _Wrong(NamedTuple):
    """Wrong keys from one address."""

    since: float
    num_keys: int


class Keys:
    """The keys of a server; asked by its event loop alone."""

    def __init__(self, by_name: Mapping[str, str], *, clock: Callable[[], float] = time.monotonic) -> None:
        """``by_name``: a key for each name; the empty name is that of a key that several people share."""
        self._by_name, self._clock = dict(by_name), clock
        self._wrong = OrderedDict[str, _Wrong]()

    def holder(self, given: str, address: str) -> str | None:
        """Whose key this is; None for a wrong one. Raises a Problem for an address that has guessed too often."""
        place = _place(address)
        self._require_patience(place)
        shown = hashlib.sha256(given.encode(errors="replace")).digest()
        found = [name for name, key in self._by_name.items() if hmac.compare_digest(shown, hashlib.sha256(key.encode()).digest())]
        if not found:
            self._note(place)
            return None
        return found[0]

    def is_taken(self, name: str) -> bool:
        """Whether somebody of this name, however it is written, has a key of their own."""
        return _folded(name) in {_folded(taken) for taken in self._by_name if taken != NAMELESS}

    def signed(self, name: str, text: str) -> str | None:
        """A text signed with the key of a name, in hexadecimal digits; None for a name that has none."""
        key = self._by_name.get(name)
        return None if key is None else hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()

    def _require_patience(self, place: str) -> None:
        wrong = self._wrong.get(place)
        if wrong is None or wrong.num_keys < MAX_WRONG:
            return
        seconds = ceil(wrong.since + WINDOW_SECONDS - self._clock())
        if seconds > 0:
            found = f"{wrong.num_keys} wrong keys from this address within {WINDOW_SECONDS:g} seconds"
            raise Problem(429, found=found, do=f"show the right one in {seconds} seconds", retry_after_seconds=seconds)

    def _note(self, place: str) -> None:
        now, wrong = self._clock(), self._wrong.pop(place, None)
        is_new = wrong is None or now >= wrong.since + WINDOW_SECONDS
        self._wrong[place] = _Wrong(now, 1) if wrong is None or is_new else _Wrong(wrong.since, wrong.num_keys + 1)
        if len(self._wrong) > MOST_ADDRESSES:
            self._wrong.popitem(last=False)


def _folded(name: str) -> str:
    """A name without what nobody sees of it: how its blanks, its letters and their marks are written down."""
    return unicodedata.normalize("NFKC", " ".join(name.split())).casefold()


def _place(address: str) -> str:
    """An address, or of IPv6 the network that one customer gets as a whole."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else str(found)


def read_keys(shared: str | None, named: str | None, *, where: tuple[str, str]) -> Keys | None:
    """The keys that two variables of the environment hold: one for all, and ``name:key,name:key``; None where there is none.

    Raises MedVLError for a key that can be guessed, is no plain text, or is another's too, and for a name that is none.
    """
    found: list[tuple[str, str, str]] = [(NAMELESS, shared, where[0])] if shared else []
    for part in filter(None, (part.strip() for part in (named or "").split(","))):
        name, colon, key = part.partition(":")
        if not colon:  # it may be a key: it is not said
            raise MedVLError(found=f"an entry of {len(part)} characters without a colon", where=where[1], do=NAMED)
        found.append((_require_name(" ".join(name.split()), where[1]), key.strip(), where[1]))
    for name, key, variable in found:
        _require_key(key, variable if name == NAMELESS else f"{variable}, {name}")
    by_name = {name: key for name, key, _ in found}
    if len(by_name) < len(found) or len(set(by_name.values())) < len(found):
        raise MedVLError(found="a name or a key that stands twice", where=" and ".join(where), do="give everybody a key of their own")
    return Keys(by_name) if by_name else None


def _require_name(name: str, where: str) -> str:
    if not name or len(name) > MAX_NAME_CHARACTERS or not name.isprintable():
        found = f"a name of {len(name)} characters" if name.isprintable() else "a name that cannot be printed"
        raise MedVLError(found=found, where=where, do=NAMED)
    return name


def _require_key(key: str, where: str) -> None:
    if len(key) < MIN_KEY_CHARACTERS:
        do = f"take one of at least {MIN_KEY_CHARACTERS} random characters"
        raise MedVLError(found=f"a key of {len(key)} characters", where=where, do=do)
    if not (key.isascii() and key.isprintable()):
        raise MedVLError(found="a key that no header can hold", where=where, do="take one of letters, digits and signs of ASCII")
