"""Who may see the page: whoever has the server's key, shown once in a form and from then on by a cookie.

In: a request's path and headers. Out: whether it may pass. The cookie holds no key: it says until when it holds, signed with the key, so
that nothing is kept and another key ends it. It opens the page alone, not the endpoints of programs, and is sent by pages of this machine
alone (SameSite=Strict); what a page of another port sends is refused by its origin.
"""

import hashlib
import hmac
from typing import NamedTuple

from starlette.datastructures import Headers
from starlette.requests import cookie_parser

HOME = "/"
PREFIX = "/page"
LOGIN, LOGOUT = f"{PREFIX}/login", f"{PREFIX}/logout"
TABS = ("extract", "analyze", "compare", "benchmark", "review")
FILES = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
PATHS = (HOME, PREFIX, LOGIN, LOGOUT, f"{PREFIX}/status", *(f"{PREFIX}/{name}" for name in (*TABS, *FILES)))
"""What the log may name."""
OPEN_PATHS = (HOME, LOGIN, *(f"{PREFIX}/{name}" for name in FILES))  # nothing there says what is served
COOKIE = "medvl_page"
SESSION_SECONDS = 12 * 60 * 60  # a working day
SAFE_METHODS = ("GET", "HEAD")


class Asked(NamedTuple):
    """What is looked at of a request."""

    method: str
    path: str
    headers: Headers


def session(api_key: str, now: float) -> str:
    """What the cookie of whoever has shown the key holds."""
    until = str(int(now) + SESSION_SECONDS)
    return f"{until}.{_signed(api_key, until)}"


def _signed(api_key: str, until: str) -> str:
    return hmac.new(api_key.encode(), f"{COOKIE} until {until}".encode(), hashlib.sha256).hexdigest()


def is_of_the_page(path: str) -> bool:
    """Whether a path is one of the page's."""
    return path in (HOME, PREFIX) or path.startswith(f"{PREFIX}/")


def admits(asked: Asked, api_key: str, now: float) -> bool:
    """Whether the page may be shown: the path needs no key, or the cookie holds."""
    if not is_of_the_page(asked.path) or not is_from_here(asked):
        return False
    return asked.path in OPEN_PATHS or _holds(cookie_parser(asked.headers.get("cookie", "")).get(COOKIE, ""), api_key, now)


def is_from_here(asked: Asked) -> bool:
    """Whether no page of another site, or of another port, sends this: browsers name the origin of whatever changes something."""
    if asked.method in SAFE_METHODS or "origin" not in asked.headers:
        return True
    return asked.headers["origin"].partition("://")[2] == asked.headers.get("host", "")


def _holds(cookie: str, api_key: str, now: float) -> bool:
    until, _, signature = cookie.partition(".")
    is_ours = hmac.compare_digest(signature.encode(), _signed(api_key, until).encode())
    return is_ours and until.isdecimal() and int(until) > now
