"""Every setting of the shop: name, type, default, one line of help.

Settings come from environment variables with the prefix `SHOP_`, read once at start by
`Config.from_env()`, which reports everything that is wrong at once. Tests build `Config(...)`.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from environs import EnvValidationError, FileAwareEnv
from marshmallow import validate

from config_rules import unsafe


class ConfigError(Exception):
    """The settings cannot be used; the message names each bad one and no value."""


def setting(default: Any, help: str, **options: Any) -> Any:
    """Declare a setting. Options: `low` and `high` bound numbers, `words` lists what is allowed."""
    metadata = {"help": help, **options}
    if isinstance(default, tuple):
        return field(default_factory=lambda: default, metadata=metadata | {"default": default})
    return field(default=default, metadata=metadata | {"default": default})


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The settings of one process, checked and frozen."""

    env: str = setting(
        "development", "What this process is for; testing is development plus crash points.",
        words=("development", "testing", "production"),
    )  # fmt: skip
    var: Path = setting(Path("var"), "Folder of everything the shop keeps on this machine.")
    database_url: str = setting(
        "", "`sqlite:///...`, `mysql://...` or `mariadb://...`. Empty: SQLite in the data folder."
    )
    database_seconds: int = setting(
        10, "Longest wait for a connection to, or an answer of, the database.", low=1, high=600
    )
    threads: int = setting(
        4, "Requests that a worker works on at once; the connection pool follows.", low=1, high=256
    )
    waiting_threads: int = setting(
        32, "Requests of a worker that may wait besides, such as for a password to be hashed.",
        low=4, high=1024,
    )  # fmt: skip
    workers: int = setting(2, "Worker processes of gunicorn.", low=1, high=64)
    secret_key: str = setting(
        "", "Signs access tokens; 32 bytes or more. Development makes one in the data folder.",
        secret=True,
    )  # fmt: skip
    mqtt_url: str = setting(
        "", "`mqtt://` or `mqtts://` broker. Empty: the embedded one, never in production.",
        secret=True,
    )  # fmt: skip
    mqtt_port: int = setting(
        1883, "Port of the embedded broker; the next free one if it is taken.", low=1, high=65535
    )
    mqtt_topic: str = setting("shop", "Prefix of MQTT topics.")
    mqtt_retain: str = setting(
        "off", "Whether the broker keeps the last state of products, variants, stock levels and "
        "categories.",
        words=("on", "off"),
    )  # fmt: skip
    sinks: tuple[str, ...] = setting(
        ("mqtt",), "Where events go, by commas; `none` is a shop without a broker.",
        words=("mqtt", "none"),
    )  # fmt: skip
    timezone: str = setting("UTC", "IANA zone that says when 14:00 is.")
    currency: str = setting("EUR", "ISO 4217 code of every price.")
    scheduler: str = setting(
        "embedded", "Whether web workers run jobs and drain.", words=("embedded", "off")
    )
    jobs_ping_url: str = setting(
        "", "Told of each run of a job, such as `https://hc.example/ping/{job}`; `/start` and "
        "`/fail` are appended. Empty: nobody.",
        secret=True,
    )  # fmt: skip
    lease_seconds: int = setting(
        5, "How long a silent leader is waited for before another takes over.", low=2, high=300
    )
    drain_window: int = setting(50, "Events in flight to a sink.", low=1, high=1000)
    drain_batch: int = setting(500, "Acknowledgements per move of a cursor.", low=1, high=10_000)
    drain_poll_milliseconds: int = setting(
        500, "How often the drain looks by itself, besides being woken.", low=5, high=60_000
    )
    audit_retention_days: int = setting(
        0, "Days after which audit entries that every sink has are removed; 0: never.",
        low=0, high=36_500,
    )  # fmt: skip
    access_token_seconds: int = setting(900, "Life of an access token.", low=30, high=86_400)
    refresh_token_seconds: int = setting(
        2_592_000, "Life of a refresh token; each refresh begins it anew.", low=60, high=31_536_000
    )
    session_seconds: int = setting(
        7_776_000, "Longest life of a session, however often it is refreshed.",
        low=60, high=31_536_000,
    )  # fmt: skip
    idempotency_lease_seconds: int = setting(
        30, "How long a request holds its Idempotency-Key when its worker dies.", low=1, high=3600
    )
    idempotency_kept_seconds: int = setting(
        86_400, "How long an answer is kept under an Idempotency-Key.", low=1, high=31_536_000
    )
    password_hashes: int = setting(
        1, "Passwords that a worker hashes at once (19 MiB and a processor each).", low=1, high=64
    )
    rate_limits: str = setting(
        "on",
        "Whether sign-in, registration, mail and counting ads are throttled.",
        words=("on", "off"),
    )
    rate_limit_url: str = setting(
        "", "`redis://` or `rediss://` server that counts them. Empty: the database.", secret=True
    )
    limit_sign_in_account: str = setting(
        "10 per 15 minutes", "Wrong passwords for one account from anywhere."
    )
    limit_sign_in_address: str = setting(
        "100 per 15 minutes", "Wrong passwords from one network address."
    )
    limit_register: str = setting(
        "20 per 1 hour", "Registrations of a taken e-mail address from one network address."
    )
    limit_mail_address: str = setting(
        "30 per 1 hour", "Mails asked for from one network address (forgotten passwords and such)."
    )
    limit_mail_recipient: str = setting(
        "5 per 1 hour", "Mails asked for to one e-mail address; more are left out silently."
    )
    limit_token_guesses: str = setting(
        "30 per 15 minutes", "Wrong one-time and refresh tokens from one network address."
    )
    limit_ad_events: str = setting(
        "6000 per 1 minute", "Impressions and clicks of ads from one network address."
    )
    ad_events_days: int = setting(
        30, "Days for which impressions and clicks are kept; their sums stay.", low=2, high=3650
    )
    ad_repeat_seconds: int = setting(
        1800, "Of so long one click of a visitor on an ad counts; 0: all do.", low=0, high=86_400
    )
    ad_tokens: str = setting(
        "optional", "Whether a click needs the token that its ad was shown with.",
        words=("optional", "required"),
    )  # fmt: skip
    ad_token_seconds: int = setting(
        86_400, "How long such a token is good.", low=10, high=2_592_000
    )
    mail_url: str = setting(
        "", "`smtp://` or `smtps://` server, or `console:`. Empty: `console:`, in production none.",
        secret=True,
    )  # fmt: skip
    mail_from: str = setting("shop@localhost", "Sender of the shop's mail.")
    public_url: str = setting(
        "", "Address of the shop front that links in mail lead to. Empty: mail has codes only."
    )
    unpaid_order_minutes: int = setting(
        60, "How long an order waits for its payment; then it is cancelled.", low=1, high=525_600
    )
    manual_payment_days: int = setting(
        7, "How long an order waits for a payment by hand that was announced.", low=1, high=365
    )
    payment_providers: tuple[str, ...] = setting(
        (), "Who takes payments, by commas, the usual one first. Empty: test and manual, in "
        "production manual alone.",
        words=("test", "manual"),
    )  # fmt: skip
    payment_test_secret: str = setting(
        "", "Signs messages of the test provider; 32 bytes or more. Empty: one in the data folder.",
        secret=True,
    )  # fmt: skip
    low_stock: int = setting(
        5,
        "Staff is told when the stock of a variant without a threshold falls to this mark.",
        low=0,
        high=1_000_000,
    )
    keep_notifications_days: int = setting(
        90, "How long notifications are kept.", low=30, high=3650
    )
    streams: int = setting(
        32, "Streams of live notifications that a worker serves; each has a thread of its own.",
        low=0, high=1024,
    )  # fmt: skip
    public_cache_seconds: int = setting(
        10, "How long caches may keep what everybody sees; 0: ask each time.", low=0, high=86_400
    )
    max_body_bytes: int = setting(2**20, "Largest request body.", low=1024, high=2**30)
    max_import_bytes: int = setting(
        2**28, "Largest file of products that is imported.", low=1024, high=2**40
    )
    keep_transfers_days: int = setting(
        30, "How long imports and exports are kept, with their files.", low=1, high=3650
    )
    cors_origins: tuple[str, ...] = setting(
        (), "Origins of browsers that may call the API, by commas. Empty: none."
    )
    trusted_proxies: int = setting(
        0, "Proxies in front whose X-Forwarded headers count.", low=0, high=10
    )
    expose: tuple[str, ...] = setting(
        (), "What else is served, by commas. Empty: both, but nothing in production.",
        words=("docs", "metrics"),
    )  # fmt: skip
    crash_at: str = setting(
        "", "Crash point to die at: `name[:n]`, its n-th pass; testing only. More in "
        "`flask shop crash-points`.",
    )  # fmt: skip
    log_format: str = setting(
        "", "`json` or `console`. Empty: json in production only.", words=("", "json", "console")
    )
    #: Not a setting: lets unknown errors through to a test.
    propagate_errors: bool = False

    @classmethod
    def from_env(cls) -> Config:
        """Read the environment; `SHOP_X_FILE` names a file that holds the value of `SHOP_X`.

        Raises:
            ConfigError: some settings are missing, wrong or unsafe.
        """
        values, problems = _read()
        config = cls(**values)
        problems += [problem for problem in unsafe(config) if problem[0] not in dict(problems)]
        if problems:
            lines = [f"  {variable(name)}: {problem}" for name, problem in problems]
            raise ConfigError("\n".join(["These settings cannot be used:", *sorted(lines)]))
        return config

    @property
    def production(self) -> bool:
        """Whether real customers are served."""
        return self.env == "production"

    @property
    def database(self) -> str:
        """The database URL in effect."""
        return self.database_url or f"sqlite:///{self.var.absolute() / 'shop.db'}"

    @property
    def mail_server(self) -> str:
        """The mail server in effect; empty when mail waits until there is one."""
        return self.mail_url or ("" if self.production else "console:")

    @property
    def limits(self) -> dict[str, str]:
        """How often what may be tried: rule to rate."""
        names = [item.name for item in fields(self) if item.name.startswith("limit_")]
        return {
            name.removeprefix("limit_").replace("_", "-"): getattr(self, name) for name in names
        }

    @property
    def active_sinks(self) -> tuple[str, ...]:
        """Names of the sinks that events go to."""
        return tuple(name for name in self.sinks if name != "none")

    @property
    def serves_docs(self) -> bool:
        """Whether /docs is there."""
        return "docs" in self.expose or not self.production

    @property
    def serves_metrics(self) -> bool:
        """Whether /metrics is there."""
        return "metrics" in self.expose or not self.production

    @property
    def log_style(self) -> str:
        """`json` or `console`."""
        return self.log_format or ("json" if self.production else "console")

    @property
    def active_payment_providers(self) -> tuple[str, ...]:
        """Names of the payment providers, the usual one first."""
        return self.payment_providers or (("manual",) if self.production else ("test", "manual"))

    def signing_key(self) -> str:
        """The secret key; outside production one is made and kept in the data folder."""
        return self.secret_key or self._kept_secret("secret_key")

    def test_provider_secret(self) -> str:
        """What signs messages of the test provider, if it is there."""
        if "test" not in self.active_payment_providers:
            return ""
        return self.payment_test_secret or self._kept_secret("payment_test_secret")

    def _kept_secret(self, name: str) -> str:
        kept = self.var / name
        if not kept.exists():
            self.var.mkdir(parents=True, exist_ok=True)
            # Written aside and linked into place: of several processes that start at once all
            # read the same whole key.
            draft = kept.with_name(f"{name}.{secrets.token_hex(4)}")
            draft.touch(mode=0o600)
            draft.write_text(secrets.token_urlsafe(48))
            with contextlib.suppress(FileExistsError):
                os.link(draft, kept)
            draft.unlink()
        return kept.read_text()


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"SHOP_{name.upper()}"


