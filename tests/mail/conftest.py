"""Fixtures: a mail server, and what was logged."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from flask import Flask

from tests.mail.servers import MailServer


@pytest.fixture
def server() -> Iterator[MailServer]:
    """A mail server that takes everything."""
    with MailServer() as server:
        yield server


@pytest.fixture
def logged(app: Flask) -> Iterator[list[str]]:
    """Every record of the shop's since the test began, with its traceback."""
    lines: list[str] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            # aiosmtpd, which is the other side, tells what it is sent.
            if not record.name.startswith("mail.log"):
                lines.append(self.format(record))

    # Making an app replaces the handlers: after it.
    keeper = Keeper()
    logging.getLogger().addHandler(keeper)
    yield lines
    logging.getLogger().removeHandler(keeper)
