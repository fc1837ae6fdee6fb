"""Notifications: a person is told that a run failed, or that a model got worse. By webhook, by e-mail, or not at all.

In: a ``Notice`` and the settings. Out: a JSON object posted, an e-mail sent. A notice is made of names alone (jobs, steps, checks, metrics,
ids) and of numbers; no sentence of an error, no path and no row goes into one, since those may quote the data. Secrets are read from the
environment when something is sent, and stand in no error. Who notices what is not known here.
"""

import http.client
import json
import os
import smtplib
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from email.message import EmailMessage
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from medvl_lib.errors import MedVLError, SettingsError
from medvl_lib.settings import NotificationSettings

URL, TOKEN, USER, PASSWORD = "MEDVL_WEBHOOK_URL", "MEDVL_WEBHOOK_TOKEN", "MEDVL_SMTP_USER", "MEDVL_SMTP_PASSWORD"
FROM_THE_ENVIRONMENT = "environment"
TIMEOUT_SECONDS = 10.0  # a sensor waits for it
WHERE = "[notifications]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What a person is told."""

    kind: Literal["run_failed", "model_regressed"]
    what: str
    """One sentence of names and numbers."""
    job: str = ""
    run_id: str = ""
    steps: tuple[str, ...] = ()
    """The steps that failed."""
    checks: tuple[str, ...] = ()
    """The checks that failed, as ``asset: rule``."""
    url: str = ""
    """Where to look."""


class Told(NamedTuple):
    """What became of a notice."""

    how: tuple[str, ...]
    """Each way that took it, in words; empty where the settings name nobody."""
    failures: tuple[str, ...]
    """What each way that did not take it ran into: for the log of who sent it."""


def require_meant(settings: NotificationSettings) -> None:
    """Refuse half an e-mail, and an address with a secret in it; raises SettingsError."""
    if settings.mail_to and not (settings.smtp_host and settings.mail_from):
        raise SettingsError(
            found=f"mail_to = {settings.mail_to}, smtp_host = {settings.smtp_host!r}, mail_from = {settings.mail_from!r}", where=WHERE,
            do="name the mail server and the sender as well",
        )  # fmt: skip
    if settings.webhook in {"", FROM_THE_ENVIRONMENT}:
        return
    address = urlsplit(settings.webhook)
    if address.scheme not in {"http", "https"} or not address.hostname:
        raise SettingsError(found=f"webhook = {settings.webhook!r}", where=WHERE, do="write an address that begins with https://")
    if address.username or address.password or address.query:
        raise SettingsError(
            found="a webhook whose address has a user or a query in it: a secret", where=WHERE,
            do=f"write webhook = {FROM_THE_ENVIRONMENT!r}, and the address into {URL}",
        )  # fmt: skip


def send(notice: Notice, settings: NotificationSettings, environment: Mapping[str, str] = os.environ) -> Told:
    """Tell everyone whom the settings name, by each way, whatever became of the other. Raises MedVLError where nobody could be told."""
    ways = [("webhook", _post)] if settings.webhook else []
    ways += [(f"e-mail to {len(settings.mail_to)}", _mail)] if settings.mail_to else []
    told: list[str] = []
    failed: list[MedVLError] = []
    for way, tell in ways:
        try:
            tell(notice, settings, environment)
            told.append(way)
        except MedVLError as error:
            failed.append(error)
    if failed and not told:
        found, where, do = ("; ".join(dict.fromkeys(words)) for words in zip(*(error.args for error in failed), strict=True))
        raise MedVLError(found=found, where=where, do=do)
    return Told(how=tuple(told), failures=tuple(str(error) for error in failed))


def _post(notice: Notice, settings: NotificationSettings, environment: Mapping[str, str]) -> None:
    address = environment.get(URL, "") if settings.webhook == FROM_THE_ENVIRONMENT else settings.webhook
    if urlsplit(address).scheme not in {"http", "https"}:
        raise MedVLError(found="no address of a webhook", where=URL, do=f"set {URL}, or write webhook = ... in {WHERE}")
    headers = {"Content-Type": "application/json", "User-Agent": "medvl"}
    if token := environment.get(TOKEN):
        headers["Authorization"] = f"Bearer {token}"
    body = json.dumps({**asdict(notice), "text": in_words(notice)}).encode()  # `text` is what chat services show
    request = urllib.request.Request(address, data=body, headers=headers, method="POST")  # noqa: S310 (http or https, see above)
    try:
        with urllib.request.build_opener(_NoRedirects).open(request, timeout=TIMEOUT_SECONDS):
            return
    except urllib.error.HTTPError as error:
        raise _unsent("webhook", f"status {error.code}") from None  # its address may be a secret
    except (OSError, http.client.HTTPException, ValueError) as error:  # the last of a header, and it quotes the token
        raise _unsent("webhook", type(error).__name__) from None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A token goes to the address that was named, and to no other."""

    def redirect_request(self, *_: object, **__: object) -> None:
        """Follow nothing: the redirect is the answer, and an error."""


def _mail(notice: Notice, settings: NotificationSettings, environment: Mapping[str, str]) -> None:
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = f"MedVL: {notice.what}", settings.mail_from, ", ".join(settings.mail_to)
    message.set_content(in_words(notice))
    context = ssl.create_default_context()
    try:
        if settings.smtp_security == "tls":
            server = smtplib.SMTP_SSL(settings.smtp_host, settings.smtp_port, timeout=TIMEOUT_SECONDS, context=context)
        else:
            server = smtplib.SMTP(settings.smtp_host, settings.smtp_port, timeout=TIMEOUT_SECONDS)
        with server:
            if settings.smtp_security == "starttls":
                server.starttls(context=context)
            if (user := environment.get(USER)) and settings.smtp_security != "none":
                server.login(user, environment.get(PASSWORD, ""))
            server.send_message(message)
    except (OSError, smtplib.SMTPException, ValueError) as error:  # the last of a name or a password that is not ASCII
        raise _unsent("mail server", type(error).__name__) from None  # the server's own words may repeat ours


def _unsent(what: str, why: str) -> MedVLError:
    return MedVLError(found=f"the {what} took no notice ({why})", where=WHERE, do="see whether it can be reached, and its secrets are set")


def in_words(notice: Notice) -> str:
    """A notice as lines of text."""
    lines = [notice.what]
    lines += [f"failed step: {name}" for name in notice.steps] + [f"failed check: {name}" for name in notice.checks]
    lines += [f"run: {notice.run_id}"] if notice.run_id else []
    return "\n".join([*lines, *([notice.url] if notice.url else [])])
