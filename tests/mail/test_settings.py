"""Settings of mail: what would fail later, or be unsafe, is refused at the start."""

from __future__ import annotations

import pytest

from config import Config, ConfigError

PRODUCTION = {
    "SHOP_ENV": "production",
    "SHOP_SECRET_KEY": "0123456789abcdefghijklmnopqrstuvwxyz",
    "SHOP_DATABASE_URL": "mysql://shop:word@db.example/shop",
    "SHOP_MQTT_URL": "mqtts://broker.example",
    "SHOP_MAIL_URL": "smtp://shop:word@mail.example",
    "SHOP_MAIL_FROM": "shop@oak.example",
}


def refused(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> list[str]:
    """Names of the settings that are refused."""
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    text = ""
    try:
        Config.from_env()
    except ConfigError as error:
        text = str(error)
    assert "canary" not in text
    return [line.strip().partition(":")[0] for line in text.splitlines()[1:]]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SHOP_MAIL_URL", ""),
        ("SHOP_MAIL_URL", "console:"),
        ("SHOP_MAIL_URL", "smtp://localhost"),
        ("SHOP_MAIL_URL", "smtp://localhost/"),
        ("SHOP_MAIL_URL", "smtp://mail.example:25?starttls=on"),
        ("SHOP_MAIL_URL", "smtp://us%40er:p%23ss@mail.example:25?starttls=off"),
        ("SHOP_MAIL_URL", "smtps://user:pass@[::1]:465"),
        ("SHOP_MAIL_FROM", "shop@localhost"),
        ("SHOP_MAIL_FROM", "shop.mail+x@oak.example"),
        ("SHOP_MAIL_FROM", "Dr. Möbel & Öl <shop@oak.example>"),
        ("SHOP_PUBLIC_URL", ""),
        ("SHOP_PUBLIC_URL", "http://localhost:3000"),
        ("SHOP_PUBLIC_URL", "https://oak.example/shop/"),
    ],
)
def test_a_good_setting_is_accepted(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    assert refused(monkeypatch, {name: value}) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SHOP_MAIL_URL", "canary"),
        ("SHOP_MAIL_URL", "console"),
        ("SHOP_MAIL_URL", "console://canary"),
        ("SHOP_MAIL_URL", "console:canary"),
        ("SHOP_MAIL_URL", "http://canary"),
        ("SHOP_MAIL_URL", "smtp://"),
        ("SHOP_MAIL_URL", "smtp://mail.example:canary"),
        ("SHOP_MAIL_URL", "smtp://canary@mail.example"),
        ("SHOP_MAIL_URL", "smtp://:canary@mail.example"),
        ("SHOP_MAIL_URL", "smtp://user:canary%C3%A9@mail.example"),
        ("SHOP_MAIL_URL", "smtp://mail.example/canary"),
        ("SHOP_MAIL_URL", "smtp://mail.example?starttls=canary"),
        ("SHOP_MAIL_URL", "smtp://mail.example?canary=on"),
        ("SHOP_MAIL_URL", "smtp://mail.example#canary"),
        ("SHOP_MAIL_URL", "smtps://mail.example?starttls=off"),
        ("SHOP_MAIL_FROM", ""),
        ("SHOP_MAIL_FROM", "canary"),
        ("SHOP_MAIL_FROM", "canary@"),
        ("SHOP_MAIL_FROM", "can..ary@oak.example"),
        ("SHOP_MAIL_FROM", "canary@oak..example"),
        ("SHOP_MAIL_FROM", "canary@oak.example, eve@oak.example"),
        ("SHOP_MAIL_FROM", "a@oak.example\r\nBcc: canary@oak.example"),
        ("SHOP_MAIL_FROM", "Shop\nBcc: canary <shop@oak.example>"),
        ("SHOP_MAIL_FROM", "canäry@oak.example"),
        ("SHOP_PUBLIC_URL", "canary"),
        ("SHOP_PUBLIC_URL", "ftp://canary.example"),
        ("SHOP_PUBLIC_URL", "https://oak.example/?canary"),
        ("SHOP_PUBLIC_URL", "https://oak.example/#canary"),
        ("SHOP_PUBLIC_URL", "https://user:canary@oak.example"),
        ("SHOP_PUBLIC_URL", "https://oak.example/can ary"),
    ],
)
def test_a_setting_that_would_fail_later_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    assert refused(monkeypatch, {name: value}) == [name]


@pytest.mark.parametrize(
    ("changes", "bad"),
    [
        ({}, []),
        ({"SHOP_MAIL_URL": "", "SHOP_MAIL_FROM": "shop@localhost"}, []),
        ({"SHOP_MAIL_URL": "console:"}, ["SHOP_MAIL_URL"]),
        ({"SHOP_MAIL_FROM": "shop@localhost"}, ["SHOP_MAIL_FROM"]),
        ({"SHOP_MAIL_FROM": "Shop <shop@localhost>"}, ["SHOP_MAIL_FROM"]),
        ({"SHOP_PUBLIC_URL": "https://oak.example"}, []),
        ({"SHOP_PUBLIC_URL": "http://oak.example"}, ["SHOP_PUBLIC_URL"]),
    ],
)
def test_production_sends_real_mail_with_safe_links(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], bad: list[str]
) -> None:
    assert refused(monkeypatch, PRODUCTION | changes) == bad
