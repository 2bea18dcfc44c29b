"""Settings: what is wrong is said at once, by name, and without a value."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from config import Config, ConfigError, settings, variable
from tests.servers import free_port

ROOT = Path(__file__).parent.parent
KEY = "0123456789abcdefghijklmnopqrstuvwxyz"
PRODUCTION = {
    "SHOP_ENV": "production",
    "SHOP_SECRET_KEY": KEY,
    "SHOP_DATABASE_URL": "mysql://shop:word@db.example/shop",
    "SHOP_MQTT_URL": "mqtts://broker.example",
}
#: A wrong value of each setting for which not every value is right.
WRONG = {
    "SHOP_ENV": "canary",
    "SHOP_DATABASE_URL": "canary://user:canary@host/canary",
    "SHOP_DATABASE_SECONDS": "canary",
    "SHOP_THREADS": "0",
    "SHOP_WORKERS": "65",
    "SHOP_SECRET_KEY": "canary",
    "SHOP_MQTT_URL": "http://canary:canary@host",
    "SHOP_MQTT_PORT": "65536",
    "SHOP_MQTT_TOPIC": "canary/#",
    "SHOP_SINKS": "mqtt,canary",
    "SHOP_TIMEZONE": "Canary/Canary",
    "SHOP_CURRENCY": "canary",
    "SHOP_SCHEDULER": "canary",
    "SHOP_LEASE_SECONDS": "1",
    "SHOP_DRAIN_WINDOW": "1.5",
    "SHOP_DRAIN_BATCH": "",
    "SHOP_DRAIN_POLL_MILLISECONDS": "-5",
    "SHOP_ACCESS_TOKEN_SECONDS": "canary",
    "SHOP_REFRESH_TOKEN_SECONDS": "59",
    "SHOP_SESSION_SECONDS": "canary",
    "SHOP_IDEMPOTENCY_LEASE_SECONDS": "0",
    "SHOP_IDEMPOTENCY_KEPT_SECONDS": "canary",
    "SHOP_PASSWORD_HASHES": "0",
    "SHOP_WAITING_THREADS": "3",
    "SHOP_RATE_LIMITS": "canary",
    "SHOP_RATE_LIMIT_URL": "http://canary:canary@host",
    "SHOP_LIMIT_SIGN_IN_ACCOUNT": "canary",
    "SHOP_LIMIT_SIGN_IN_ADDRESS": "0 per hour",
    "SHOP_LIMIT_REGISTER": "5",
    "SHOP_LIMIT_MAIL_ADDRESS": "5 per canary",
    "SHOP_LIMIT_MAIL_RECIPIENT": "-5 per hour",
    "SHOP_LIMIT_TOKEN_GUESSES": "5 per hour; 6 per day",
    "SHOP_MAIL_URL": "http://canary",
    "SHOP_MAIL_FROM": "canary",
    "SHOP_PUBLIC_URL": "ftp://canary.example",
    "SHOP_MAX_BODY_BYTES": "1e6",
    "SHOP_TRUSTED_PROXIES": "-1",
    "SHOP_EXPOSE": "canary",
    "SHOP_CRASH_AT": "canary",
    "SHOP_LOG_FORMAT": "canary",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets variables for the time of the test."""

    def set_all(values: dict[str, str], **more: str) -> None:
        for name, value in (values | more).items():
            monkeypatch.setenv(name, value)

    return set_all


def complaints() -> str:
    """What the settings of the environment are refused with."""
    with pytest.raises(ConfigError) as caught:
        Config.from_env()
    return str(caught.value)


def named(text: str) -> list[str]:
    """The settings that the refusal names, one a line."""
    return [line.strip().partition(":")[0] for line in text.splitlines()[1:]]


def test_without_any_variable_the_shop_has_its_defaults() -> None:
    assert Config.from_env() == Config()


def test_every_wrong_setting_is_named_at_once_and_no_value_is_shown(environment: Any) -> None:
    environment(WRONG)

    text = complaints()

    assert named(text) == sorted(WRONG)
    assert "canary" not in text.lower()
    assert "65536" not in text


@pytest.mark.parametrize("name", sorted(WRONG))
def test_each_wrong_setting_alone_is_named_alone(environment: Any, name: str) -> None:
    environment({name: WRONG[name]})

    assert named(complaints()) == [name]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SHOP_DATABASE_URL", "mysql://u:canary@host:canary/x"),
        ("SHOP_DATABASE_URL", "mysql://u:canary@host:99999/x"),
        ("SHOP_DATABASE_URL", "mysql://"),
        ("SHOP_DATABASE_URL", "mysql:canary"),
        ("SHOP_DATABASE_URL", "postgresql://host/canary"),
        ("SHOP_DATABASE_URL", "mysql://[canary/x"),
        ("SHOP_MQTT_URL", "mqtt://:1883"),
        ("SHOP_MQTT_URL", "mqtt://u:canary@host:canary"),
        ("SHOP_MQTT_URL", "host:1883"),
        ("SHOP_TIMEZONE", "../../etc/passwd"),
        ("SHOP_TIMEZONE", "/etc/localtime"),
        ("SHOP_TIMEZONE", ""),
        ("SHOP_CURRENCY", "EURO"),
        ("SHOP_CURRENCY", "E1R"),
        ("SHOP_CURRENCY", "eur"),
        ("SHOP_THREADS", "4 workers"),
        ("SHOP_MQTT_TOPIC", ""),
    ],
)
def test_a_value_that_would_fail_later_is_refused_at_the_start(
    environment: Any, name: str, value: str
) -> None:
    environment({name: value})

    text = complaints()

    assert named(text) == [name]
    assert "canary" not in text


