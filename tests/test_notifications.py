"""Who is told, and what. If these passed wrongly, a patient's words would leave the hospital in an e-mail, a secret stand in a log, or
nobody hear that the night's training failed.
"""

import http.server
import json
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from medvl_lib.errors import MedVLError, SettingsError
from medvl_lib.notifications import Notice, in_words, require_meant, send
from medvl_lib.settings import NotificationSettings

NOTICE = Notice(
    kind="run_failed", what="a run of documents failed", job="documents", run_id="0123", steps=("mtsamples__validated_pairs__rules",),
    checks=("mtsamples/validated_pairs: every_image_opens",), url="http://ui.example/runs/0123",
)  # fmt: skip


@dataclass
class Heard:
    """What a server was told."""

    port: int = 0
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    bodies: list[bytes] = field(default_factory=list)


@pytest.fixture
def web() -> Iterator[Heard]:
    """A web server of this machine."""
    heard = Heard()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.headers = dict(self.headers)
            heard.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(heard.status)
            self.send_header("Location", f"http://127.0.0.1:{heard.port}/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        heard.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield heard
        server.shutdown()


@pytest.fixture
def post() -> Iterator[Heard]:
    """A mail server of this machine: as much of SMTP as one message takes."""
    heard = Heard(status=250)

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 here\r\n")
            for line in self.rfile:
                command = line.decode().split()[0].upper()
                if command == "DATA":
                    self.wfile.write(b"354 go on\r\n")
                    lines = []
                    while (line := self.rfile.readline()) != b".\r\n":
                        lines.append(line)
                    heard.bodies.append(b"".join(lines))
                if command == "RCPT" and heard.status != 250:
                    self.wfile.write(f"{heard.status} no such person\r\n".encode())
                elif command == "QUIT":
                    self.wfile.write(b"221 bye\r\n")
                    return
                else:
                    self.wfile.write(b"250 well\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        heard.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield heard
        server.shutdown()


def _mail(port: int) -> NotificationSettings:
    return NotificationSettings(
        mail_to=["adler@ward.example", "berg@ward.example"], mail_from="medvl@ward.example", smtp_host="127.0.0.1", smtp_port=port,
        smtp_security="none",
    )  # fmt: skip


def test_a_webhook_gets_names_and_the_token_of_the_environment(web: Heard):
    told = send(NOTICE, NotificationSettings(webhook=f"http://127.0.0.1:{web.port}/hook"), {"MEDVL_WEBHOOK_TOKEN": "t0k3n"})
    assert told == (("webhook",), ())
    said = json.loads(web.bodies[0])
    assert (said["kind"], said["run_id"], said["checks"], said["text"]) == ("run_failed", "0123", list(NOTICE.checks), in_words(NOTICE))
    assert (web.headers["Authorization"], web.headers["Content-Type"]) == ("Bearer t0k3n", "application/json")


def test_the_address_of_a_webhook_may_be_a_secret(web: Heard):
    send(NOTICE, NotificationSettings(webhook="environment"), {"MEDVL_WEBHOOK_URL": f"http://127.0.0.1:{web.port}/s3cret"})
    assert len(web.bodies) == 1
    with pytest.raises(MedVLError, match="no address of a webhook"):
        send(NOTICE, NotificationSettings(webhook="environment"), {})


@pytest.mark.parametrize("status", [500, 302])
def test_a_webhook_that_takes_no_notice_is_an_error_without_its_address(web: Heard, status: int):
    web.status = status
    with pytest.raises(MedVLError) as raised:
        send(NOTICE, NotificationSettings(webhook="environment"), {"MEDVL_WEBHOOK_URL": f"http://127.0.0.1:{web.port}/s3cret"})
    assert raised.value.found == f"the webhook took no notice (status {status})"
    assert "s3cret" not in str(raised.value)
    assert len(web.bodies) == 1  # and no token went to where a redirect leads


def test_an_e_mail_goes_to_everyone_and_says_the_same(post: Heard):
    told = send(NOTICE, _mail(post.port), {"MEDVL_SMTP_USER": "u", "MEDVL_SMTP_PASSWORD": "p"})  # no password in the clear
    assert told == (("e-mail to 2",), ())
    text = post.bodies[0].decode()
    assert "Subject: MedVL: a run of documents failed" in text
    assert "adler@ward.example, berg@ward.example" in text
    assert in_words(NOTICE).replace("\n", "\r\n") in text


def test_a_mail_server_that_refuses_is_an_error_without_its_words(post: Heard):
    post.status = 550
    with pytest.raises(MedVLError) as raised:
        send(NOTICE, _mail(post.port), {})
    assert raised.value.found == "the mail server took no notice (SMTPRecipientsRefused)"
    assert "no such person" not in str(raised.value)


def test_a_webhook_that_is_down_keeps_no_e_mail_back(web: Heard, post: Heard):
    web.status = 500
    both = _mail(post.port).model_copy(update={"webhook": f"http://127.0.0.1:{web.port}/hook"})
    told = send(NOTICE, both, {})
    assert told.how == ("e-mail to 2",)
    assert [said.split(" (")[0] for said in told.failures] == ["found: the webhook took no notice"]
    assert len(post.bodies) == 1


def test_a_mail_server_that_is_down_is_said_and_the_webhook_counts(web: Heard, post: Heard):
    post.status = 550
    told = send(NOTICE, _mail(post.port).model_copy(update={"webhook": f"http://127.0.0.1:{web.port}/hook"}), {})
    assert told.how == ("webhook",)
    assert [said.split(" (")[0] for said in told.failures] == ["found: the mail server took no notice"]


def test_a_token_that_no_header_takes_keeps_no_e_mail_back_and_stands_in_no_error(web: Heard, post: Heard):
    both = _mail(post.port).model_copy(update={"webhook": f"http://127.0.0.1:{web.port}/hook"})
    told = send(NOTICE, both, {"MEDVL_WEBHOOK_TOKEN": "s3cret\n"})
    assert told.how == ("e-mail to 2",)
    assert "s3cret" not in "".join(told.failures)


def test_where_nobody_could_be_told_every_reason_is_named(web: Heard, post: Heard):
    web.status, post.status = 500, 550
    with pytest.raises(MedVLError) as raised:
        send(NOTICE, _mail(post.port).model_copy(update={"webhook": f"http://127.0.0.1:{web.port}/hook"}), {})
    assert raised.value.found == ("the webhook took no notice (status 500); the mail server took no notice (SMTPRecipientsRefused)")


def test_nobody_named_is_nobody_told():
    assert send(NOTICE, NotificationSettings(), {}) == ((), ())


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        (NotificationSettings(mail_to=["a@b.example"]), "mail_to = ['a@b.example'], smtp_host = '', mail_from = ''"),
        (NotificationSettings(webhook="hook.example"), "webhook = 'hook.example'"),
        (NotificationSettings(webhook="https://u:p@hook.example"), "a webhook whose address has a user or a query in it: a secret"),
        (NotificationSettings(webhook="https://hook.example/?key=1"), "a webhook whose address has a user or a query in it: a secret"),
    ],
)
def test_half_an_e_mail_and_a_secret_in_the_file_are_refused(settings: NotificationSettings, found: str):
    with pytest.raises(SettingsError) as raised:
        require_meant(settings)
    assert raised.value.found == found
