"""The factory: a page of named steps, and the only place that sees every part."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from zoneinfo import ZoneInfo

import flask_cors
from flask import Flask
from flask_migrate import Migrate
from sqlalchemy import Engine
from werkzeug.middleware.proxy_fix import ProxyFix

from config import Config, ConfigError
from shop import broker, crashes, logs
from shop.admin.views.audit import audit
from shop.admin.views.jobs import jobs as jobs_views
from shop.ads import checks as ad_checks
from shop.ads.rules import Rules as AdRules
from shop.ads.views import ads
from shop.audit import checks as audit_checks
from shop.audit.drain import Drain
from shop.audit.events import Event
from shop.audit.readers import Readers
from shop.audit.sinks.base import Sink
from shop.audit.wake import bell
from shop.cli import audit_commands, shop_commands
from shop.counters import watch_pool
from shop.db import READER, db
from shop.engines import database_url, engine_options, prepare_engine, reader_options
from shop.idempotency.keys import Keys
from shop.jobs.cli import jobs_commands
from shop.jobs.plan import Job
from shop.limits import throttle
from shop.limits.remote import storage_for
from shop.limits.throttle import Throttle
from shop.mail import transport
from shop.mail.delivery import Delivery
from shop.marks import Mark
from shop.monitoring import views as monitoring
from shop.monitoring.readiness import Watch
from shop.notifications import checks as notification_checks
from shop.notifications import mails as notification_mails
from shop.notifications import personal as notification_data
from shop.notifications.fanout import FanOut
from shop.notifications.reading import reader as notification_reader
from shop.notifications.streaming import Streams
from shop.notifications.views import notifications
from shop.orders import checks as order_checks
from shop.orders import personal as order_data
from shop.orders.terms import Terms, providers_of
from shop.orders.views.orders import orders
from shop.orders.views.payments import payments
from shop.products import checks as product_checks
from shop.products.models import AttributeDefinition
from shop.products.views.attributes import attributes
from shop.products.views.bulk import bulk
from shop.products.views.categories import categories
from shop.products.views.products import products
from shop.products.views.variants import variants
from shop.reviews import checks as review_checks
from shop.reviews import personal as review_data
from shop.reviews import verification as reviews_of_buyers
from shop.reviews.views import reviews
from shop.scheduler import Scheduler, jobs_of
from shop.transfers.cli import product_commands
from shop.transfers.files import Folder
from shop.transfers.views import transfers
from shop.transfers.work import Transfers
from shop.turns import Turns
from shop.users import passwords, personal
from shop.users.mails import composers
from shop.users.models import User
from shop.users.registry import Registry
from shop.users.sessions import Lifetimes
from shop.users.views.addresses import address_book
from shop.users.views.auth import auth
from shop.users.views.me import me
from shop.users.views.people import people
from shop.web import callers, docs, idempotency, problems, requests
from shop.web.answers import use_orjson
from shop.web.api import Api

log = logs.get(__name__)

BLUEPRINTS = (
    auth, me, address_book, people, products, bulk, transfers, variants, categories, attributes,
    orders, payments, reviews, notifications, ads, audit, jobs_views,
)  # fmt: skip
#: Threads of a worker that never wait for passwords to be hashed.
_RESERVED_THREADS = 2
#: What the shop holds on persons: how it is shown and let go.
PERSONAL_DATA = (*personal.PARTS, review_data.PART, order_data.PART, notification_data.PART)
#: What `flask shop verify` looks at.
CHECKS = (
    *audit_checks.CHECKS, *product_checks.CHECKS, *order_checks.CHECKS, *review_checks.CHECKS,
    *notification_checks.CHECKS, *ad_checks.CHECKS,
)  # fmt: skip


@dataclass(slots=True)
class Shop:
    """What hangs on an app besides Flask: `app.extensions["shop"]`."""

    config: Config
    engine: Engine
    reader: Engine
    jobs: Sequence[Job]
    scheduler: Scheduler | None = None

    def sinks(self) -> list[Sink]:
        """A fresh sink for each name in SHOP_SINKS."""
        return [SINKS[name](self.config) for name in self.config.active_sinks]

    def delivery(self, app: Flask) -> Delivery | None:
        """What takes mail to the mail server; None when there is none."""
        if not self.config.mail_server:
            return None
        url = self.config.public_url
        letters = {**composers(url), **notification_mails.composers(url)}
        return Delivery(app, transport.send, letters, self.config.mail_from)

    def transfers(self, app: Flask) -> Transfers:
        """What imports and exports files of products."""
        return Transfers(app, app.extensions["transfers"], 2.0 * self.config.lease_seconds)

    def timer(self, app: Flask) -> Scheduler:
        """The scheduler of one process, with all that it looks after; it does nothing yet."""
        if not self.config.mail_server:
            log.warning("mail.no-server", setting="SHOP_MAIL_URL")
        return Scheduler(
            app, self.jobs, self.drain(), silence_seconds=self.config.lease_seconds,
            delivery=self.delivery(app), ping_url=self.config.jobs_ping_url,
            loops=(self.transfers(app), self.readers(app), FanOut(app)),
        )  # fmt: skip

    def readers(self, app: Flask) -> Readers:
        """What keeps the internal readers of the audit log going."""
        return Readers(app, [notification_reader(self.config.low_stock)])

    def drain(self, on_published: Callable[[Event], None] = lambda _event: None) -> Drain:
        """A drain over this shop's sinks; it does nothing until it is kept alive."""
        return Drain(
            self.engine,
            self.sinks,
            lease_seconds=self.config.lease_seconds,
            window=self.config.drain_window,
            batch=self.config.drain_batch,
            poll_seconds=self.config.drain_poll_milliseconds / 1000,
            on_published=on_published,
        )


