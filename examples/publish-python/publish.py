#!/usr/bin/env python3
"""Publishes the job in a file to Aethelos over NATS and waits for its receipt. Python's standard library only.

    python3 publish.py FILE [NATS_URL USER PASSWORD_FILE]     (or the environment: NATS_URL, NATS_USER, NATS_PASSWORD_FILE, KEY)

A submission is safe once its receipt is there, and not before: until then it is repeated under the same key, which never makes a second job.
"""

import json
import os
import re
import socket
import sys
import time
import urllib.parse
import uuid

CLIENT = "default"


class Bus:
    """As much of the NATS text protocol as a publisher needs."""

    def __init__(self, url, user, password):
        address = urllib.parse.urlsplit(url)
        self.socket = socket.create_connection((address.hostname, address.port or 4222), timeout=5)
        self.bytes = b""
        options = {"user": user, "pass": password, "verbose": False, "pedantic": False, "headers": True, "lang": "python", "version": "1"}
        self.send(b"CONNECT %s\r\n" % json.dumps(options).encode())

    def send(self, data):
        self.socket.sendall(data)

    def fill(self, until):
        self.socket.settimeout(max(0.001, until - time.monotonic()))
        more = self.socket.recv(65536)
        if not more:
            raise ConnectionError("the broker closed the connection")
        self.bytes += more

    def message(self, until):
        """The body of the next message; TimeoutError when none has come by then. Nothing is taken off the buffer before it is complete."""
        while True:
            line, end, rest = self.bytes.partition(b"\r\n")
            word = line.split()
            if not end:
                self.fill(until)
            elif word[0] in (b"MSG", b"HMSG"):  # the last number is the length of all; in HMSG the one before is that of the headers
                length, skip = int(word[-1]), int(word[-2]) if word[0] == b"HMSG" else 0
                while len(rest) < length + 2:
                    self.fill(until)
                    rest = self.bytes[len(line) + 2 :]
                self.bytes = rest[length + 2 :]
                return rest[skip:length]
            else:
                self.bytes = rest
                if word[0] == b"PING":
                    self.send(b"PONG\r\n")
                elif word[0] == b"-ERR":
                    raise PermissionError(line.decode())


def main():
    names = ("NATS_URL", "NATS_USER", "NATS_PASSWORD_FILE")
    given = sys.argv[1:] if len(sys.argv) == 5 else sys.argv[1:2] + [os.environ.get(name) for name in names]
    if len(given) != 4 or not all(given):
        print("usage: publish.py FILE [NATS_URL USER PASSWORD_FILE]", file=sys.stderr)
        return 2
    with open(given[0], "rb") as f:
        job = f.read()
    with open(given[3], encoding="utf-8") as f:
        password = f.read().strip()
    key = os.environ.get("KEY") or str(uuid.uuid4())
    if not re.fullmatch("[A-Za-z0-9_-]{1,128}", key):
        print("a key is 1 to 128 of A-Z a-z 0-9 _ -", file=sys.stderr)  # nobody would be answered under another
        return 2
    header = b"NATS/1.0\r\nIdempotency-Key: %s\r\nContent-Type: application/json\r\n\r\n" % key.encode()
    bus = Bus(given[1], given[2], password)
    # Listening begins before the first submission, or a quick receipt would be missed.
    bus.send(f"SUB aethelos.receipt.{CLIENT}.{key} 1\r\n".encode())
    for wait in (1, 2, 4, 8, 16, 32):
        bus.send(f"HPUB aethelos.job.submit.{CLIENT} {len(header)} {len(header) + len(job)}\r\n".encode() + header + job + b"\r\n")
        try:
            receipt = json.loads(bus.message(time.monotonic() + wait))
        except TimeoutError:
            continue
        print(json.dumps({"key": key, **receipt}))
        return 0 if receipt["status"] == "accepted" else 1
    print(f"no receipt yet; run it again with KEY={key}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
