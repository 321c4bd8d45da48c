"""Probes an address with one gRPC call, so that errors take seconds and name what is missing.

Called before `ray.init`, which for an address without Ray, or with another token, retries for 20 s to minutes, prints
its attempts and does not say which of the two it was. Frames are those of HTTP/2 (RFC 9113), headers are uncompressed
literals (RFC 7541, 6.2.2).
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Literal

Answer = Literal["ray", "token", "other"]

QUESTION = "/ray.rpc.NodeInfoGcsService/GetClusterId"  # Ray's own first call
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS = 0, 1, 4  # kinds of frames
END_STREAM, END_HEADERS = 1, 4
HEAD_BYTES, BODY_BYTES, FRAMES = 9, 1 << 14, 64  # of a frame: header, largest body; number of frames read
NO_TOKEN = b"\x0bgrpc-status\x0216"  # UNAUTHENTICATED
TOKEN_BYTES = 126  # largest length in one byte


def ask(host: str, port: int, *, within_s: float, token: str | None = None) -> Answer:
    """The kind of server: a cluster, a cluster that needs another token, or something else.

    Raises:
        OSError: no answer within so many seconds.
    """
    with contextlib.closing(socket.create_connection((host, port), timeout=within_s)) as connection:
        try:
            connection.sendall(_question(f"{host}:{port}", token))
            with connection.makefile("rb") as answer:
                return _read(answer)
        except (ConnectionResetError, BrokenPipeError):  # the server closed the connection
            return "other"


def own_token() -> str | None:
    """The token that Ray would use here: of RAY_AUTH_TOKEN, a file of RAY_AUTH_TOKEN_PATH, or ~/.ray/auth_token."""
    if given := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return given
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def _question(authority: str, token: str | None) -> bytes:
    headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", QUESTION),
        (":authority", authority),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]
    if token is not None:
        headers.append(("authorization", f"Bearer {token}"))
    empty = bytes(5)  # a message without content
    return PREFACE + b"".join(
        (
            _frame(SETTINGS, 0, 0, b""),
            _frame(HEADERS, END_HEADERS, 1, _literals(headers)),
            _frame(DATA, END_STREAM, 1, empty),
        )
    )


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body


def _literals(headers: Sequence[tuple[str, str]]) -> bytes:
    never_indexed = b"\x10"
    parts = [part.encode()[:TOKEN_BYTES] for header in headers for part in header]
    sized = [bytes([len(part)]) + part for part in parts]
    return b"".join(never_indexed + name + value for name, value in zip(sized[::2], sized[1::2], strict=True))


def _read(answer: BinaryIO) -> Answer:
    for number in range(FRAMES):
        head = answer.read(HEAD_BYTES)
        size, kind, stream = int.from_bytes(head[:3], "big"), head[3:4], int.from_bytes(head[5:], "big")
        if len(head) < HEAD_BYTES or size > BODY_BYTES or (number == 0 and kind != bytes([SETTINGS])):
            return "other"
        body = answer.read(size)
        if stream == 1:
            return "token" if NO_TOKEN in body else "ray"
    return "other"
