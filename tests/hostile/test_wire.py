"""A client that speaks the protocol by hand and says what it should not."""

import itertools
import struct

import pytest

from .wire import (
    ASK_CLASS,
    ASK_FRAME,
    CALL,
    CALL_IT,
    CALL_METHOD,
    CANCEL,
    CLOSE,
    CONTENTS,
    DELATTR,
    FETCH,
    GETATTR,
    HELLO,
    KEEP,
    PING,
    REPLY,
    SETATTR,
    SHAPE,
    Ended,
    Named,
    Object,
    Peer,
    Raw,
    Refused,
    answer,
    arguments,
    frame,
    leaves,
    mine,
    named,
    release,
    request,
    root,
    target,
    target_answer,
    text,
    varint,
    yours,
)

# What the default policy of a listener shuts, whatever it stands on.
PRIVATE = [
    "_secret",
    "__class__",
    "__base__",
    "__bases__",
    "__mro__",
    "__subclasses__",
    "__dict__",
    "__globals__",
    "__code__",
    "__closure__",
    "__defaults__",
    "__kwdefaults__",
    "__builtins__",
    "__self__",
    "__func__",
    "__wrapped__",
    "__weakref__",
    "__getattribute__",
    "__setattr__",
    "__delattr__",
    "__reduce__",
    "__reduce_ex__",
    "__getstate__",
    "__setstate__",
    "__init_subclass__",
    "__subclasshook__",
    "__new__",
    "__del__",
    "__get__",
    "__set__",
    "__delete__",
    "__annotations__",
    "__loader__",
    "__spec__",
    "__file__",
    "__traceback__",
    "__cause__",
    "__context__",
    "__slots__",
    "__import__",
    "mro",
    "gi_frame",
    "gi_code",
    "gi_yieldfrom",
    "cr_frame",
    "f_globals",
    "f_locals",
    "f_back",
    "f_builtins",
    "tb_frame",
    "tb_next",
]

MISBEHAVED, MALFORMED, LIMIT = 2, 1, 4


@pytest.fixture
def peer(victim):
    with Peer(victim.url) as peer:
        yield peer


def everything(peer):
    """One of each kind of object that a client can get hold of, with the name of the kind."""
    thing = peer.export("thing")
    method = peer.ask(target(*thing), GETATTR, "add")[:2]
    items = peer.ask(target(*thing), GETATTR, "items")[:2]
    names = peer.ask(target(*thing), GETATTR, "names")[:2]
    generator = peer.ask(target(*thing), CALL_METHOD, "count")[:2]
    with pytest.raises(Refused) as caught:
        peer.ask(target(*thing), CALL_METHOD, "fail")
    error = next(leaf[:2] for leaf in caught.value.args if isinstance(leaf, Object))
    return {
        "instance": thing,
        "function": peer.export("greet"),
        "class": peer.export("Thing"),
        "list": items,
        "dict": names,
        "method": method,
        "generator": generator,
        "exception": error,
    }


def forbidden(found):
    """Frames, code, tracebacks, modules among the objects that came."""
    return [
        leaf for leaf in leaves(found) if isinstance(leaf, Object) and leaf.kind in (11, 16, 17, 18)
    ]


def test_no_private_name_is_read_called_written_or_deleted(peer):
    for kind, where in everything(peer).items():
        for name in PRIVATE:
            for code, extra in ((GETATTR, ()), (CALL_METHOD, ()), (SETATTR, (1,)), (DELATTR, ())):
                with pytest.raises(Refused) as caught:
                    peer.ask(target(*where), code, name, *extra)
                assert Named("builtins", "PermissionError") in caught.value.args, (
                    kind,
                    name,
                    caught.value,
                )


def test_no_attribute_at_all_is_written_or_deleted(peer):
    for where in everything(peer).values():
        for code, extra in ((SETATTR, (1,)), (DELATTR, ())):
            with pytest.raises(Refused, match="attributes may not be written"):
                peer.ask(target(*where), code, "items", *extra)


