"""The load generator: raw keep-alive sockets and epoll in one process, so that it costs little.

`python -m bench.load` reads a plan from standard input and writes what it measured to standard
output, both as JSON; `generate` runs it. It shares the machine with the server under test, and
takes as much from the shop as from the twin.
"""

from __future__ import annotations

import select
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import count, cycle

import orjson

#: Stands in a request for the running number, which makes it unique without changing its length.
NUMBER = "@@@@@@@@@@"
_SILENCE_SECONDS = 15.0


@dataclass(frozen=True)
class Plan:
    """What to send. `rate` 0 means closed loop: each connection sends when it was answered."""

    port: int
    requests: list[str]
    seconds: float
    connections: int = 16
    rate: float = 0.0
    first: int = 0


@dataclass(frozen=True)
class Result:
    """What came back. Latencies in milliseconds; `processor` is the generator's own seconds."""

    latencies: list[float]
    errors: list[str]
    seconds: float
    processor: float
    reconnects: int

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds


def request(method: str, path: str, *, token: str = "", body: str = "", key: str = "") -> str:
    """The text of an HTTP request; it keeps the connection. `key` is its Idempotency-Key."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Accept: application/json"]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    if key:
        lines.append(f"Idempotency-Key: {key}")
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", body])


def generate(plan: Plan) -> Result:
    """Carry a plan out in a process of its own."""
    return collect(launch(plan))


def launch(plan: Plan) -> subprocess.Popen[bytes]:
    """Begin to carry a plan out; `collect` waits for the end."""
    command = [sys.executable, "-m", "bench.load"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    child.stdin.write(orjson.dumps(asdict(plan)))
    child.stdin.close()
    return child


def collect(child: subprocess.Popen[bytes]) -> Result:
    """The result of a launched plan."""
    assert child.stdout is not None
    with child.stdout:
        raw = child.stdout.read()
    if child.wait() != 0:
        raise RuntimeError("the load generator failed")
    return Result(**orjson.loads(raw))


class _Connection:
    """One keep-alive connection with at most one request under way."""

    __slots__ = ("buffer", "missing", "sock", "started")

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=5)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.missing = 0
        self.started = 0.0


class _Generator:
    """The loop over all connections."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._next = _maker(plan)
        self._poll = select.epoll()
        self._open: dict[int, _Connection] = {}
        self._idle: deque[_Connection] = deque()
        self._latencies: list[float] = []
        self._errors: list[str] = []
        self._reconnects = 0
        for _ in range(plan.connections):
            self._connect()

    def run(self) -> Result:
        """Send until the time is over, then wait for the answers that are still due."""
        begun, processor = time.perf_counter(), time.process_time()
        self._send_paced(begun) if self._plan.rate else self._send_closed(begun)
        seconds = time.perf_counter() - begun
        return Result(
            self._latencies,
            self._errors,
            seconds,
            time.process_time() - processor,
            self._reconnects,
        )

    def _send_closed(self, begun: float) -> None:
        end = begun + self._plan.seconds
        while self._idle:
            self._send(self._idle.popleft(), time.perf_counter())
        while len(self._idle) < len(self._open):
            for connection in self._answered(_SILENCE_SECONDS):
                now = time.perf_counter()
                if now < end:
                    self._send(connection, now)
                else:
                    self._idle.append(connection)

    def _send_paced(self, begun: float) -> None:
        number = int(self._plan.seconds * self._plan.rate)
        due = (begun + n / self._plan.rate for n in range(number))
        waiting = next(due, None)
        while waiting is not None or len(self._idle) < len(self._open):
            if waiting is not None and time.perf_counter() > begun + self._plan.seconds + 1.0:
                # The server cannot keep up; what is still to be sent would only prolong the run.
                waiting = None
            while waiting is not None and self._idle and time.perf_counter() >= waiting:
                # Timed from when it was due: what waits for a free connection waits, too.
                self._send(self._idle.popleft(), waiting)
                waiting = next(due, None)
            pause = _SILENCE_SECONDS
            if waiting is not None and self._idle:
                pause = max(0.0, waiting - time.perf_counter())
            self._idle.extend(self._answered(pause))

    def _connect(self) -> None:
        connection = _Connection(self._plan.port)
        self._open[connection.sock.fileno()] = connection
        self._poll.register(connection.sock.fileno(), select.EPOLLIN)
        self._idle.append(connection)

    def _drop(self, connection: _Connection) -> None:
        number = connection.sock.fileno()
        self._poll.unregister(number)
        del self._open[number]
        connection.sock.close()
        self._reconnects += 1
        self._connect()

    def _send(self, connection: _Connection, started: float) -> None:
        connection.started = started
        connection.sock.sendall(self._next())

    def _answered(self, timeout: float) -> Iterator[_Connection]:
        """Connections whose answer is complete."""
        ready = self._poll.poll(timeout)
        if not ready and timeout == _SILENCE_SECONDS:
            raise TimeoutError(f"no answer in {timeout:g} s")
        for number, _events in ready:
            connection = self._open[number]
            data = connection.sock.recv(262_144)
            if not data:
                self._closed(connection)
                yield self._idle.pop()
            elif self._complete(connection, data):
                self._latencies.append((time.perf_counter() - connection.started) * 1000)
                closing = b"\r\nConnection: close" in connection.buffer
                connection.buffer = b""
                if closing:
                    self._drop(connection)
                    connection = self._idle.pop()
                yield connection

    def _closed(self, connection: _Connection) -> None:
        # A server may close an idle connection just as a request is sent: no answer began then.
        if connection.buffer:
            self._errors.append("closed within an answer")
        self._drop(connection)

    def _complete(self, connection: _Connection, data: bytes) -> bool:
        if connection.buffer:
            connection.missing -= len(data)
            return connection.missing <= 0
        end = data.find(b"\r\n\r\n")
        place = data.find(b"\r\nContent-Length: ")
        if data.startswith(b"HTTP/1.1 204") and end > 0:
            connection.buffer = data
            return True
        if end < 0 or not 0 <= place < end:
            raise RuntimeError(f"an answer that this generator cannot read: {data[:300]!r}")
        if not data.startswith(b"HTTP/1.1 2"):
            self._errors.append(data[:400].decode(errors="replace"))
        connection.buffer = data[:end]
        connection.missing = end + 4 + int(data[place + 18 : data.find(b"\r", place + 18)])
        connection.missing -= len(data)
        return connection.missing <= 0


def _maker(plan: Plan) -> Callable[[], bytes]:
    """Makes the bytes of the next request."""
    if NUMBER in plan.requests[0]:
        parts = [part.encode() for part in plan.requests[0].split(NUMBER)]
        numbers = count(plan.first)
        return lambda: (b"%010d" % next(numbers)).join(parts)
    return cycle([text.encode() for text in plan.requests]).__next__


def main() -> None:
    """Read the plan, carry it out, write the result."""
    plan = Plan(**orjson.loads(sys.stdin.buffer.read()))
    sys.stdout.buffer.write(orjson.dumps(asdict(_Generator(plan).run())))


if __name__ == "__main__":
    main()