def create_app(config: Config | None = None, *, jobs: Iterable[Job] = ()) -> Flask:
    """Make the shop. It starts no thread and opens no connection: see `start`.

    `config` comes from the environment when it is not given; `jobs` are run besides the shop's.
    """
    config = config or _config_or_exit()
    app = Flask("shop", static_folder=None)
    logs.configure(config.log_style)
    crashes.arm(config.crash_at)
    _configure(app, config)
    engine, reader = _connect_database(app, config)
    terms = app.extensions["orders"] = _terms(config)
    app.extensions["ads"] = _ad_rules(config)
    planned = (*jobs_of(config, terms.providers), *jobs)
    app.extensions["shop"] = Shop(config, engine, reader, planned)
    app.extensions["jobs"] = {job.name: job for job in planned}
    app.extensions["watch"] = Watch(config.active_sinks, {job.name: job.trigger for job in planned})
    app.extensions["transfers"] = Folder(config.var, config.max_import_bytes)
    app.extensions["streams"] = Streams(app, config.streams)
    bell.hang(config.var)
    use_orjson(app)
    requests.register(app)
    problems.register(app)
    callers.register(app, Registry(engine, Mark(config.var, "callers", engine, (User,))))
    Mark(config.var, "attributes", engine, (AttributeDefinition,))
    app.extensions["checks"] = CHECKS
    keys = Keys(config.idempotency_lease_seconds, config.idempotency_kept_seconds)
    idempotency.register(app, keys)
    _prepare_accounts(app, config)
    _register_blueprints(app, config)
    _allow_browsers(app, config)
    app.wsgi_app = Turns(app.wsgi_app, config.threads)  # type: ignore[method-assign]
    for commands in (shop_commands, audit_commands, jobs_commands, product_commands):
        app.cli.add_command(commands)
    return app


def start(app: Flask) -> None:
    """Start the embedded scheduler and drain in this process: after the fork, never before."""
    shop: Shop = app.extensions["shop"]
    # Connections of the parent must not be used here, and closing them would end the parent's.
    shop.engine.dispose(close=False)
    shop.reader.dispose(close=False)
    if shop.config.scheduler == "embedded":
        shop.scheduler = shop.timer(app)
        shop.scheduler.start()


def stop(app: Flask) -> None:
    """End what `start` started."""
    shop: Shop = app.extensions["shop"]
    app.extensions["streams"].stop()
    if shop.scheduler is not None:
        shop.scheduler.stop()
        shop.scheduler = None
    shop.engine.dispose()
    shop.reader.dispose()


def _mqtt(config: Config) -> Sink:
    # paho is imported only where it is used.
    from shop.audit.sinks.mqtt import MqttSink

    return MqttSink(
        lambda: config.mqtt_url or broker.embedded_url(config.var), config.mqtt_topic,
        retain=config.mqtt_retain == "on",
    )  # fmt: skip


SINKS: dict[str, Callable[[Config], Sink]] = {"mqtt": _mqtt}


def _config_or_exit() -> Config:
    try:
        return Config.from_env()
    except ConfigError as error:
        print(error, file=sys.stderr)
        # gunicorn restarts a worker that fails to boot with any other code than its own 4.
        raise SystemExit(4 if "gunicorn" in os.path.basename(sys.argv[0]) else 1) from error


