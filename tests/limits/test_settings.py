"""Rates that cannot be meant are refused when the shop starts."""

from __future__ import annotations

from dataclasses import fields

import pytest
from limits import parse

from config import Config, ConfigError, variable

LIMITS = [item.name for item in fields(Config) if item.name.startswith("limit_")]


def complaints(monkeypatch: pytest.MonkeyPatch, **values: str) -> list[str]:
    """The lines that name what is wrong with these settings."""
    for name, value in values.items():
        monkeypatch.setenv(variable(name), value)
    try:
        Config.from_env()
    except ConfigError as error:
        return str(error).splitlines()[1:]
    return []


def test_every_default_is_a_rate() -> None:
    assert LIMITS
    for name in LIMITS:
        assert parse(getattr(Config(), name)).amount > 0


@pytest.mark.parametrize("name", LIMITS)
def test_each_limit_must_be_a_rate(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    [line] = complaints(monkeypatch, **{name: "canary"})

    assert line.strip().startswith(f"{variable(name)}: must be one rate such as ")
    assert "canary" not in line


@pytest.mark.parametrize(
    "rate",
    [
        "", "10", "ten per minute", "10 per 15 parsecs", "-1 per minute", "1.5 per minute",
        "0 per minute", "10 per minute; 100 per hour", "10/minute,", "1 per 99999999999 years",
        f"{10**9} per minute", f"{'9' * 5000} per minute",
    ],
)  # fmt: skip
def test_what_is_not_one_sensible_rate_is_refused(
    monkeypatch: pytest.MonkeyPatch, rate: str
) -> None:
    assert len(complaints(monkeypatch, limit_register=rate)) == 1


@pytest.mark.parametrize("rate", ["1/second", "10 per 15 minutes", "3 PER 2 Hours", "5 per day"])
def test_every_usual_way_to_write_a_rate_is_taken(
    monkeypatch: pytest.MonkeyPatch, rate: str
) -> None:
    assert complaints(monkeypatch, limit_register=rate) == []


@pytest.mark.parametrize(
    "url",
    ["http://canary:6379", "canary:6379", "memcached://canary", "redis://", "redis://h:canary",
     "redis+unix:///canary", "redis:canary", "redis://h?socket_timeout=canary",
     "redis://h:6379/0?canary=1", "redis://h/?"],
)  # fmt: skip
def test_counters_live_at_a_redis_server_or_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    [line] = complaints(monkeypatch, rate_limit_url=url)

    assert line.strip().startswith("SHOP_RATE_LIMIT_URL: ")
    assert "canary" not in line


@pytest.mark.parametrize("url", ["", "redis://r.example", "rediss://:word@r.example:6380/1"])
def test_a_redis_server_is_taken(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    assert complaints(monkeypatch, rate_limit_url=url) == []
