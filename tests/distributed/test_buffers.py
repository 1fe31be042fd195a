"""Buffers of remote objects: a read-only copy, with its format and shape, in one round trip."""

import array
import struct
import zlib

import pytest
from objspace.distributed import pair, session_of

from .test_contents import Count

SETUP = """
import array, mmap
raw = bytearray(b"abcdef")
view = memoryview(b"abcdef")
part = memoryview(bytearray(b"abcdef"))[::2]
ints = array.array("i", [1, 2, 3])
doubles = array.array("d", [1.5, -2.5])
square = memoryview(array.array("h", range(6))).cast("B").cast("h", (2, 3))
empty = bytearray()
large = bytearray(range(256)) * 4096
nothing = object()
"""


def test_the_bytes_format_and_shape_arrive(link):
    remote = link(SETUP)
    assert bytes(remote.raw) == b"abcdef"
    assert bytes(remote.view) == b"abcdef"
    assert bytes(remote.part) == b"ace"
    assert bytes(remote.empty) == b""
    ints = memoryview(remote.ints)
    assert (ints.format, ints.itemsize, ints.shape, ints.tolist()) == ("i", 4, (3,), [1, 2, 3])
    square = memoryview(remote.square)
    assert (square.format, square.shape, square.strides) == ("h", (2, 3), (6, 2))
    assert square.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert square.c_contiguous
    assert memoryview(remote.doubles).tolist() == [1.5, -2.5]


@pytest.mark.parametrize(
    "operation",
    [
        bytes,
        bytearray,
        zlib.crc32,
        lambda p: struct.unpack("<3H", p),
        lambda p: int.from_bytes(p, "little"),
        lambda p: b"".join([p]),
        lambda p: array.array("b", bytes(p)).tolist(),
    ],
    ids=["bytes", "bytearray", "crc32", "unpack", "from_bytes", "join", "array"],
)
def test_c_code_reads_a_buffer_in_one_round_trip(link, operation):
    remote = link(SETUP)
    raw = remote.raw
    with Count(remote) as count:
        assert operation(raw) == operation(bytearray(b"abcdef"))
    assert count.round_trips == 1


def test_a_large_buffer_is_used_where_it_was_received(link):
    remote = link(SETUP)
    large = remote.large
    with Count(remote) as count:
        view = memoryview(large)
    assert count.round_trips == 1
    assert len(view) == 1 << 20
    assert view[:256].tobytes() == bytes(range(256))
    # The exporter owns the memory that the message was read into.
    assert type(view.obj).__name__ == "RemoteBuffer"


def test_the_copy_is_read_only_and_says_so(link):
    remote = link(SETUP)
    view = memoryview(remote.raw)
    assert view.readonly
    with pytest.raises(TypeError, match="read-only"):
        view[0] = 1
    with pytest.raises(TypeError, match="read-write"):
        struct.pack_into("B", remote.raw, 0, 1)
    # Its own methods write over there.
    remote.raw[0] = 65
    assert bytes(remote.raw) == b"Abcdef"
    assert bytes(view) == b"abcdef"


def test_what_has_no_buffer_fails_as_over_there(link):
    remote = link(SETUP)
    with pytest.raises(TypeError, match="object"):
        memoryview(remote.nothing)


def test_a_buffer_in_the_other_direction(link):
    remote = link("def crc(data):\n    import zlib\n    return zlib.crc32(data)")
    data = bytearray(range(256)) * 1024
    assert remote.crc(data) == zlib.crc32(data)


def test_buffers_leave_no_references_behind(link, no_leaks):
    remote = link(SETUP)
    raw, large = remote.raw, remote.large
    with no_leaks(remote):
        bytes(raw)
        memoryview(large).release()


def test_bytes_beside_the_message_come_back_whole():
    here, _there = pair({}, {"echo": lambda data: data})
    for size in (0, 1, 65_535, 65_536, 65_537, 3 << 20):
        data = bytes(size)
        assert here.remote.echo(data) == data
    here.close()


def test_numpy_reads_a_remote_array_in_one_round_trip(link):
    numpy = pytest.importorskip("numpy")
    remote = link(SETUP)
    doubles = remote.doubles
    with Count(remote) as count:
        taken = numpy.asarray(memoryview(doubles))
    assert taken.tolist() == [1.5, -2.5]
    assert count.round_trips == 1
    assert not taken.flags.writeable
    # It gives the buffer back at once and keeps the object alone.
    taken = numpy.frombuffer(remote.ints, dtype="i4")
    assert numpy.frombuffer(remote.ints, dtype="i4").tolist() == [1, 2, 3]
    remote.ints[0] = 7
    assert numpy.frombuffer(remote.ints, dtype="i4").tolist() == [7, 2, 3]
    assert taken.tolist() == [1, 2, 3]
    assert numpy.array(remote.square).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_remote_numpy_array(link):
    numpy = pytest.importorskip("numpy")
    remote = link("import numpy\nmatrix = numpy.arange(6.0).reshape(2, 3)\nturned = matrix.T")
    session_of(remote).adopt(numpy.ndarray)
    matrix = remote.matrix
    assert type(matrix) is numpy.ndarray
    with Count(remote) as count:
        taken = numpy.asarray(matrix)
    assert (taken == numpy.arange(6.0).reshape(2, 3)).all()
    assert count.round_trips == 1
    assert numpy.asarray(remote.turned).tolist() == [[0, 3], [1, 4], [2, 5]]
    assert (matrix + 1).shape == (2, 3)
    assert matrix[1, 2] == 5.0
