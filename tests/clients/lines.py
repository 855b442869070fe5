"""Takes the lines of a real text through the official client: one process of several.

    lines.py post URL COUNT             posts the first COUNT lines of the standard library
    lines.py work URL SEED CLAIM_COUNT  claims and deletes; dies after about CLAIM_COUNT claims

What happens is told on standard output as it happens: a JSON document a line, each written by one
call, so that what a process said stands when it dies. The driver, lines.rs, kills the server
meanwhile, reads what is told, and judges it.
"""

import json
import os
import random
import select
import sys
import sysconfig
import time
import zlib

from requests.exceptions import RequestException
from zaqarclient.queues import client as clients
from zaqarclient.transport import errors

PROJECT = "clients"
QUEUE = "lines"
LINES_PER_POST = 50
MESSAGE_TTL_S = 3600
MESSAGES_PER_CLAIM = 20
CLAIM_TTL_S = 5
CLAIM_GRACE_S = 60

# How long the server may be away before it counts as gone, and how often it is tried.
ANSWER_DEADLINE_S = 60
RETRY_INTERVAL_S = 0.02
# How long a worker waits before it asks an empty queue again, unless it is told to stop.
IDLE_INTERVAL_S = 0.05

# The exit code of a worker that died on purpose.
DIED = 17


def tell(**event):
    """One write, so that the line is whole whenever the process ends."""
    os.write(1, json.dumps(event).encode() + b"\n")


def unless_away(call):
    """Calls until there is an answer. Only for what may be done twice."""
    deadline = time.monotonic() + ANSWER_DEADLINE_S
    while True:
        try:
            return call()
        except (RequestException, errors.ServiceUnavailableError):
            if time.monotonic() > deadline:
                raise
            time.sleep(RETRY_INTERVAL_S)


def connect(url):
    auth_opts = {"backend": "noauth", "options": {"os_project_id": PROJECT}}
    client = clients.Client(url, version=1, conf={"auth_opts": auth_opts})
    return unless_away(lambda: client.queue(QUEUE))


def text_lines(count):
    """The first lines of the standard library's own sources: a text every Python brings along."""
    lines = []
    for folder, folders, files in os.walk(sysconfig.get_paths()["stdlib"]):
        folders[:] = sorted(set(folders) - {"site-packages", "dist-packages", "__pycache__"})
        for name in sorted(files):
            if not name.endswith(".py"):
                continue
            with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as file:
                lines += [line.rstrip("\n") for line in file]
            if len(lines) >= count:
                return lines[:count]
    sys.exit(f"the standard library has {len(lines)} lines; {count} were asked for")


def checksum(line):
    return zlib.crc32(line.encode())


def id_of(href):
    return href.rpartition("/")[2].partition("?")[0]


def post(url, count):
    """Posts all lines. `at` numbers every message ever sent, those sent again included."""
    lines = text_lines(count)
    queue = connect(url)
    at = 0
    for first in range(0, count, LINES_PER_POST):
        batch = lines[first : first + LINES_PER_POST]
        answer = None
        deadline = time.monotonic() + ANSWER_DEADLINE_S
        while answer is None:
            messages = [
                {"ttl": MESSAGE_TTL_S, "body": {"at": at + index, "line": line}}
                for index, line in enumerate(batch)
            ]
            tell(event="sending", at=at, checksums=[checksum(line) for line in batch])
            try:
                answer = queue.post(messages)
                ids = [id_of(href) for href in answer["resources"]]
                tell(event="posted", at=at, ids=ids)
            except (RequestException, errors.ServiceUnavailableError):
                # Nobody knows whether it was stored: it is sent again, and may be there twice.
                if time.monotonic() > deadline:
                    raise
                time.sleep(RETRY_INTERVAL_S)
            at += len(batch)


def is_told_to_stop(wait_s):
    """Whether the driver has closed standard input."""
    return bool(select.select([0], [], [], wait_s)[0])


def work(url, seed, claim_count):
    dice = random.Random(seed)
    claims_left = dice.randint(claim_count // 2 + 1, claim_count + claim_count // 2 + 1)
    queue = connect(url)
    while not is_told_to_stop(0):
        messages = claim(queue)
        if not messages:
            is_told_to_stop(IDLE_INTERVAL_S)
            continue
        claims_left -= 1
        # The last claim is left in the middle, the message in hand included.
        delete_count = dice.randrange(len(messages)) if claims_left == 0 else len(messages)
        for message in messages[:delete_count]:
            delete(message)
        if claims_left == 0:
            os._exit(DIED)


def claim(queue):
    def once():
        sent_ns = time.monotonic_ns()
        return sent_ns, queue.claim(ttl=CLAIM_TTL_S, grace=CLAIM_GRACE_S, limit=MESSAGES_PER_CLAIM)

    sent_ns, claimed = unless_away(once)
    messages = list(claimed)
    if messages:
        tell(
            event="claimed",
            claim=claimed.id,
            sent_ns=sent_ns,
            answered_ns=time.monotonic_ns(),
            messages=[
                [id_of(message.href), message.body["at"], checksum(message.body["line"])]
                for message in messages
            ],
        )
    return messages


def delete(message):
    try:
        unless_away(message.delete)
    except (errors.MalformedRequest, errors.ForbiddenError):
        # The claim is over: another worker has the message, or will.
        tell(event="refused")
    else:
        tell(event="deleted", id=id_of(message.href), answered_ns=time.monotonic_ns())


def main():
    role, url, *numbers = sys.argv[1:]
    {"post": post, "work": work}[role](url, *map(int, numbers))


if __name__ == "__main__":
    main()