def test_no_question_to_a_class_leads_to_private_names(peer):
    words = [
        "get",
        "get_for",
        "set",
        "set_for",
        "delete",
        "delete_for",
        "call",
        "call_for",
        "property_get",
        "property_set",
        "property_delete",
    ]
    found = everything(peer)
    for word, name in itertools.product(words, PRIVATE):
        instance = yours(*found["instance"])
        with pytest.raises(Refused) as caught:
            peer.ask(target(*found["class"]), ASK_CLASS, word, name, instance, instance, kind=FETCH)
        assert Named("builtins", "PermissionError") in caught.value.args, (word, name)
    for kind, where in found.items():
        if kind != "class":
            with pytest.raises(Refused, match="a class is asked"):
                peer.ask(target(*where), ASK_CLASS, "get", "__mro__", kind=FETCH)


def test_no_question_to_a_frame_is_answered(peer):
    for where in everything(peer).values():
        with pytest.raises(Refused, match="does not show frames"):
            peer.ask(target(*where), ASK_FRAME, "locals", kind=FETCH)


def test_the_name_of_an_attribute_must_be_text(peer):
    thing = peer.export("thing")
    for name in (1, None, b"items", ("items",), mine(0, 1), yours(*thing)):
        with pytest.raises(Refused):
            peer.ask(target(*thing), GETATTR, name)


@pytest.mark.parametrize("kind", [CALL, FETCH])
def test_no_operation_code_does_harm_or_hands_out_internals(peer, kind):
    found = everything(peer)
    own = mine(0, 1)
    for code, (name, where) in itertools.product(range(256), found.items()):
        if name in ("list", "dict", "generator") and code in (57, 84, 54, 53):
            continue
        for extra in ((), ("items",), (own,), (own, own, own)):
            try:
                result = peer.ask(target(*where), code, *extra, kind=kind)
            except Refused as refusal:
                result = refusal.args
            assert not forbidden(result), (code, name, extra, result)
    assert not forbidden(tuple(peer.seen))


def test_an_unknown_operation_and_an_unknown_fetch_are_refused(peer):
    thing = peer.export("thing")
    for code in (0, 9, 200, 255):
        with pytest.raises(Refused, match=r"unknown operation|no operation"):
            peer.ask(target(*thing), code)
        with pytest.raises(Refused, match="unknown fetch"):
            peer.ask(target(*thing), 100 + code % 100, kind=FETCH)


@pytest.mark.parametrize(
    ("module", "qualname"),
    [
        ("builtins", "open"),
        ("builtins", "eval"),
        ("os", "system"),
        ("subprocess", "Popen"),
        ("builtins", "len.__self__"),
        ("builtins", "__loader__"),
        ("types", "FunctionType"),
        ("types", "CodeType"),
        ("io", "FileIO"),
        ("_io", "open_code"),
        ("threading", "_active"),
        ("builtins", ""),
        ("", ""),
        ("a" * 10_000, "b" * 10_000),
    ],
)
def test_no_name_leads_to_what_runs_code_or_imports(peer, module, qualname):
    thing = peer.export("thing")
    with pytest.raises(Refused) as caught:
        peer.ask(target(*thing), CALL_METHOD, "call", named(module, qualname), "1")
    names = {leaf.qualname for leaf in caught.value.args if isinstance(leaf, Named)}
    assert names & {"PermissionError", "TypeError"}, caught.value


## Ids


def test_forged_ids_end_the_session(victim):
    for slot, generation in ((1 << 20, 1), ((1 << 32) - 1, (1 << 32) - 1), (0, 7), (5, 0)):
        with Peer(victim.url) as peer:
            peer.send(request(CALL, 0, target(slot, generation), GETATTR, arguments("items")))
            end = peer.ended()
            assert end.code == MISBEHAVED, end
        with Peer(victim.url) as peer:
            thing = peer.export("thing")
            payload = arguments("call", yours(slot, generation))
            peer.send(request(CALL, 9, target(*thing), CALL_METHOD, payload))
            # Met while the payload is read, by when the session has gone on: it fails the request.
            with pytest.raises(Refused) as caught:
                peer.reply(9)
            assert Named("objspace", "ProtocolError") in caught.value.args, caught.value


def test_an_id_of_an_old_generation_is_nobody(victim):
    with Peer(victim.url) as peer:
        slot, generation = peer.export("thing")
        peer.send(release((slot, generation, 1)))
        again = peer.export("shelf")
        assert again == (slot, generation + 1)
        peer.send(request(CALL, 9, target(slot, generation), GETATTR, arguments("items")))
        assert peer.ended().code == MISBEHAVED


