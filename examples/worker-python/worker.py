#!/usr/bin/env python3
"""A worker of an Aethelos operator on the bus: it turns input.text round, and takes its time. Python's standard library only.

    python3 worker.py OPERATOR NATS_URL USER PASSWORD_FILE     (`./aethelos operators worker OPERATOR` prints the last three)

Run as many as you like. It accepts a run, says with every beat that it still has it, and says the result until it hears that it is committed.
What it has done it remembers in the file MEMORY (OPERATOR.done): asked about a run, or given it again, it answers with what came of it.
"""

import json
import os
import socket
import sys
import time
import urllib.parse


class Bus:
    """As much of the NATS text protocol as a worker needs."""

    def __init__(self, url, user, password):
        address = urllib.parse.urlsplit(url)
        self.socket = socket.create_connection((address.hostname, address.port or 4222), timeout=5)
        self.bytes = b""
        options = {"user": user, "pass": password, "verbose": False, "pedantic": False, "headers": True, "no_responders": True, "lang": "python", "version": "1"}
        self.socket.sendall(b"CONNECT %s\r\n" % json.dumps(options).encode())

    def publish(self, subject, body, reply=""):
        body = json.dumps(body).encode()
        self.socket.sendall(f"PUB {subject} {reply} {len(body)}\r\n".encode() + body + b"\r\n")

    def message(self, until=None):
        """(subscription, where to answer, body) of the next message; TimeoutError when none has come by then."""
        while True:
            line, end, rest = self.bytes.partition(b"\r\n")
            word = line.split()
            if end and word[0] in (b"MSG", b"HMSG"):  # subject, subscription, perhaps a reply, in HMSG the length of the headers, the length of all
                length, skip = int(word[-1]), int(word[-2]) if word[0] == b"HMSG" else 0
                if len(rest) >= length + 2:
                    self.bytes = rest[length + 2 :]
                    numbers = 2 if word[0] == b"HMSG" else 1
                    return int(word[2]), word[3].decode() if len(word) > 3 + numbers else None, rest[skip:length]
            elif end:
                self.bytes = rest
                if word[0] == b"PING":
                    self.socket.sendall(b"PONG\r\n")
                elif word[0] == b"-ERR":
                    raise PermissionError(line.decode())
                continue
            self.socket.settimeout(None if until is None else max(0.001, until - time.monotonic()))
            more = self.socket.recv(65536)
            if not more:
                raise ConnectionError("the broker closed the connection")
            self.bytes += more


def main():
    if len(sys.argv) != 5:
        print("usage: worker.py OPERATOR NATS_URL USER PASSWORD_FILE", file=sys.stderr)
        return 2
    operator, url, user, password_file = sys.argv[1:]
    subject, inbox, name = f"aethelos.operator.{operator}", f"_INBOX_{user}.{os.getpid()}", f"{socket.gethostname()} {os.getpid()}"
    with open(password_file, encoding="utf-8") as f:
        bus = Bus(url, user, f.read().strip())
    bus.socket.sendall(f"SUB {subject} {operator} 1\r\nSUB {inbox} 2\r\nSUB {subject}.status 3\r\n".encode())
    memory, answers = os.environ.get("MEMORY", f"{operator}.done"), {}
    if os.path.exists(memory):
        with open(memory, encoding="utf-8") as f:
            answers = dict(json.loads(line) for line in f)

    def told(reply, body):
        """Every worker hears every question, and is silent about runs that it does not know."""
        if answer := answers.get(json.loads(body)["run_id"]):
            bus.publish(reply, answer)

    def ask(what, run, **more):
        """One beat or result, said until it is answered: held, committed, or over."""
        while True:
            bus.publish(f"{subject}.{what}", {"run_id": run["run_id"], "token": run["token"], "worker": name, **more}, inbox)
            until = time.monotonic() + 2
            try:
                while (came := bus.message(until))[0] != 2 or not came[2]:  # a call for the next run waits in `later`; empty: nobody listens yet
                    if came[0] == 1:
                        later.append(came)
                    elif came[0] == 3:
                        told(*came[1:])
            except TimeoutError:
                continue
            return json.loads(came[2])["status"]

    later = []
    while True:
        number, reply, body = later.pop(0) if later else bus.message()
        if number == 3:
            told(reply, body)
        if number != 1:
            continue
        run = json.loads(body)
        if known := answers.get(run["run_id"]):
            bus.publish(reply, known)
            continue
        if not isinstance(run["input"], dict) or not isinstance(run["input"].get("text"), str):
            bus.publish(reply, {"status": "failed", "error": "input.text must be a string", "refused": True})
            continue
        bus.publish(reply, {"status": "accepted", "worker": name})
        answers[run["run_id"]] = {"status": "running"}
        for percent in (25, 50, 75):
            time.sleep(float(os.environ.get("WORK_SECONDS", "1")) / 4)
            if ask("beat", run, percent=percent, progress="turning") != "held":
                del answers[run["run_id"]]
                break
        else:
            answer = {"status": "done", "output": {"text": run["input"]["text"][::-1]}}
            with open(memory, "a", encoding="utf-8") as f:  # before it is said: what is done is done once
                f.write(json.dumps([run["run_id"], answer]) + "\n")
            answers[run["run_id"]] = answer
            print(run["run_id"], ask("result", run, **answer), flush=True)


if __name__ == "__main__":
    sys.exit(main())
