"""Every call of v1 that the official client offers, against the server at the URL given.

    api.py URL

Plain asserts: the first that does not hold ends the program with its traceback.
"""

import sys
import uuid

from zaqarclient.queues import client as clients
from zaqarclient.transport import errors


def connect(url, project="clients"):
    """A client of its own: no two share what the server calls Client-ID."""
    auth_opts = {"backend": "noauth", "options": {"os_project_id": project}}
    conf = {"auth_opts": auth_opts, "client_uuid": uuid.uuid4().hex}
    return clients.Client(url, version=1, conf=conf)


def id_of(message):
    """The id of a message, which v1 shows only as the end of its address."""
    return message.href.rpartition("/")[2].partition("?")[0]


def post(queue, *bodies):
    """Posts one message for each body and returns their ids, in order."""
    answer = queue.post([{"ttl": 300, "body": body} for body in bodies])
    assert answer["partial"] is False
    assert len(answer["resources"]) == len(bodies)
    return [resource.rpartition("/")[2] for resource in answer["resources"]]


def bodies_of(messages):
    return [message.body for message in messages]


def raises(error, call):
    """Whether the call is answered with just this error."""
    try:
        call()
    except error:
        return True
    return False


def queues_come_and_go(url):
    client = connect(url, project="queues")
    assert client.health()
    assert list(client.queues()) == []

    names = ["a", "b-1", "b_2", "C", "d"]
    for name in names:
        client.queue(name)
    assert client.queue("a").exists()
    assert not client.queue("nowhere", auto_create=False).exists()

    in_order = sorted(names)
    assert [queue.name for queue in client.queues()] == in_order
    assert [queue.name for queue in client.queues(limit=2)] == in_order[:2]
    assert [queue.name for queue in client.queues(limit=2).stream()] == in_order
    assert [queue.name for queue in client.queues(marker="a", detailed=True)] == in_order[2:]
    assert list(connect(url, project="others").queues()) == []

    for name in names:
        client.queue(name, auto_create=False).delete()
    assert not client.queue("a", auto_create=False).exists()
    assert list(client.queues()) == []
    assert raises(errors.MalformedRequest, lambda: client.queue("n" * 65))


def metadata_is_kept(url):
    queue = connect(url).queue("metadata")
    assert queue.metadata() == {}
    document = {"colour": "blau", "größe": [1, 2.5, None, True], "nested": {"": "\u0000"}}
    assert queue.metadata(document) == document
    assert queue.metadata(force_reload=True) == document
    assert connect(url).queue("metadata").metadata() == document
    queue.metadata({})
    assert connect(url).queue("metadata").metadata() == {}
    assert raises(errors.MalformedRequest, lambda: queue.metadata({"_mine": 1}))
    queue.delete()
    assert raises(errors.ResourceNotFound, lambda: queue.metadata(force_reload=True))


def stats_count(url):
    queue = connect(url).queue("stats")
    assert queue.stats == {"messages": {"free": 0, "claimed": 0, "total": 0}}
    first, _, last = post(queue, 1, 2, 3)
    claim = queue.claim(ttl=60, grace=60, limit=1)
    messages = queue.stats["messages"]
    assert (messages["free"], messages["claimed"], messages["total"]) == (2, 1, 3)
    assert messages["oldest"]["href"].endswith(first)
    assert messages["newest"]["href"].endswith(last)
    claim.delete()
    assert queue.stats["messages"]["claimed"] == 0
    queue.delete()
    assert raises(errors.ResourceNotFound, lambda: queue.stats)