def test_ids_of_one_session_mean_nothing_in_another(victim):
    with Peer(victim.url) as peer, Peer(victim.url) as other:
        thing = peer.export("thing")
        other.send(request(CALL, 9, target(*thing), GETATTR, arguments("items")))
        assert other.ended().code == MISBEHAVED
        assert isinstance(peer.ask(target(*thing), GETATTR, "items"), Object)


@pytest.mark.parametrize(
    "bodies",
    [
        pytest.param(lambda s, g: [release((s, g, 2))], id="more references than were sent"),
        pytest.param(lambda s, g: [release((s, g, 0))], id="no references"),
        pytest.param(lambda s, g: [release((s, g, 1))] * 2, id="references twice"),
        pytest.param(lambda s, g: [release((s + 1, 1, 1))], id="of nobody"),
        pytest.param(lambda s, g: [release((s, g, 1 << 31))], id="a huge number"),
        pytest.param(lambda s, g: [release(finished=(77,))], id="an unasked question"),
        pytest.param(
            lambda s, g: [request(CALL, 50, target_answer(49), GETATTR, arguments("items"))],
            id="an answer that is not kept",
        ),
        pytest.param(
            lambda s, g: [
                request(CALL, 50, target(s, g), GETATTR, arguments("items"), flags=KEEP),
                request(CALL, 50, target(s, g), GETATTR, arguments("items")),
            ],
            id="a question that is open",
        ),
        pytest.param(lambda s, g: [bytes([REPLY, 3, 0, 1])], id="a reply to nothing"),
        pytest.param(lambda s, g: [bytes([PING, 1]) + bytes(8)], id="a pong without a ping"),
        pytest.param(
            lambda s, g: [bytes([HELLO]) + struct.pack("<HQ", 1, 5) + text("")], id="Hello"
        ),
        pytest.param(lambda s, g: [bytes([99])], id="an unknown message"),
        pytest.param(lambda s, g: [b""], id="an empty message"),
        pytest.param(lambda s, g: [bytes([CANCEL, 0, 0])], id="bytes after the last field"),
    ],
)
def test_misbehaviour_ends_that_session_with_the_reason(victim, bodies):
    with Peer(victim.url) as peer:
        peer.send(*bodies(*peer.export("thing")))
        end = peer.ended()
        assert end.code in (MISBEHAVED, MALFORMED), end
        assert end.reason, "the reason is not said"


def test_an_answer_that_is_not_kept_cannot_be_mentioned(peer):
    thing = peer.export("thing")
    with pytest.raises(Refused) as caught:
        peer.ask(target(*thing), CALL_METHOD, "call", answer(3))
    assert any("answer" in leaf for leaf in caught.value.args if isinstance(leaf, str))


def test_a_cancel_of_nothing_is_ignored(peer):
    peer.send(bytes([CANCEL, 120]))
    assert peer.ask(target(*peer.export("greet")), CALL_IT, "you") == "hello you"


def test_messages_after_a_close_are_not_acted_on(victim):
    with Peer(victim.url) as peer:
        thing = peer.export("thing")
        call = request(CALL, 9, target(*thing), CALL_METHOD, arguments("add", "after the close"))
        peer.send(bytes([CLOSE, 0]) + text("bye"), call)
        assert peer.ended().code in (None, 0, MISBEHAVED)
    with Peer(victim.url) as peer:
        items = peer.ask(target(*peer.export("thing")), GETATTR, "items")[:2]
        assert "after the close" not in peer.ask(target(*items), CONTENTS, kind=FETCH)


## Sizes

TOO_MUCH = {
    "a tuple that claims more elements than there are bytes": Raw(b"\x20" + varint(1 << 40)),
    "text that claims more bytes than there are": Raw(b"\x10" + varint(1 << 40)),
    "bytes that claim more than there are": Raw(b"\x12" + varint(1 << 62)),
    "an integer that claims more than there are": Raw(b"\x09" + varint(1 << 62)),
    "a number in the longer form": Raw(b"\x08\x80\x00"),
    "text that is not UTF-8": Raw(b"\x10\x02\xff\xff"),
    "an unknown tag": Raw(b"\x7f"),
    "nesting without end": Raw(b"\x20\x01" * 1_000_000 + b"\x01"),
    "a mutable container": Raw(b"\x30\x01\x01"),
    "an attachment that is not there": Raw(b"\x13\x05"),
    "a library value of no kind": Raw(b"\x25\xfe\x00"),
    "arguments within arguments": Raw(b"\x26\x00\x00"),
    "an unhashable element": Raw(b"\x21\x01\x30\x00"),
}


