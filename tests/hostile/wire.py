"""The protocol of docs/protocol.md, spoken by hand, so that anything at all can be said.

It is written from that page alone, and shares no code with the package.
"""

import contextlib
import os
import socket
import struct
import typing

HELLO, CALL, REPLY, CANCEL, RELEASE, SHAPE, FETCH, PING, CLOSE = range(1, 10)

GETATTR, SETATTR, DELATTR, DIR, CALL_IT, CALL_METHOD = 1, 2, 3, 4, 10, 11
ITER, GETITEM = 56, 52
CONTENTS, EXPORTED_NAMES, ASK_CLASS, ASK_FRAME = 1, 6, 10, 11

KEEP = 1


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def text(string):
    return varint(len(string.encode())) + string.encode()


class Raw(bytes):
    """The bytes of a value, taken as they are."""


def yours(slot, generation):
    """An object of the receiver."""
    return Raw(b"\x41" + varint(slot) + varint(generation))


def mine(slot, generation, kind=0x01):
    """An object of the sender, of a builtin kind."""
    return Raw(b"\x40" + varint(slot) + varint(generation) + bytes([kind]))


def answer(question):
    return Raw(b"\x42" + varint(question))


def named(module, qualname):
    return Raw(b"\x24" + text(module) + text(qualname))


def value(thing):
    if isinstance(thing, Raw):
        return bytes(thing)
    if thing is None:
        return b"\x01"
    if isinstance(thing, bool):
        return b"\x02" if thing else b"\x03"
    if isinstance(thing, int):
        return b"\x08" + varint(thing * 2 if thing >= 0 else -2 * thing - 1)
    if isinstance(thing, str):
        return b"\x10" + text(thing)
    if isinstance(thing, bytes):
        return b"\x12" + varint(len(thing)) + thing
    if isinstance(thing, tuple):
        return b"\x20" + varint(len(thing)) + b"".join(map(value, thing))
    raise TypeError(thing)


def arguments(*positional, **keywords):
    out = b"\x26" + varint(len(positional)) + varint(len(keywords))
    out += b"".join(map(value, positional))
    for name, item in keywords.items():
        out += value(name) + value(item)
    return out


def root():
    return b"\x00"


def target(slot, generation):
    return b"\x01" + varint(slot) + varint(generation)


def target_answer(question):
    return b"\x02" + varint(question)


def request(kind, question, to, code, payload, *, flags=0, thread=1, parent=0):
    body = bytes([kind]) + varint(question) + varint(thread) + varint(parent) + to + bytes([code])
    return body + (bytes([flags]) if kind == CALL else b"") + payload


def release(*entries, finished=()):
    out = bytes([RELEASE]) + varint(len(entries))
    for slot, generation, count in entries:
        out += varint(slot) + varint(generation) + varint(count)
    return out + varint(len(finished)) + b"".join(map(varint, finished))


def frame(body):
    return struct.pack("<I", len(body)) + body


class Ended(Exception):
    """The other side closed: its code and its reason, or None and nothing said."""

    def __init__(self, code, reason):
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class Refused(Exception):
    """A request was answered with an error, which holds these names and texts."""


class Object(typing.NamedTuple):
    """An object of the other side."""

    slot: int
    generation: int
    kind: int
    of: object


class Named(typing.NamedTuple):
    module: str
    qualname: str


class Yours(typing.NamedTuple):
    slot: int
    generation: int