def _configure(app: Flask, config: Config) -> None:
    app.config.update(
        SECRET_KEY=config.signing_key(),
        MAX_CONTENT_LENGTH=config.max_body_bytes,
        PROPAGATE_EXCEPTIONS=config.propagate_errors,
        PROPAGATE_ERRORS=config.propagate_errors,
        CURRENCY=config.currency,
        PUBLIC_CACHE_SECONDS=config.public_cache_seconds,
        ALLOWS_ORIGINS=bool(config.cors_origins),
        ACCESS_TOKEN_SECONDS=config.access_token_seconds,
        JWT_ALGORITHM="HS256",
        JWT_TOKEN_LOCATION=["headers"],
        JWT_ACCESS_TOKEN_EXPIRES=config.access_token_seconds,
        JWT_ENCODE_ISSUER="shop",
        JWT_DECODE_ISSUER="shop",
        JWT_ENCODE_AUDIENCE="shop",
        JWT_DECODE_AUDIENCE="shop",
        API_TITLE="shop",
        API_VERSION="v1",
        OPENAPI_VERSION="3.1.0",
        OPENAPI_URL_PREFIX="/",
    )
    if config.trusted_proxies:
        n = config.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=n, x_proto=n, x_host=n)  # type: ignore[method-assign]


def _connect_database(app: Flask, config: Config) -> tuple[Engine, Engine]:
    url = database_url(config.database)
    if url.get_backend_name() == "sqlite" and url.database:
        config.var.mkdir(parents=True, exist_ok=True)
    # Request threads, and as many more for the scheduler, the drain, its sealer and publishers,
    # the internal readers, the fan-out and the feeder of streams.
    threads = config.threads + 8
    options = engine_options(url, threads=threads, answer_seconds=config.database_seconds)
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = options
    app.config["SQLALCHEMY_BINDS"] = {READER: reader_options(url, options) | {"url": url}}
    db.init_app(app)
    Migrate(app, db)
    with app.app_context():
        engine, reader = db.engine, db.engines[READER]
    for each in (engine, reader):
        prepare_engine(each)
        watch_pool(each)
    return engine, reader


def _prepare_accounts(app: Flask, config: Config) -> None:
    shop: Shop = app.extensions["shop"]
    counters = storage_for(config.rate_limit_url, shop.engine, shop.reader)
    throttle.register(app, Throttle(counters, config.limits, enabled=config.rate_limits == "on"))
    # Not all threads may wait for a hash: somebody wants to see a product.
    waiting = max(config.waiting_threads - config.password_hashes - _RESERVED_THREADS, 0)
    passwords.make_room(config.password_hashes, waiting)
    app.extensions["lifetimes"] = Lifetimes(config.refresh_token_seconds, config.session_seconds)
    app.extensions["personal_data"] = PERSONAL_DATA
    if config.mail_server:
        transport.register(app, config.mail_server, config.mail_from)


def _terms(config: Config) -> Terms:
    providers = providers_of(
        config.active_payment_providers,
        test_secret=config.test_provider_secret(),
        manual_days=config.manual_payment_days,
    )
    patience = timedelta(minutes=config.unpaid_order_minutes)
    return Terms(config.currency, patience, providers, (reviews_of_buyers.verify,))


def _ad_rules(config: Config) -> AdRules:
    return AdRules(
        config.signing_key(), config.ad_repeat_seconds, config.ad_tokens == "required",
        config.ad_token_seconds, ZoneInfo(config.timezone),
    )  # fmt: skip


def _register_blueprints(app: Flask, config: Config) -> None:
    api = Api(app)
    api.describe(app)
    for blueprint in BLUEPRINTS:
        api.register_blueprint(blueprint)
    app.register_blueprint(monitoring.health)
    if config.serves_metrics:
        app.register_blueprint(monitoring.pages)
    if config.serves_docs:
        app.register_blueprint(docs.pages)


def _allow_browsers(app: Flask, config: Config) -> None:
    if config.cors_origins:
        flask_cors.CORS(
            app,
            origins=list(config.cors_origins),
            allow_headers=[
                "Authorization",
                "Content-Type",
                "Idempotency-Key",
                "If-Match",
                "If-Modified-Since",
                "If-None-Match",
                "Last-Event-ID",
                "X-Request-ID",
            ],
            expose_headers=[
                "ETag",
                "Idempotency-Replayed",
                "Last-Modified",
                "Link",
                "Location",
                "RateLimit",
                "RateLimit-Policy",
                "Retry-After",
                "X-Request-ID",
            ],
            max_age=600,
        )