def messages_are_posted_and_read(url):
    writer, reader = connect(url), connect(url)
    queue = writer.queue("messages")
    seen_by_reader = reader.queue("messages")
    odd_ones = [None, 0, "", [], {}, False, "\u0000", "ünï \U0001f600", {"a": [1.5, -7, 2**63 - 1]}]
    ids = post(queue, *odd_ones)

    one = queue.message(ids[7])
    assert (one.body, one.ttl, one.claim_id) == (odd_ones[7], 300, None)
    assert 0 <= one.age < 60
    assert bodies_of(queue.messages(ids[8], ids[0], "unknown")) == [odd_ones[8], odd_ones[0]]

    assert bodies_of(seen_by_reader.messages()) == odd_ones
    assert bodies_of(queue.messages()) == [], "a client does not hear its own echo"
    assert bodies_of(queue.messages(echo=True)) == odd_ones
    assert bodies_of(seen_by_reader.messages(limit=2)) == odd_ones[:2]
    assert bodies_of(seen_by_reader.messages(limit=2).stream()) == odd_ones

    page = reader.follow("/v1/queues/messages/messages?limit=4")
    assert len(page["messages"]) == 4
    rest = reader.follow(page["links"][0]["href"])
    assert [message["body"] for message in rest["messages"]] == odd_ones[4:8]

    single = queue.post({"ttl": 60, "body": "not in a list"})
    assert len(single["resources"]) == 1
    for bad in ({"ttl": 59, "body": 1}, {"ttl": 300}, {"body": 1}, {"ttl": "300", "body": 1}):
        assert raises(errors.MalformedRequest, lambda: queue.post(bad))
    assert raises(errors.MalformedRequest, lambda: queue.messages(limit=21))
    assert raises(errors.ResourceNotFound, lambda: queue.message("unknown"))

    empty = connect(url).queue("empty")
    assert list(empty.messages()) == []
    empty.delete()
    assert list(empty.messages()) == []
    assert raises(errors.ResourceNotFound, lambda: post(empty, 1))
    queue.delete()


def messages_are_deleted(url):
    queue = connect(url).queue("deletes")
    ids = post(queue, *range(6))
    queue.message(ids[0]).delete()
    assert raises(errors.ResourceNotFound, lambda: queue.message(ids[0]))
    one = queue.message(ids[1])
    one.delete()
    one.delete()
    queue.delete_messages(ids[2], ids[3], "unknown")
    assert bodies_of(queue.messages(echo=True)) == [4, 5]
    too_many = [f"unknown-{number}" for number in range(21)]
    assert raises(errors.MalformedRequest, lambda: queue.delete_messages(*too_many))
    queue.delete()


def claims_hand_out_and_take_back(url):
    queue, other = connect(url).queue("claims"), connect(url).queue("claims")
    assert list(queue.claim(ttl=60, grace=60)) == []
    ids = post(queue, *range(5))

    claim = queue.claim(ttl=100, grace=300, limit=3)
    held = list(claim)
    assert bodies_of(held) == [0, 1, 2]
    assert [id_of(message) for message in held] == ids[:3]
    assert {message.claim_id for message in held} == {claim.id}
    assert {message.ttl for message in held} == {400}, "a claim keeps its messages alive"

    rest = other.claim(ttl=60, grace=60)
    assert bodies_of(rest) == [3, 4]
    assert list(other.claim(ttl=60, grace=60)) == []
    assert bodies_of(other.messages()) == []
    assert bodies_of(other.messages(include_claimed=True)) == [0, 1, 2, 3, 4]

    read_again = other.claim(id=claim.id)
    assert read_again.ttl == 100
    assert 0 <= read_again.age < 60
    assert bodies_of(read_again) == [0, 1, 2]

    held[0].delete()
    assert raises(errors.ForbiddenError, lambda: queue.message(ids[1]).delete())
    assert bodies_of(other.claim(id=claim.id)) == [1, 2]

    claim.update(ttl=500, grace=60)
    assert other.claim(id=claim.id).ttl == 500
    assert raises(errors.MalformedRequest, lambda: claim.update(ttl=59, grace=60))
    assert raises(errors.ResourceNotFound, lambda: list(queue.claim(id="unknown")))

    claim.delete()
    assert raises(errors.ResourceNotFound, lambda: claim.update(ttl=60, grace=60))
    assert raises(errors.MalformedRequest, held[1].delete)
    assert bodies_of(queue.claim(ttl=60, grace=60)) == [1, 2]
    assert raises(errors.MalformedRequest, lambda: queue.claim(ttl=59, grace=60))
    queue.delete()


CHECKS = [
    queues_come_and_go,
    metadata_is_kept,
    stats_count,
    messages_are_posted_and_read,
    messages_are_deleted,
    claims_hand_out_and_take_back,
]


def main():
    (url,) = sys.argv[1:]
    for check in CHECKS:
        check(url)
    print(f"official client: {len(CHECKS)} checks passed")


if __name__ == "__main__":
    main()
