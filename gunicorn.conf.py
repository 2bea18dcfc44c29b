"""gunicorn -c gunicorn.conf.py wsgi:app

Workers are gthread workers that share keep-alive connections evenly. Each starts the embedded
scheduler after its fork; the master starts the embedded broker, if the settings ask for one.
"""

import os
import signal
import sys
from pathlib import Path

from config import Config, ConfigError
from shop import app as shop_app
from shop.broker import EmbeddedBroker
from shop.counters import counters
from shop.serving import BalancedWorker, Seats, keep_shared, share_heaps, why_not_serve

try:
    settings = Config.from_env()
except ConfigError as error:
    sys.exit(str(error))

bind = f"127.0.0.1:{os.environ.get('PORT', '8000')}"
worker_class = BalancedWorker
workers = settings.workers
threads = settings.threads + settings.waiting_threads + settings.streams
worker_connections = 1000
keepalive = 5
timeout = 60
graceful_timeout = 30
max_requests = 100_000
max_requests_jitter = 10_000
# Heartbeat files on a disk would stall workers whenever the disk does.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None
# Without this, anything that runs as this user could command the server through its socket.
control_socket_disable = True

share_heaps()
_ENDING = {signal.SIGINT, signal.SIGTERM, signal.SIGQUIT}
_seats = Seats()
_broker = None


def on_starting(server):
    """Refuse to serve from a database that cannot be served from; start the embedded broker."""
    global _broker
    why_not = why_not_serve(settings.database, Path(__file__).parent / "migrations")
    if why_not:
        print(why_not, file=sys.stderr)
        sys.exit(1)
    if "mqtt" in settings.active_sinks and not settings.mqtt_url:
        _broker = EmbeddedBroker(settings.var, settings.mqtt_port)
        _broker.start()


def when_ready(server):
    """Say where everything is."""
    if settings.production:
        return
    address = f"http://{bind}"
    server.log.info("API:         %s/api/v1/products", address)
    server.log.info("Docs:        %s/docs", address)
    if _broker is not None:
        server.log.info("MQTT broker: %s (MQTT 5), topics %s/#", _broker.url, settings.mqtt_topic)
    server.log.info("Admin:       flask shop create-admin you@example.com")


def pre_fork(server, worker):
    keep_shared()
    worker.seats, worker.seat = _seats, _seats.take()


def post_fork(server, worker):
    counters.sit(worker.seat)
    if _broker is not None:
        _broker.disown()


def post_worker_init(worker):
    # gunicorn's handlers raise wherever the worker is; half-way through starting threads that
    # would break a lock. What comes meanwhile is dealt with right after.
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        shop_app.start(worker.wsgi)
        # A worker that is about to end waits for its requests, and streams would not come to one.
        worker.wsgi.extensions["streams"].serve_while(lambda: worker.alive)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)


def worker_exit(server, worker):
    # A worker that could not load the app has nothing to stop.
    if getattr(worker, "wsgi", None) is not None:
        shop_app.stop(worker.wsgi)


def child_exit(server, worker):
    _seats.leave(worker.seat)
    counters.leave(worker.seat)


def on_exit(server):
    if _broker is not None:
        _broker.stop()