def settings() -> Iterator[tuple[str, str, Any, str]]:
    """Every setting: environment variable, type, default, help."""
    for item in fields(Config):
        if item.metadata:
            kind = str(item.type).replace("tuple[str, ...]", "list")
            yield variable(item.name), kind, item.metadata["default"], item.metadata["help"]


def _read() -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The values that could be read, and what is wrong with the others."""
    env = FileAwareEnv(eager=False, prefix="SHOP_", strip_whitespace=True)
    readers: dict[str, Any] = {
        "int": env.int,
        "str": env.str,
        "Path": env.path,
        "tuple[str, ...]": env.list,
    }
    declared = {item.name: item for item in fields(Config) if item.metadata}
    values: dict[str, Any] = {}
    problems: list[tuple[str, str]] = []
    for name, item in declared.items():
        try:
            value = readers[str(item.type)](
                name.upper(), item.metadata["default"], validate=_rules(item.metadata)
            )
        except (ValueError, OSError):
            problems.append((name, f"{variable(name)}_FILE must name a readable text file"))
            continue
        values[name] = tuple(value) if isinstance(value, list) else value
    try:
        env.seal()
    except EnvValidationError as error:
        bad = [full.removeprefix("SHOP_").lower() for full in error.error_messages]
        sound = {name: value for name, value in values.items() if name not in bad}
        return sound, problems + [(name, _explain(declared[name].metadata)) for name in bad]
    return values, problems


def _rules(options: Mapping[str, Any]) -> list[Any]:
    rules: list[Any] = []
    if "low" in options:
        rules.append(validate.Range(options["low"], options["high"]))
    if "words" in options:
        several = isinstance(options["default"], tuple)
        rules.append((validate.ContainsOnly if several else validate.OneOf)(options["words"]))
    return rules


def _explain(options: Mapping[str, Any]) -> str:
    # Said in our own words: a parser's text may repeat the value, and that may be a secret.
    if "low" in options:
        return f"must be a whole number from {options['low']} to {options['high']}"
    if "words" in options:
        return "must be one of: " + ", ".join(word for word in options["words"] if word)
    return "cannot be read"