class Reader:
    """Values as the other side sends them, containers as tuples."""

    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, count):
        piece = self.data[self.at : self.at + count]
        assert len(piece) == count, "cut off"
        self.at += count
        return piece

    def varint(self):
        number = shift = 0
        while True:
            byte = self.take(1)[0]
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
            shift += 7

    def text(self):
        return self.take(self.varint()).decode()

    def id(self):
        return self.varint(), self.varint()

    def values(self, count):
        return tuple(self.value() for _ in range(count))

    def value(self):
        tag = self.take(1)[0]
        match tag:
            case 0x01 | 0x02 | 0x03 | 0x04 | 0x05:
                return {1: None, 2: True, 3: False, 4: ..., 5: NotImplemented}[tag]
            case 0x08:
                number = self.varint()
                return number // 2 if number % 2 == 0 else -(number + 1) // 2
            case 0x09 | 0x0A | 0x11 | 0x12 | 0x33:
                return self.take(self.varint())
            case 0x0B:
                return struct.unpack("<d", self.take(8))[0]
            case 0x0C:
                return struct.unpack("<2d", self.take(16))
            case 0x10:
                return self.text()
            case 0x20 | 0x21 | 0x30 | 0x31:
                return self.values(self.varint())
            case 0x22 | 0x23:
                return self.values(3)
            case 0x24:
                return Named(self.text(), self.text())
            case 0x25:
                kind = self.take(1)[0]
                return (kind, *self.values(self.varint()))
            case 0x26:
                positional, keywords = self.varint(), self.varint()
                return (*self.values(positional), *self.values(2 * keywords))
            case 0x32:
                return self.values(2 * self.varint())
            case 0x40:
                return self.object()
            case 0x41:
                return Yours(*self.id())
        if 0x80 <= tag <= 0xBF:
            return tag & 0x3F
        if tag >= 0xC0:
            return self.take(tag & 0x3F).decode()
        raise AssertionError(f"unknown tag {tag:#x}")

    def object(self):
        slot, generation = self.id()
        kind = self.take(1)[0]
        of = None
        if kind == 0:
            where = self.take(1)[0]
            of = (self.text(), self.text()) if where == 2 else self.id()
        elif kind >= 128:
            of = (self.text(), self.text())
        return Object(slot, generation, kind, of)


def leaves(thing):
    """Everything in a value that is no container."""
    if type(thing) is tuple:
        for item in thing:
            yield from leaves(item)
    else:
        yield thing


class Peer:
    """One connection. `receive` gives what comes; `ask` sends a request and waits for its reply."""

    def __init__(self, url, *, greet=False, hello=True):
        host, port = url.removeprefix("tcp://").rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.question = 0
        self.seen = []
        try:
            if greet:
                self.greet()
            if hello:
                # The other side's may come with its first answer.
                self.send(bytes([HELLO]) + struct.pack("<HQ", 1, 12345) + text("by hand"))
        except BaseException:
            self.socket.close()
            raise

    def greet(self):
        """The handshake before the session, without a key."""
        self.socket.sendall(b"OBJSPACE\x01\x00" + struct.pack("<H", 1) + os.urandom(32))
        reply = self.read(44)
        assert reply[:8] == b"OBJSPACE", reply
        assert reply[9] == 0, reply

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.socket.close()

    def read(self, count):
        out = bytearray()
        while len(out) < count:
            try:
                piece = self.socket.recv(min(count - len(out), 1 << 20))
            except ConnectionError:
                piece = b""
            if not piece:
                raise Ended(None, "")
            out += piece
        return bytes(out)

    def send(self, *bodies):
        # If it is refused, why is said by what can still be read.
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(b"".join(map(frame, bodies)))

    def receive(self):
        """The next message: its type and its body after that. `Ended` if it is the last."""
        (length,) = struct.unpack("<I", self.read(4))
        assert length < 1 << 31, "attachments are not asked for here"
        body = self.read(length)
        if body[0] == CLOSE:
            reader = Reader(body[2:])
            raise Ended(body[1], reader.text())
        return body[0], body[1:]

    def reply(self, question):
        """The value of the reply to `question`, or `Refused`."""
        while True:
            kind, body = self.receive()
            if kind in (CALL, FETCH):
                # Whatever it asks of this side's objects, the answer is None.
                asked = Reader(body).varint()
                self.send(bytes([REPLY]) + varint(asked) + b"\x00\x01")
            if kind == PING and body[0] == 0:
                self.send(bytes([PING, 1]) + body[1:])
            if kind == SHAPE:
                reader = Reader(body)
                reader.id()
                self.seen.append(reader.value())
            if kind == REPLY:
                reader = Reader(body)
                if reader.varint() != question:
                    continue
                failed = reader.take(1)[0]
                result = reader.value()
                self.seen.append(result)
                if failed:
                    raise Refused(*leaves(result))
                return result

    def ask(self, to, code, *positional, kind=CALL, **keywords):
        self.question += 1
        payload = arguments(*positional, **keywords)
        self.send(request(kind, self.question, to, code, payload))
        return self.reply(self.question)

    def export(self, name):
        """The slot and the generation of an exported object."""
        found = self.ask(root(), GETITEM, name)
        assert isinstance(found, Object), found
        return found[:2]

    def ended(self):
        """Reads until the other side ends the session; how it did."""
        try:
            while True:
                self.receive()
        except Ended as end:
            return end