@pytest.mark.parametrize("what", TOO_MUCH)
def test_values_that_cannot_be_are_refused_without_harm(victim, what):
    before = victim.resident()
    with Peer(victim.url) as peer:
        greet = peer.export("greet")
        try:
            peer.ask(target(*greet), CALL_IT, TOO_MUCH[what])
        except Ended as end:
            assert end.code in (MALFORMED, MISBEHAVED, LIMIT), end
            assert end.reason
        except Refused as refusal:
            assert any(isinstance(leaf, str) and leaf for leaf in refusal.args)
    assert victim.resident() < before + (64 << 20)


def test_a_frame_beyond_the_limit_is_refused_before_memory_is_reserved(victim):
    before = victim.resident()
    with Peer(victim.url) as peer:
        peer.socket.sendall(struct.pack("<I", (1 << 31) - 1) + b"\x02" * 1000)
        end = peer.ended()
        assert end.code == LIMIT, end
    with Peer(victim.url) as peer:
        peer.socket.sendall(struct.pack("<II", 1 << 31 | 5, 1) + struct.pack("<Q", 1 << 60))
        end = peer.ended()
        assert end.code == LIMIT, end
    assert victim.resident() < before + (32 << 20)


def test_memory_is_reserved_as_bytes_come_in_not_as_they_are_announced(victim):
    before = victim.resident()
    peers = [Peer(victim.url) for _ in range(8)]
    try:
        for peer in peers:
            peer.socket.sendall(struct.pack("<I", 200 << 20) + b"\x02" * 1000)
        victim.check()
        assert victim.resident() < before + (64 << 20)
    finally:
        for peer in peers:
            peer.socket.close()


def test_too_many_requests_under_way_are_refused(victim):
    with Peer(victim.url) as peer:
        wait = peer.ask(target(*peer.export("thing")), GETATTR, "call")[:2]
        # Each call asks this client back, which never answers.
        peer.send(
            *(
                request(CALL, 100 + n, target(*wait), CALL_IT, arguments(mine(n, 1, 8)), thread=n)
                for n in range(4200)
            )
        )
        end = peer.ended()
        assert end.code == LIMIT, end


def test_a_million_references_are_bounded(victim):
    before = victim.resident()
    with Peer(victim.url) as peer:
        greet = peer.export("greet")
        own = b"".join(mine(n, 1) for n in range(200_000))
        try:
            for _ in range(8):
                peer.ask(target(*greet), CALL_IT, Raw(b"\x20" + varint(200_000) + own))
        except (Ended, Refused) as refusal:
            assert refusal.args
    assert victim.resident() < before + (512 << 20)


## Time


def test_a_client_that_says_nothing_holds_up_nobody(victim):
    silent = [Peer(victim.url, greet=False, hello=False) for _ in range(20)]
    half = [Peer(victim.url, greet=False, hello=False) for _ in range(20)]
    try:
        for peer in half:
            peer.socket.sendall(b"OBJS")
        victim.check()
    finally:
        for peer in silent + half:
            peer.socket.close()


def test_a_frame_that_comes_byte_by_byte_holds_up_nobody(victim):
    with Peer(victim.url) as slow:
        greet = slow.export("greet")
        body = frame(request(CALL, 50, target(*greet), CALL_IT, arguments("slow")))
        for byte in body[:-1]:
            slow.socket.sendall(bytes([byte]))
        victim.check()
        slow.socket.sendall(body[-1:])
        assert slow.reply(50) == "hello slow"


def test_a_session_without_hello_is_turned_away(victim):
    with Peer(victim.url, hello=False) as peer:
        peer.send(request(CALL, 0, root(), GETATTR, arguments("thing")))
        end = peer.ended()
        assert end.code in (MISBEHAVED, MALFORMED, 3), end


def test_a_shape_that_makes_no_sense_fails_what_needs_it_only(victim):
    with Peer(victim.url) as peer:
        greet = peer.export("greet")
        peer.send(bytes([SHAPE]) + varint(3) + varint(1) + b"\x20\x00")
        own = Raw(b"\x40" + varint(9) + varint(1) + b"\x00\x00" + varint(3) + varint(1))
        with pytest.raises(Refused):
            peer.ask(target(*greet), CALL_IT, own)
        assert peer.ask(target(*greet), CALL_IT, "you") == "hello you"
