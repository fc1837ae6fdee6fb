"""Who may see the page: whoever has a key of the server, shown once in a form and from then on by a cookie.

In: a request's path and headers. Out: whose key was shown. The cookie holds no key: it says until when it holds and whose it is, signed
with that key, so that nothing is kept and another key ends it. It opens the page alone, not the endpoints of programs, and is sent by
pages of this machine alone (SameSite=Strict); what a page of another port sends is refused by its origin.
"""

import hmac
from typing import NamedTuple

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.types import Scope

from medvl_lib.serving.keys import NAMELESS, Keys

HOME = "/"
PREFIX = "/page"
LOGIN, LOGOUT = f"{PREFIX}/login", f"{PREFIX}/logout"
TABS = ("extract", "analyze", "compare", "benchmark", "review")
FILES = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
PATHS = (HOME, PREFIX, LOGIN, LOGOUT, f"{PREFIX}/status", *(f"{PREFIX}/{name}" for name in (*TABS, *FILES)))
"""What the log may name."""
WORDS_PATHS = (LOGIN, LOGOUT, f"{PREFIX}/review")  # whose forms take no file
OPEN_PATHS = (HOME, LOGIN, *(f"{PREFIX}/{name}" for name in FILES))  # nothing there says what is served
COOKIE = "medvl_page"
HOLDER = "medvl_lib.holder"  # in a request's scope: the name of the key that was shown
SESSION_SECONDS = 12 * 60 * 60  # a working day
SAFE_METHODS = ("GET", "HEAD")


class Asked(NamedTuple):
    """What is looked at of a request."""

    method: str
    path: str
    headers: Headers


def address_of(scope: Scope) -> str:
    """From where a request comes, as far as a proxy on this machine says (X-Forwarded-For)."""
    client = scope.get("client")
    return client[0] if client else ""


def session(keys: Keys, name: str, now: float) -> str:
    """What the cookie of whoever has shown the key of this name holds."""
    until = str(int(now) + SESSION_SECONDS)
    return f"{until}.{name.encode().hex()}.{_signed(keys, name, until)}"


def _signed(keys: Keys, name: str, until: str) -> str | None:
    return keys.signed(name, f"{COOKIE} of {name} until {until}")


def is_of_the_page(path: str) -> bool:
    """Whether a path is one of the page's."""
    return path in (HOME, PREFIX) or path.startswith(f"{PREFIX}/")


def admitted(asked: Asked, keys: Keys, now: float) -> str | None:
    """Who may see the page: whose cookie holds, or anybody where the path needs no key; None where nobody may."""
    if not is_of_the_page(asked.path) or not is_from_here(asked):
        return None
    holder = _holder(cookie_parser(asked.headers.get("cookie", "")).get(COOKIE, ""), keys, now)
    return NAMELESS if holder is None and asked.path in OPEN_PATHS else holder


def is_from_here(asked: Asked) -> bool:
    """Whether no page of another site, or of another port, sends this: browsers name the origin of whatever changes something."""
    if asked.method in SAFE_METHODS or "origin" not in asked.headers:
        return True
    return asked.headers["origin"].partition("://")[2] == asked.headers.get("host", "")


def _holder(cookie: str, keys: Keys, now: float) -> str | None:
    """Whose session a cookie is."""
    until, _, rest = cookie.partition(".")
    written, _, signature = rest.partition(".")
    try:
        name = bytes.fromhex(written).decode()
    except ValueError:
        return None
    wanted = _signed(keys, name, until)
    is_ours = wanted is not None and hmac.compare_digest(signature.encode(), wanted.encode())
    return name if is_ours and until.isdecimal() and int(until) > now else None
