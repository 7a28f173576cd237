#!/usr/bin/env python3
"""Counts the records of log files by the rules in the documentation of libs/records, independently of its code.

    corpus_counts.py FOLDER             a JSON line for each file: {"file": …, "records": …}
    corpus_counts.py FOLDER COUNTS      compares with the lines of `count` (examples/count.rs); exits with 1 if any differs

Covered: plain and gzip, JSON text in any layout and damage, flow logs as text, and what is none of these. Not Parquet.
"""

import base64
import binascii
import gzip
import json
import os
import re
import sys
import zlib

ENVELOPE_KEYS = {"Records", "Findings", "findings", "Events"}
MAX_ENVELOPES = 32
MAX_DEPTH = 512
MAX_NOT_CLOSED = 16
WHITE = " \t\r\n"

FLOW_FIELDS = set(
    """version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action log-status
    vpc-id subnet-id instance-id tcp-flags type pkt-srcaddr pkt-dstaddr region az-id sublocation-type sublocation-id
    pkt-src-aws-service pkt-dst-aws-service flow-direction traffic-path ecs-cluster-arn ecs-cluster-name
    ecs-container-instance-arn ecs-container-instance-id ecs-container-id ecs-second-container-id ecs-service-name
    ecs-task-definition-arn ecs-task-arn ecs-task-id reject-reason resource-id encryption-status instance-tag
    instance-tag-2 interface-tag interface-tag-2 asg-tag asg-tag-2 interface-type next-hop-interface-id
    next-hop-subnet-id next-hop-az-id next-hop-vpc-id next-hop-interface-type""".split()
)


# A flow log: every line but blank ones and headers.

def is_flow_line(line):
    words = line.split()
    return (
        len(words) == 14
        and re.fullmatch(r"\d{1,2}", words[0]) is not None
        and words[12] in ("ACCEPT", "REJECT", "-")
        and words[13] in ("OK", "NODATA", "SKIPDATA")
    )


def is_flow_header(line):
    words = [word.replace("_", "-") for word in line.split()]
    return sum(word in FLOW_FIELDS for word in words) >= 2 and all(re.fullmatch(r"[a-z][A-Za-z0-9-]*", word) for word in words)


# One JSON value: a record, an envelope, or wrapping.

def is_record(value):
    keys = value.keys()
    events = [("eventTime", "eventtime"), ("eventSource", "eventsource"), ("eventName", "eventname"), ("insightDetails", "insightdetails")]
    if sum(any(name in keys for name in names) for names in events) >= 2:
        return True
    if {"digestS3Object", "logFiles"} <= keys:
        return True
    if value.get("kind") == "Event" and {"verb", "auditID", "requestURI"} & keys:
        return True
    if isinstance(value.get("ProductArn"), str) and {"GeneratorId", "AwsAccountId", "Resources", "SchemaVersion"} & keys:
        return True
    def either(name):
        return name in keys or name[0].upper() + name[1:] in keys
    typed = any(isinstance(value.get(name), str) for name in ("type", "Type"))
    return typed and either("schemaVersion") and either("severity") and (either("service") or either("resource"))


def found_in(value, top, depth=0):
    """How many records are in a value; None if none was found, so that the value itself is one that is not known."""
    if depth >= MAX_ENVELOPES:
        return None
    if isinstance(value, dict):
        return found_in_object(value, top, depth + 1)
    if isinstance(value, list):
        counts = [found_in(element, False, depth + 1) for element in value]
        if all(count is None for count in counts):
            return None
        return sum(1 if count is None else count for count in counts)
    if isinstance(value, str):
        return found_in_text(value.strip(), depth + 1)
    return None


def each(values, depth):
    counts = [found_in(value, False, depth) for value in values]
    return sum(1 if count is None else count for count in counts)


