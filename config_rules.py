"""What settings must be besides readable: rules about values, and about values together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from limits.util import parse_many

if TYPE_CHECKING:
    from config import Config

_WEAKEST_KEY = 32
#: Bound of the numbers of a rate: over thirty years.
_MOST = 10**9
_SCHEMES = {
    "database_url": ("sqlite", "mysql", "mysql+pymysql", "mariadb", "mariadb+pymysql"),
    "mqtt_url": ("mqtt", "mqtts"),
    "mail_url": ("smtp", "smtps"),
    "public_url": ("http", "https"),
    "rate_limit_url": ("redis", "rediss"),
}
CONSOLE = "console:"
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_MAILBOX = rf"{_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})*"
_SENDER = re.compile(rf"{_MAILBOX}|[^\x00-\x1f\x7f-\x9f<>\"(),:;@\\]+ <{_MAILBOX}>")


def unsafe(config: Config) -> Iterator[tuple[str, str]]:
    """What is wrong with settings that can be read: name and problem, never the value."""
    for name, schemes in _SCHEMES.items():
        value = getattr(config, name)
        if not value or (name == "mail_url" and value == CONSOLE):
            continue
        if value.partition("://")[0] not in schemes:
            yield name, "must be a URL that starts with " + " or ".join(f"{s}://" for s in schemes)
        elif not _has_address(value):
            yield name, "must be a URL with a host and, if any, a port from 1 to 65535"
        elif name == "rate_limit_url" and "?" in value:
            # Options there would go before the shop's own, such as how long it waits.
            yield name, "must be a URL without options (no ?)"
    try:
        ZoneInfo(config.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        yield "timezone", "must be an IANA time zone such as Europe/Berlin"
    if not re.fullmatch("[A-Z]{3}", config.currency):
        yield "currency", "must be an ISO 4217 code such as EUR"
    if config.jobs_ping_url and not _is_ping_url(config.jobs_ping_url):
        yield (
            "jobs_ping_url",
            "must start with https:// or http://, have {job} once in its path, and no query",
        )
    if not config.mqtt_topic or set(config.mqtt_topic) & set("+#\0"):
        yield "mqtt_topic", "must not be empty and must not contain + or #"
    for item in fields(config):
        if item.name.startswith("limit_") and not _is_rate(getattr(config, item.name)):
            yield item.name, "must be one rate such as 10 per 15 minutes"
    yield from _unsafe_secrets(config)
    yield from _unsafe_mail(config)
    # The shop imports the settings when it is loaded, so they look at it only here.
    from shop.crashes import unsafe

    yield from unsafe(config.crash_at, config.env)
    if config.production:
        yield from _unsafe_in_production(config)


def _has_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme == "sqlite" or bool(parts.hostname and parts.port != 0)
    except ValueError:
        return False


def _is_ping_url(url: str) -> bool:
    parts = r"https?://[^\s{}?#@/]+/[^\s{}?#]*\{job\}[^\s{}?#]*"
    return bool(re.fullmatch(parts, url)) and _has_address(url)


def _is_rate(text: str) -> bool:
    try:
        rates = parse_many(text)
    except ValueError:
        return False
    # Nought would lock everybody out, where it is rather meant to let everybody in.
    return len(rates) == 1 and 0 < rates[0].amount < _MOST and rates[0].get_expiry() < _MOST


def _unsafe_secrets(config: Config) -> Iterator[tuple[str, str]]:
    for name in ("secret_key", "payment_test_secret"):
        value = getattr(config, name)
        if value and len(value.encode()) < _WEAKEST_KEY:
            yield name, f"must have {_WEAKEST_KEY} bytes or more"


def _unsafe_mail(config: Config) -> Iterator[tuple[str, str]]:
    if not _SENDER.fullmatch(config.mail_from):
        yield "mail_from", "must be like shop@example.com or Oak Shop <shop@example.com>"
    if _has_address(config.mail_url) and not _is_mail_server(config.mail_url):
        yield (
            "mail_url",
            "must have a user and a password or neither, in ASCII, and after the port nothing "
            "but ?starttls=on or ?starttls=off (smtp:// only)",
        )
    if _has_address(config.public_url) and not re.fullmatch(r"[^\s?#@]+", config.public_url):
        yield "public_url", "must have no user, query, fragment or space"


def _is_mail_server(url: str) -> bool:
    parts = urlsplit(url)
    options = ("",) if parts.scheme == "smtps" else ("", "starttls=on", "starttls=off")
    return (
        bool(parts.username) == bool(parts.password)
        and parts.path in ("", "/")
        and parts.query in options
        and not parts.fragment
        and unquote(parts.netloc).isascii()
    )


def _unsafe_in_production(config: Config) -> Iterator[tuple[str, str]]:
    if not config.secret_key:
        yield "secret_key", f"is required in production: {_WEAKEST_KEY} random bytes or more"
    elif len(config.secret_key) >= _WEAKEST_KEY and len(set(config.secret_key)) < 10:
        yield "secret_key", "is too simple for production: make it from random bytes"
    if not config.database_url:
        yield "database_url", "is required in production"
    if "mqtt" in config.active_sinks and not config.mqtt_url:
        yield "mqtt_url", "is required in production while `mqtt` is among SHOP_SINKS"
    if "test" in config.payment_providers:
        yield "payment_providers", "must not have `test` in production: it moves no money"
    if "*" in config.cors_origins:
        yield "cors_origins", "must name its origins in production"
    if config.mail_url == CONSOLE:
        yield "mail_url", "must be a mail server, or empty, in production"
    elif config.mail_url and config.mail_from.endswith(("@localhost", "@localhost>")):
        yield "mail_from", "is required in production with a mail server"
    if config.public_url.startswith("http://"):
        yield "public_url", "must start with https:// in production"
