"""The way to the mail server: Flask-Mailman, set up from one URL.

`smtp://user:password@host:587` (STARTTLS when there is a password; `?starttls=on` or `off` says
otherwise), `smtps://...:465` (TLS from the start), `console:` (prints). Certificates are checked.
"""

from __future__ import annotations

import contextlib
import re
import smtplib
import ssl
from email.charset import QP, Charset
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from email_validator import EmailNotValidError, validate_email
from flask import Flask, current_app
from flask_mailman import EmailMultiAlternatives, Mail
from flask_mailman.backends.smtp import EmailBackend

from shop.mail.letters import Letter

#: Longest wait for a connection to, or an answer of, the mail server.
_ANSWER_SECONDS = 10
_ENHANCED_CODE = re.compile(rb"[245]\.\d{1,3}\.\d{1,3}(?!\S)")
#: Seven-bit mail: not every server on the way takes anything else.
_QUOTED = Charset("utf-8")
_QUOTED.body_encoding = QP


class ServerDown(Exception):
    """The mail server cannot be used just now, by any mail; the text says why."""


class MailRefused(Exception):
    """This mail cannot be sent, now or (`for_good`) ever; the text says why, and nothing of it."""

    def __init__(self, why: str, *, for_good: bool = False) -> None:
        super().__init__(why)
        self.for_good = for_good


class _Smtp(smtplib.SMTP):
    """STARTTLS that checks the certificate: left to itself, smtplib takes any."""

    def starttls(self, *_args: Any, **_options: Any) -> tuple[int, bytes]:
        return super().starttls(context=ssl.create_default_context())


class SmtpBackend(EmailBackend):
    """Flask-Mailman's SMTP with certificates that are checked."""

    @property
    def connection_class(self) -> type[smtplib.SMTP]:
        return smtplib.SMTP_SSL if self.use_ssl else _Smtp


def register(app: Flask, url: str, sender: str) -> None:
    """Have `send` use the server behind the URL, which the settings have checked."""
    app.config.update(_settings(url), MAIL_DEFAULT_SENDER=sender, MAIL_TIMEOUT=_ANSWER_SECONDS)
    Mail(app)


def send(letter: Letter) -> None:
    """Hand a letter to the mail server; needs an application context.

    Raises:
        MailRefused: the server, or the way mail works, is against this letter.
        ServerDown: it was not reached, broke off, was silent for 10 seconds, or does not want us.
    """
    message = EmailMultiAlternatives(
        letter.subject,
        letter.text,
        to=[_deliverable(letter.recipient)],
        headers={"Message-ID": letter.message_id, "Auto-Submitted": "auto-generated"},
    )
    message.attach_alternative(letter.html, "text/html")
    server = current_app.extensions["mailman"].get_connection()
    try:
        server.open()
        server.send_messages([message])
    except smtplib.SMTPRecipientsRefused as error:
        ((code, text),) = error.recipients.values()
        raise _refused("recipient", code, text) from error
    except smtplib.SMTPDataError as error:
        raise _refused("content", error.smtp_code, error.smtp_error) from error
    except OSError as error:
        raise ServerDown(_why(error)) from error
    finally:
        # What was taken is sent, however the goodbye goes.
        with contextlib.suppress(OSError):
            server.close()


def _settings(url: str) -> dict[str, Any]:
    if url == "console:":
        return {"MAIL_BACKEND": "console"}
    parts = urlsplit(url)
    encrypted = parts.scheme == "smtps"
    wish = parse_qs(parts.query).get("starttls", ["on" if parts.password else "off"])
    starttls = not encrypted and wish == ["on"]
    return {
        "MAIL_BACKEND": SmtpBackend,
        "MAIL_SERVER": parts.hostname,
        "MAIL_PORT": parts.port or (465 if encrypted else 587 if starttls else 25),
        "MAIL_USERNAME": unquote(parts.username or ""),
        "MAIL_PASSWORD": unquote(parts.password or ""),
        "MAIL_USE_SSL": encrypted,
        "MAIL_USE_TLS": starttls,
        "MAIL_DEFAULT_CHARSET": _QUOTED,
    }


def _deliverable(address: str) -> str:
    """The address as SMTP takes it: its domain in ASCII."""
    try:
        found = validate_email(address, check_deliverability=False, test_environment=True)
    except EmailNotValidError as error:
        raise MailRefused("no mail can be sent to this address", for_good=True) from error
    # There is no ASCII for what stands before the @; and "=?" begins what Flask-Mailman would
    # decode, to write to somebody else.
    if found.ascii_email is None or "=?" in found.ascii_email:
        raise MailRefused("no mail can be sent to this address", for_good=True)
    return found.ascii_email


def _refused(what: str, code: int, text: bytes | str) -> MailRefused:
    return MailRefused(f"{what} refused: {_codes(code, text)}", for_good=500 <= code < 600)


def _why(error: OSError) -> str:
    name = type(error).__name__
    if isinstance(error, smtplib.SMTPResponseException):
        return f"{name}: {_codes(error.smtp_code, error.smtp_error)}"
    return f"{name}: {error.strerror or error}"


def _codes(code: int, text: bytes | str) -> str:
    # Not the server's words: some repeat the address, or the link that they do not like.
    words = text if isinstance(text, bytes) else text.encode()
    found = _ENHANCED_CODE.match(words)
    return f"{code} {found[0].decode()}" if found else str(code)