def found_in_object(value, top, depth):
    if is_record(value):
        return 1
    if top:
        is_log = "messageType" in value and "logEvents" in value
        if is_log and value["messageType"] == "CONTROL_MESSAGE":
            return 0
        envelope, total = False, 0
        for key, array in value.items():
            if not isinstance(array, list):
                continue
            if key in ENVELOPE_KEYS or (key == "logEvents" and is_log) or (key == "items" and value.get("kind") == "EventList"):
                total += each(array, depth)
            elif key == "QueryResultRows":
                for row in array:
                    merged = {}
                    for column in row if isinstance(row, list) else []:
                        merged.update(column if isinstance(column, dict) else {})
                    count = found_in(merged, True, depth)
                    total += 1 if count is None else count
            else:
                continue
            envelope = True
        if envelope:
            return total
    counts = [found_in(member, False, depth) for member in value.values()]
    counts = [count for count in counts if count is not None]
    return sum(counts) if counts else None


def found_in_text(text, depth):
    if text[:1] in ("{", "["):
        values, rest = leading_values(text)
        counts = [found_in(value, True, depth) for value in values]
        if all(count is None for count in counts):
            return None
        return sum(1 if count is None else count for count in counts) + (1 if rest else 0)
    if is_flow_line(text):
        return 1
    if text.startswith("H4sI"):
        try:
            inner = gzip.decompress(base64.b64decode(text, validate=True)).decode()
        except (binascii.Error, OSError, EOFError, zlib.error, UnicodeDecodeError):
            return None
        return found_in_text(inner.strip(), depth)
    return None


def leading_values(text):
    decoder, values = json.JSONDecoder(), []
    while text:
        try:
            value, end = decoder.raw_decode(text)
        except (ValueError, RecursionError):
            return values, text
        values.append(value)
        text = text[end:].lstrip()
    return values, text


# JSON text: values cut out by their brackets, broken ones passed over.

STARTS = re.compile(r'\{"(?:eventVersion|schemaVersion|SchemaVersion)"|\{"kind":"Event"|(?<=\n)[ \t\r]{0,255}[{\[]')


def next_start(text, start):
    """Where the next record can begin, counted from the line break or bracket at `start`."""
    match = STARTS.search(text, start)
    return None if match is None else match.end() - 1 if match.group()[-1] in "{[" else match.start()


def known_start(text, start):
    match = re.compile(STARTS.pattern.rsplit("|", 1)[0]).search(text, start)
    return match and match.start()


def extent(text, at):
    """The end of the value at `at`, None if it is not closed."""
    first = text[at]
    if first not in '{["':
        match = re.compile(r"[,\]}\s]").search(text, at)
        return match.start() if match else len(text)
    close, depth, in_string = {"{": "}", "[": "]", '"': ""}[first], 0, False
    escaped = False
    while at < len(text):
        char = text[at]
        if char == '"' and not escaped:
            in_string = not in_string
            if not in_string and depth == 0:
                return at + 1
        elif char == first and not in_string:
            depth += 1
        elif char == close and not in_string:
            depth -= 1
            if depth == 0:
                return at + 1
        # Also outside strings, where valid JSON has none.
        escaped = char == "\\" and not escaped
        at += 1
    return None


def line_break_in_string(text):
    in_string = escaped = False
    for at, char in enumerate(text):
        if in_string and char == "\n":
            return at
        if char == '"' and not escaped:
            in_string = not in_string
        escaped = char == "\\" and not escaped
    return None


def too_deep(text):
    depth = deepest = 0
    for char in re.sub(r'"(?:[^"\\]|\\.)*"', '""', text):
        if char in "{[":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "}]":
            depth -= 1
    return deepest > MAX_DEPTH


def refuse_constant(name):
    raise ValueError(name)


def parse(text):
    if too_deep(text):
        raise ValueError("too deep")
    return json.loads(text, parse_constant=refuse_constant)


KEY = re.compile(r'("(?:[^"\\]|\\.)*")\s*:\s*(?=\S)')
ENVELOPE_HEAD = re.compile(r'\{\s*"(?:%s)"\s*:\s*\[' % "|".join(ENVELOPE_KEYS))


