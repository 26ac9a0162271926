#!/usr/bin/env python3
"""Reads an onboarding log from Kafka: every event that counts, one JSON line each; void messages are skipped (FORMAT.md, "Kafka log").

    python3 read_kafka.py BROKERS TOPIC        (needs confluent-kafka, read_kafka.requirements.txt)

A reader that goes on where it stopped keeps (offset, epoch, claim, sequence) of each partition; this one begins at the beginning.
"""
import json
import re
import sys

from confluent_kafka import Consumer, TopicPartition

ID, NUMBER, WHOLE = re.compile(r"(?!0{32})[0-9a-f]{32}"), re.compile(r"0|-?[1-9][0-9]*"), (0, 2**64)
RECORD = {"sequence": WHOLE, "version": WHOLE, "count": (1, 2**32), "flags": (0, 4), "due": (-2**63, 2**63), "time": (-2**63, 2**63)}
HEADERS = {
    "claim": {"claim": ID, "epoch": WHOLE},
    "events": {"claim": ID, "record": ID, **RECORD},
    "barrier": {"claim": ID, "record": ID},
    "release": {"claim": ID},
}


def entry_of(message):
    """The headers that its kind asks for, or None when one is missing, doubled or of another form."""
    found = [(name, (value or b"").decode("latin-1")) for name, value in message.headers() or ()]
    kinds = [value for name, value in found if name == "kind"]
    if len(kinds) != 1 or kinds[0] not in HEADERS:
        return None
    entry = {"kind": kinds[0]}
    for name, form in HEADERS[kinds[0]].items():
        values = [value for header, value in found if header == name]
        if len(values) != 1 or not (ID if form is ID else NUMBER).fullmatch(values[0]):
            return None
        entry[name] = values[0] if form is ID else int(values[0])
        if form is not ID and not form[0] <= entry[name] < form[1]:
            return None
    return entry if entry["kind"] != "events" or 1 <= len(message.key() or b"") <= 200 else None


class Partition:
    def __init__(self):
        self.offset, self.epoch, self.claim, self.sequence = -1, 0, None, 0

    def counts(self, message):
        assert message.offset() == self.offset + 1, "a message is missing"
        self.offset, entry = message.offset(), entry_of(message)
        if entry is None:
            return None
        if entry["kind"] == "claim" and entry["epoch"] == self.epoch + 1:
            self.epoch, self.claim = entry["epoch"], entry["claim"]
        elif entry["kind"] == "release" and entry["claim"] == self.claim:
            self.claim = None
        elif entry["kind"] == "events" and entry["claim"] == self.claim and entry["sequence"] == self.sequence + 1:
            self.sequence += entry["count"]
            return entry
        return None


def main(brokers, topic):
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "read_kafka", "enable.auto.commit": False, "auto.offset.reset": "error"})
    places = [TopicPartition(topic, p, 0) for p in sorted(consumer.list_topics(topic, 10).topics[topic].partitions)] or sys.exit(f"there is no topic {topic}")
    consumer.assign(places)
    ends, read = {p.partition: consumer.get_watermark_offsets(p, 10)[1] for p in places}, {p.partition: Partition() for p in places}
    while any(read[p].offset + 1 < end for p, end in ends.items()):
        message = consumer.poll(10)
        if message is None or message.error():
            sys.exit(f"the broker does not go on: {message and message.error()}")
        entry = read[message.partition()].counts(message)
        for n, event in enumerate(json.loads(message.value())["events"] if entry else ()):
            print(json.dumps({"partition": message.partition(), "sequence": entry["sequence"] + n, "stream": message.key().decode(), "version": entry["version"] + n, **event}))


if __name__ == "__main__":
    main(*sys.argv[1:]) if len(sys.argv) == 3 else sys.exit(__doc__)