def test_a_good_production_is_accepted(environment: Any) -> None:
    environment(PRODUCTION)

    config = Config.from_env()

    assert config.production
    assert not config.serves_docs
    assert config.log_style == "json"


@pytest.mark.parametrize(
    ("changes", "bad"),
    [
        ({"SHOP_SECRET_KEY": ""}, ["SHOP_SECRET_KEY"]),
        ({"SHOP_SECRET_KEY": "x" * 31}, ["SHOP_SECRET_KEY"]),
        ({"SHOP_SECRET_KEY": "x" * 64}, ["SHOP_SECRET_KEY"]),
        ({"SHOP_SECRET_KEY": "changeme" * 8}, ["SHOP_SECRET_KEY"]),
        ({"SHOP_DATABASE_URL": ""}, ["SHOP_DATABASE_URL"]),
        ({"SHOP_MQTT_URL": ""}, ["SHOP_MQTT_URL"]),
        ({"SHOP_CORS_ORIGINS": "https://a.example,*"}, ["SHOP_CORS_ORIGINS"]),
        (
            dict.fromkeys(list(PRODUCTION)[1:], ""),
            ["SHOP_DATABASE_URL", "SHOP_MQTT_URL", "SHOP_SECRET_KEY"],
        ),
    ],
)
def test_production_refuses_what_is_missing_or_weak(
    environment: Any, changes: dict[str, str], bad: list[str]
) -> None:
    environment(PRODUCTION | changes)

    text = complaints()

    assert named(text) == bad
    assert "word" not in text
    assert "changeme" not in text


def test_production_needs_no_broker_when_there_is_no_sink(environment: Any) -> None:
    environment(PRODUCTION, SHOP_MQTT_URL="", SHOP_SINKS="none")

    assert Config.from_env().active_sinks == ()


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_value_can_stand_in_a_file(environment: Any, tmp_path: Path, ending: str) -> None:
    for name in ("SHOP_SECRET_KEY", "SHOP_DATABASE_URL"):
        (tmp_path / name).write_bytes((PRODUCTION[name] + ending).encode())
        environment({f"{name}_FILE": str(tmp_path / name)})
    environment({"SHOP_ENV": "production", "SHOP_MQTT_URL": PRODUCTION["SHOP_MQTT_URL"]})

    config = Config.from_env()

    assert (config.secret_key, config.database_url) == (KEY, PRODUCTION["SHOP_DATABASE_URL"])


@pytest.mark.parametrize("kind", ["missing", "folder", "binary"])
def test_a_file_that_cannot_be_read_is_named_beside_the_other_faults(
    environment: Any, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / kind
    if kind == "folder":
        path.mkdir()
    elif kind == "binary":
        path.write_bytes(b"\xff\xfe")
    environment({"SHOP_SECRET_KEY_FILE": str(path), "SHOP_THREADS": "x"})

    text = complaints()

    assert named(text) == ["SHOP_SECRET_KEY", "SHOP_THREADS"]
    assert str(path) not in text


def test_lists_are_given_with_commas_and_may_be_empty(environment: Any) -> None:
    environment({"SHOP_CORS_ORIGINS": "https://a.example,https://b.example", "SHOP_EXPOSE": ""})

    config = Config.from_env()

    assert config.cors_origins == ("https://a.example", "https://b.example")
    assert config.expose == ()


def test_development_makes_a_key_once_and_keeps_it_to_itself(tmp_path: Path) -> None:
    config = Config(var=tmp_path / "new")

    key = config.signing_key()

    assert len(key) >= 32
    assert config.signing_key() == key
    assert Config(var=tmp_path / "other").signing_key() != key
    assert (tmp_path / "new" / "secret_key").stat().st_mode & 0o777 == 0o600


def test_every_setting_explains_itself() -> None:
    rows = list(settings())

    assert len(rows) > 20
    for name, kind, _default, help in rows:
        assert name.startswith("SHOP_")
        assert kind
        assert help.endswith(".")
    assert variable("mqtt_url") in [row[0] for row in rows]


@pytest.mark.parametrize(
    "command",
    [
        ["gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"],
        ["gunicorn", "wsgi:app"],
        ["flask", "--app", "wsgi", "shop", "settings"],
        ["flask", "run"],
    ],
    ids=" ".join,
)
def test_a_production_with_a_weak_key_ends_at_once_and_says_why(
    tmp_path: Path, command: list[str]
) -> None:
    """AU-05."""
    program = Path(sys.executable).with_name(command[0])
    environment = os.environ | PRODUCTION | {"SHOP_SECRET_KEY": "canary", "SHOP_THREADS": "none"}
    environment |= {"SHOP_VAR": str(tmp_path), "PORT": str(free_port())}
    if command[:2] == ["gunicorn", "wsgi:app"]:
        command = [*command, "--bind", f"127.0.0.1:{environment['PORT']}", "--no-control-socket"]

    done = subprocess.run(
        [str(program), *command[1:]], cwd=ROOT, env=environment, capture_output=True, text=True,
        timeout=30,
    )  # fmt: skip

    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "SHOP_SECRET_KEY: " in said
    assert "SHOP_THREADS: " in said
    assert "canary" not in said
    assert "Traceback" not in said