def envelope(text):
    """Where the elements of an envelope begin, in text that is not valid as a whole."""
    at, is_audit = 1, False
    while True:
        at += len(text[at:]) - len(text[at:].lstrip(WHITE + ","))
        key = KEY.match(text, at)
        if key is None:
            return None
        name, at = key.group(1)[1:-1], key.end()
        if text[at] == "[" and (name in ENVELOPE_KEYS or is_audit and name == "items"):
            return at + 1
        is_audit = is_audit or name == "kind" and text.startswith('"EventList"', at)
        at = extent(text, at)
        if at is None:
            return None


def count_json(text):
    at, records, not_closed = 0, 0, 0
    mode, ended_badly = "top", False
    while True:
        ignored = {"top": WHITE + ",}]", "elements": WHITE + ",}", "elements of": WHITE + ",}", "members": WHITE + ",]"}[mode]
        ignored = ignored.replace("]", "") if mode == "members" else ignored
        while at < len(text) and text[at] in ignored:
            at += 1
        if at >= len(text):
            break
        ended_badly = False
        char = text[at]
        if mode == "top" and char == "[":
            mode, at = "elements", at + 1
            continue
        if mode.startswith("elements") and char == "]":
            mode, at = ("members" if mode == "elements of" else "top"), at + 1
            continue
        if mode == "members" and char == "}":
            mode, at = "top", at + 1
            continue
        if mode == "members" and char == '"':
            key = KEY.match(text, at)
            end = key and extent(text, key.end())
            if key and text[key.end()] == "[" and key.group(1)[1:-1] in ENVELOPE_KEYS:
                mode, at = "elements of", key.end() + 1
                continue
            if end:
                at = end
                continue
        if mode == "top" and char == "{":
            head = ENVELOPE_HEAD.match(text, at)
            if head:
                mode, at = "elements of", head.end()
                continue
        begins = char == "{" if mode == "top" else mode != "members" and char in '{["-0123456789tfn'
        scope = text
        if begins and not_closed > MAX_NOT_CLOSED:
            line_end = text.find("\n", at)
            scope = text if line_end < 0 else text[:line_end]
        end = extent(scope, at) if begins else None
        if end is None:
            not_closed += begins
            mode = "top" if mode == "members" else mode
            records += 1
            start = next_start(text, at + 1)
            ended_badly = start is None
            at = len(text) if start is None else start
            continue
        value = text[at:end]
        try:
            count = found_in(parse(value), True)
        except (ValueError, RecursionError):
            inside = envelope(value) if mode == "top" and char == "{" else None
            broken = line_break_in_string(value)
            start = next_start(value, broken) if broken is not None else known_start(value, 1)
            if inside is not None:
                mode, at = "elements of", at + inside
            elif start is not None:
                not_closed, records, at = not_closed + 1, records + 1, at + start
            else:
                records, at = records + 1, end
            continue
        records += 1 if count is None else count
        at = end
    return records + (mode != "top" and not ended_badly)


def count(data):
    for _ in range(2):
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return 1
    lines = text.split("\n")
    if not text.strip(WHITE):
        return 0
    if text.lstrip(WHITE)[0] in "{[" and text.lstrip(WHITE)[1:2] != "\0":
        return count_json(text)
    for line in text.lstrip(WHITE).split("\n")[:8]:
        if is_flow_line(line) or is_flow_header(line):
            return sum(bool(line.strip()) and not is_flow_header(line) for line in lines)
        if known_start(line, 0) is not None:
            return count_json(text)
    return 1


def main():
    folder = sys.argv[1]
    ours = {}
    for root, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(root, name)
            with open(path, "rb") as file:
                ours[os.path.relpath(path, folder)] = count(file.read())
    if len(sys.argv) < 3:
        for path in sorted(ours):
            print(json.dumps({"file": path, "records": ours[path]}))
        return 0
    with open(sys.argv[2]) as file:
        theirs = {line["file"]: line["records"] for line in map(json.loads, file)}
    differing = [path for path in sorted(ours.keys() | theirs.keys()) if ours.get(path) != theirs.get(path)]
    for path in differing:
        print(f"{path}: counted here {ours.get(path)}, there {theirs.get(path)}")
    print(f"{len(ours)} files, {sum(ours.values())} records, {len(differing)} files differ")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.setrecursionlimit(10_000)
    sys.exit(main())
