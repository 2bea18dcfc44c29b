"""What the load generator could do at most: against a server that does nothing but answer.

`python -m bench.ceiling SIZE` is that server: one process, epoll, one answer of SIZE bytes.
"""

from __future__ import annotations

import select
import socket
import subprocess
import sys

from bench.load import Plan, generate, request


def ceiling(size: int, seconds: float) -> float:
    """Requests a second that the generator reaches when the answer has `size` bytes."""
    command = [sys.executable, "-m", "bench.ceiling", str(size)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            return generate(Plan(port, [request("GET", "/")], seconds)).rate
        finally:
            server.terminate()


def main() -> None:
    """Answer every request alike, for ever."""
    size = int(sys.argv[1])
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    poll = select.epoll()
    poll.register(listener.fileno(), select.EPOLLIN)
    clients: dict[int, socket.socket] = {}
    while True:
        for number, _events in poll.poll():
            if number == listener.fileno():
                client = listener.accept()[0]
                clients[client.fileno()] = client
                poll.register(client.fileno(), select.EPOLLIN)
            elif clients[number].recv(65_536):
                clients[number].sendall(answer)
            else:
                clients.pop(number).close()


if __name__ == "__main__":
    main()
