"""As much of a PostgreSQL server as a client library needs to connect and run one statement.

It listens on the loopback interface, takes one connection without a password, answers every simple query with the
same row, and ends.  Messages: a type byte, a 32-bit length that counts itself, a body.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

SSL_REQUEST, GSS_REQUEST = 80877103, 80877104
INT4, TEXT = 23, 25


def message(kind: bytes, body: bytes = b"") -> bytes:
    """Return a message of the protocol."""
    return kind + struct.pack("!i", len(body) + 4) + body


def setting(name: str, value: str) -> bytes:
    """Return the message that reports a setting of the server."""
    return message(b"S", f"{name}\0{value}\0".encode())


READY = message(b"Z", b"I")
GREETING = (
    message(b"R", struct.pack("!i", 0))
    + setting("server_version", "16.1")
    + setting("client_encoding", "UTF8")
    + setting("server_encoding", "UTF8")
    + setting("integer_datetimes", "on")
    + setting("standard_conforming_strings", "on")
    + setting("TimeZone", "UTC")
    + message(b"K", struct.pack("!ii", 1, 2))
    + READY
)


def column(name: bytes, kind: int) -> bytes:
    """Return the description of a column whose values are sent as text."""
    return name + b"\0" + struct.pack("!ihihih", 0, 0, kind, -1, -1, 0)


def value(text: bytes) -> bytes:
    """Return a column's value."""
    return struct.pack("!i", len(text)) + text


ANSWER = (
    message(b"T", struct.pack("!h", 2) + column(b"number", INT4) + column(b"word", TEXT))
    + message(b"D", struct.pack("!h", 2) + value(b"42") + value("Zürich".encode()))
    + message(b"C", b"SELECT 1\0")
    + READY
)


def read_exactly(connection: socket.socket, count: int) -> bytes:
    """Return the next bytes, fewer only when the other side has closed."""
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            break
        data += part
    return data


def serve(listener: socket.socket) -> None:
    """Serve one connection until its client says goodbye."""
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(30)
        while True:
            (length,) = struct.unpack("!i", read_exactly(connection, 4))
            (code,) = struct.unpack("!i", read_exactly(connection, length - 4)[:4])
            if code not in (SSL_REQUEST, GSS_REQUEST):
                break
            connection.sendall(b"N")
        connection.sendall(GREETING)
        while head := read_exactly(connection, 5):
            read_exactly(connection, struct.unpack("!i", head[1:])[0] - 4)
            if head[:1] == b"Q":
                connection.sendall(ANSWER)
            elif head[:1] == b"X":
                break


@contextlib.contextmanager
def tiny_postgres() -> Iterator[int]:
    """Run the server in a thread; the value is its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        thread = threading.Thread(target=serve, args=(listener,), name="tiny_postgres")
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            thread.join()
