"""The way to the mail server: signed in, encrypted, to the right mailbox, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from shop.mail import transport
from shop.mail.letters import Letter
from shop.mail.transport import MailRefused, ServerDown, SmtpBackend
from tests.mail.servers import MailServer, certificate

SENDER = "shop@oak.example"


def letter(**changes: str) -> Letter:
    made = {
        "recipient": "ann@example.com",
        "subject": "Grüße",
        "text": "Schöne Grüße,\n.\nFrom c0de=\n",
        "html": "<p>Schöne Grüße</p>",
        "message_id": "<mail-1@oak.example>",
    }
    return Letter(**made | changes)


def send(url: str, sender: str = SENDER, **changes: str) -> None:
    app = Flask("mail")
    transport.register(app, url, sender)
    with app.app_context():
        transport.send(letter(**changes))


def signed_in(server: MailServer, scheme: str = "smtp", options: str = "") -> str:
    return server.url.replace("smtp://", f"{scheme}://shop%40oak:r%2Fght@") + options


def test_text_arrives_as_it_was_written_in_seven_bits(server: MailServer) -> None:
    send(server.url)

    (message,) = server.messages
    text, html = message.iter_parts()
    assert message["Subject"] == "Grüße"
    assert text.get_content().splitlines() == ["Schöne Grüße,", ".", "From c0de="]
    assert html.get_content().strip() == "<p>Schöne Grüße</p>"
    content = server.envelopes[0].content
    assert isinstance(content, bytes)
    assert content.isascii()


def test_the_sender_may_have_a_name(server: MailServer) -> None:
    send(server.url, sender="Dr. Möbel Öl <shop@oak.example>")

    (sender,) = server.messages[0]["From"].addresses
    assert (sender.display_name, sender.addr_spec) == ("Dr. Möbel Öl", "shop@oak.example")
    assert server.envelopes[0].mail_from == "shop@oak.example"


def test_a_domain_outside_ascii_is_written_to_in_ascii(server: MailServer) -> None:
    send(server.url, recipient="ann@bücher.example")

    assert server.recipients == ["ann@xn--bcher-kva.example"]


@pytest.mark.parametrize(
    "recipient",
    [
        "josé@example.com",
        "=?utf-8?q?eve=40evil.example=3e?=@example.com",
        "ann@example.com\r\nRCPT TO:<eve@example.com>",
        "ann@example.com, eve@example.com",
        "Ann <ann@example.com>",
        "ann@example.com>",
        "ann",
        "",
    ],
)
def test_what_is_no_address_is_not_written_to(server: MailServer, recipient: str) -> None:
    with pytest.raises(MailRefused) as caught:
        send(server.url, recipient=recipient)

    assert caught.value.for_good
    assert server.envelopes == []


@pytest.mark.parametrize("field", ["subject", "message_id"])
def test_a_header_cannot_be_given_a_second_line(server: MailServer, field: str) -> None:
    with pytest.raises(ValueError, match="newlines"):
        send(server.url, **{field: "Hello\r\nBcc: eve@example.com"})

    assert server.envelopes == []


def test_the_password_is_decoded_and_goes_through_tls_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, trusted = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    with MailServer(tls_context=context) as server:
        server.password = b"r/ght"
        send(signed_in(server))

    assert server.encrypted == [True]
    assert server.logins == [(b"shop@oak", b"r/ght")]
    assert len(server.messages) == 1


def test_starttls_can_be_asked_for_without_a_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, trusted = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    with MailServer(tls_context=context) as server:
        send(server.url + "?starttls=on")
        send(server.url)

    assert server.encrypted == [True, False]


def test_smtps_is_encrypted_from_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, trusted = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    with MailServer(ssl_context=context, auth_require_tls=False) as server:
        server.password = b"r/ght"
        send(signed_in(server, "smtps"))

    assert len(server.messages) == 1
    assert server.logins == [(b"shop@oak", b"r/ght")]


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_a_server_that_cannot_prove_its_name_learns_nothing(tmp_path: Path, scheme: str) -> None:
    context, _ = certificate(tmp_path)
    how: dict[str, Any] = {"ssl_context" if scheme == "smtps" else "tls_context": context}
    with (
        MailServer(auth_require_tls=False, **how) as server,
        pytest.raises(ServerDown, match=r"^SSLCertVerificationError: .*self-signed"),
    ):
        send(signed_in(server, scheme))

    assert server.logins == []
    assert server.envelopes == []


def test_a_password_is_not_sent_to_a_server_that_does_not_encrypt() -> None:
    with (
        MailServer(auth_require_tls=False) as server,
        pytest.raises(ServerDown, match="STARTTLS extension not supported"),
    ):
        send(signed_in(server))

    assert server.logins == []


def test_what_was_taken_is_sent_however_the_server_says_goodbye(server: MailServer) -> None:
    server.answers["QUIT"] = ["221 " + "x" * 9000]

    send(server.url)

    assert len(server.messages) == 1


def test_the_console_shows_what_would_have_been_sent(capsys: pytest.CaptureFixture[str]) -> None:
    send("console:")

    shown = capsys.readouterr().out
    assert "To: ann@example.com" in shown
    assert "Schöne Grüße," in shown
    assert "c0de=" in shown, "a link can be copied"


@pytest.mark.parametrize(
    ("url", "port", "implicit", "starttls"),
    [
        ("smtp://mail.example", 25, False, False),
        ("smtp://mail.example?starttls=on", 587, False, True),
        ("smtp://u:p@mail.example", 587, False, True),
        ("smtp://u:p@mail.example/?starttls=off", 25, False, False),
        ("smtp://u:p@mail.example:2525", 2525, False, True),
        ("smtps://u:p@mail.example", 465, True, False),
        ("smtps://u:p@[::1]:4465", 4465, True, False),
    ],
)
def test_what_the_url_leaves_out_is_the_usual(
    url: str, port: int, implicit: bool, starttls: bool
) -> None:
    app = Flask("mail")

    transport.register(app, url, SENDER)

    made = app.extensions["mailman"]
    assert (made.port, made.use_ssl, made.use_tls) == (port, implicit, starttls)
    assert made.server == ("::1" if "[" in url else "mail.example")
    assert made.timeout == 10
    assert made.backend is SmtpBackend
