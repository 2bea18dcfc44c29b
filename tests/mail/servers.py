"""A private SMTP server that keeps what it takes, and refuses what it is told to."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Self, cast

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.servers import HOST, free_port


class MailServer:
    """An SMTP server on a port of its own, in a thread of the test run.

    `answers["RCPT"]` (or MAIL, DATA, QUIT) are the next answers to that command, one for each;
    without any it takes everything. `options` are those of aiosmtpd.
    """

    def __init__(self, **options: Any) -> None:
        self.port = free_port()
        self.answers: dict[str, list[str]] = defaultdict(list)
        self.envelopes: list[Envelope] = []
        self.logins: list[tuple[bytes, bytes]] = []
        self.password = b"right"
        self.encrypted: list[bool] = []
        self._options = options
        self._controller: Controller | None = None

    @property
    def url(self) -> str:
        """What goes into SHOP_MAIL_URL."""
        return f"smtp://{HOST}:{self.port}"

    @property
    def messages(self) -> list[EmailMessage]:
        """What it took, parsed."""
        contents = [cast(bytes, envelope.content) for envelope in self.envelopes]
        return [message_from_bytes(content, policy=policy.default) for content in contents]

    @property
    def recipients(self) -> list[str]:
        """To whom, one for each mail."""
        return [recipient for envelope in self.envelopes for recipient in envelope.rcpt_tos]

    def start(self) -> None:
        """Listen; mail that was taken before is still there."""
        options = {"authenticator": self._authenticate} | self._options
        controller = Controller(_Handler(self), hostname=HOST, port=self.port, **options)
        controller.start()
        self._controller = controller

    def stop(self) -> None:
        """Go away."""
        if self._controller is not None:
            self._controller.stop()
            self._controller = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def _authenticate(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _how: str, data: Any
    ) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.logins.append((data.login, data.password))
        return AuthResult(success=data.password == self.password, handled=False)


class _Handler:
    def __init__(self, server: MailServer) -> None:
        self._server = server

    def _answer(self, command: str) -> str | None:
        answers = self._server.answers[command]
        return answers.pop(0) if answers else None

    async def handle_MAIL(  # noqa: N802 (aiosmtpd looks for this name)
        self, _server: SMTP, session: Session, envelope: Envelope, sender: str, _options: list[str]
    ) -> str:
        self._server.encrypted.append(session.ssl is not None)
        envelope.mail_from = sender
        return self._answer("MAIL") or "250 OK"

    async def handle_RCPT(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope, to: str, _options: list[str]
    ) -> str:
        if answer := self._answer("RCPT"):
            return answer
        envelope.rcpt_tos.append(to)
        return "250 OK"

    async def handle_DATA(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        if answer := self._answer("DATA"):
            return answer
        self._server.envelopes.append(envelope)
        return "250 OK"

    async def handle_QUIT(  # noqa: N802
        self, _server: SMTP, _session: Session, _envelope: Envelope
    ) -> str:
        return self._answer("QUIT") or "221 Bye"


@contextmanager
def silent_server() -> Iterator[str]:
    """The URL of a server that takes connections and never says a word."""
    with socket.create_server((HOST, 0)) as listening:
        yield f"smtp://{HOST}:{listening.getsockname()[1]}"


def certificate(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's TLS with a fresh certificate of its own for our address; the certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail under test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    shown, kept = folder / "certificate.pem", folder / "key.pem"
    shown.write_bytes(made.public_bytes(pem))
    kept.write_bytes(
        key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(shown, kept)
    return context, shown
