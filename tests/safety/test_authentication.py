"""Who may come in: keys, certificates, and each way to be turned away, in one clear line."""

import contextlib
import os
import pathlib
import socket
import threading
import time

import objspace
import pytest
from objspace import TLS, AuthenticationError

SOURCE = "def greet(name): return 'hello ' + name"


def test_the_right_key_lets_in(serving, connected, monkeypatch, tmp_path):
    for url in ("tcp://127.0.0.1:0", "tls://127.0.0.1:0", f"unix://{tmp_path}/s"):
        server = serving(SOURCE, url, key="a secret")
        assert connected(server.url, key="a secret").greet("Ann") == "hello Ann"
        assert connected(server.url, key=b"a secret").greet("Ann") == "hello Ann"
        monkeypatch.setenv("OBJSPACE_KEY", "a secret")
        assert connected(server.url).greet("Ann") == "hello Ann"
        monkeypatch.delenv("OBJSPACE_KEY")
        (tmp_path / "key").write_text("a secret\n")
        monkeypatch.setenv("OBJSPACE_KEY_FILE", str(tmp_path / "key"))
        assert connected(server.url).greet("Ann") == "hello Ann"
        wanted = "does not trust" if url.startswith("tls") else "asks for a key"
        with pytest.raises(AuthenticationError, match=wanted):
            connected(server.url, key=b"")
        monkeypatch.delenv("OBJSPACE_KEY_FILE")


def refused(url, wanted, **settings):
    with pytest.raises(ConnectionError) as caught:
        objspace.connect(url, retry=60, **settings)
    text = str(caught.value)
    assert wanted in text
    assert "\n" not in text
    assert url in text, "the line names the endpoint"
    return caught.value


def test_wrong_keys_are_refused_at_once_on_both_sides(serving):
    for scheme in ("tcp", "tls"):
        server = serving(SOURCE, f"{scheme}://127.0.0.1:0", key="a secret")
        error = refused(server.url, "refused this side's key", key="wrong")
        assert isinstance(error, AuthenticationError)
    server = serving(SOURCE)
    error = refused(server.url, "has no key, and so cannot prove who it is", key="a secret")
    assert isinstance(error, AuthenticationError)


def test_a_made_up_certificate_needs_the_key(serving):
    server = serving(SOURCE, "tls://127.0.0.1:0", key="a secret")
    refused(server.url, "does not trust", key=b"")


def test_certificates_on_both_sides(serving, connected, certificates):
    tls = {**certificates.server, "ca": certificates.ca}
    server = serving(SOURCE, "tls://127.0.0.1:0", tls=tls)
    ours = TLS(**certificates.client, ca=certificates.ca)
    assert connected(server.url, tls=ours).greet("Ann") == "hello Ann"
    # Large values both ways: TLS cuts them in records.
    text = "x" * 3_000_000
    assert connected(server.url, tls=ours).greet(text) == "hello " + text


def test_each_wrong_certificate_is_one_line(serving, certificates):
    def check(server, wanted, **client):
        url = serving(SOURCE, "tls://127.0.0.1:0", tls=server).url
        error = refused(url, wanted, tls=TLS(**{"ca": certificates.ca, **client}))
        assert isinstance(error, AuthenticationError)

    asking = {**certificates.server, "ca": certificates.ca}
    check(certificates.expired, "has expired")
    check(certificates.elsewhere, "it is for elsewhere.example, not for 127.0.0.1")
    check(certificates.server, "does not trust", ca=certificates.other_ca)
    check(asking, "asks for a certificate of this side")
    check(asking, "refused this side's certificate", **certificates.unknown_client)


def test_files_that_are_wrong_are_named(certificates, tmp_path):
    for settings, wanted in [
        ({"cert": "/nowhere.pem", "key": "/nowhere.key"}, "cannot read /nowhere.pem"),
        ({}, "give cert= and key="),
        ({"key": certificates.server["key"]}, "give cert= as well"),
    ]:
        with pytest.raises(ValueError, match=wanted):
            objspace.Server({}, "tls://127.0.0.1:0", tls=TLS(**settings))
    with pytest.raises(ValueError, match="write tls://"):
        objspace.Server({}, "tcp://127.0.0.1:0", tls=TLS(**certificates.server))
    with pytest.raises(ValueError, match="write tls://"):
        objspace.connect("tcp://127.0.0.1:1", tls=TLS(ca=certificates.ca))
    with pytest.raises(ValueError, match=r"needs a certificate.*or a shared key"):
        objspace.Server({}, "tls://127.0.0.1:0", key=b"")
    with pytest.raises(TypeError, match="key must be bytes or str"):
        objspace.Server({}, "tcp://127.0.0.1:0", key=7)


def test_tls_and_plain_do_not_mix(serving):
    server = serving(SOURCE, "tls://127.0.0.1:0", key="a secret")
    refused(server.url.replace("tls", "tcp"), "speaks TLS", key="a secret")
    server = serving(SOURCE, key="a secret")
    refused(server.url.replace("tcp", "tls"), "does not speak TLS", key="a secret")


@pytest.mark.parametrize("url", ["tcp://0.0.0.0:0", "tls://0.0.0.0:0", "tcp://[::]:0"])
def test_nobody_listens_to_the_network_without_asking_who_it_is(url, certificates):
    """RPyC, managers and Dask workers were reached on 0.0.0.0 without a word of who it was."""
    settings = {"tls": TLS(**certificates.server)} if url.startswith("tls") else {}
    with pytest.raises(PermissionError, match="can be reached from other machines"):
        objspace.Server({}, url, key=b"", **settings)
    objspace.Server({}, url, key="a secret", **settings).close()
    if url.startswith("tls"):
        asking = TLS(**certificates.server, ca=certificates.ca)
        objspace.Server({}, url, tls=asking).close()


def test_a_listener_listens_where_it_was_told():
    with objspace.Server({}, "tcp://127.0.0.1:0") as server:
        port = int(server.address.rpartition(":")[2])
        addresses = listening(port)
    assert addresses == {"0100007F"}, "127.0.0.1 and nowhere else"


def listening(port):
    found = set()
    for table in ("tcp", "tcp6"):
        for line in pathlib.Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            address, number = fields[1].split(":")
            if int(number, 16) == port and fields[3] == "0A":
                found.add(address)
    return found


def test_an_error_of_the_system_keeps_its_number(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        url = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(OSError, match="cannot listen on") as caught:
            objspace.Server({}, url)
        assert caught.value.errno == 98
    with pytest.raises(ConnectionRefusedError, match="cannot connect to") as caught:
        objspace.connect(url)
    assert caught.value.errno == 111
    with pytest.raises(ConnectionError) as caught:
        objspace.connect(f"unix://{tmp_path}/absent")
    assert caught.value.errno == 2


@contextlib.contextmanager
def answering(answer):
    """Something that is no objspace server: sends `answer` to whoever connects."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def run():
            with contextlib.suppress(OSError):
                peer, _ = listener.accept()
                with peer:
                    peer.settimeout(20)
                    if answer is not None:
                        peer.sendall(answer)
                    while peer.recv(4096):
                        pass

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(20)


VERSION_2 = b"OBJSPACE" + bytes([1, 0, 2, 0]) + bytes(32)
HANDSHAKE_7 = b"OBJSPACE" + bytes([7, 0, 1, 0]) + bytes(32)


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", 'is no objspace server: it said "SSH-2.0-OpenSSH_9.2p1"'),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", 'is no objspace server: it said "HTTP/1.1 400 Bad'),
        (VERSION_2, "speaks version 2 of the protocol and this side version 1"),
        (HANDSHAKE_7, "speaks version 7 of the handshake"),
        (b"OBJSPACE" + bytes([1, 99, 1, 0]) + bytes(32), "makes no sense (code 99)"),
    ],
)
def test_what_is_no_objspace_server_is_recognised(answer, wanted):
    with answering(answer) as url:
        refused(url, wanted)


def test_a_server_that_says_nothing_is_given_up():
    with answering(None) as url, pytest.raises(ConnectionError, match=r"within 0\.3 s"):
        objspace.connect(url, timeout=0.3)


def test_a_server_that_leaves_is_named():
    with answering(b"OBJ") as url:
        # Whoever accepted leaves when this end stops sending.
        host, port = url.removeprefix("tcp://").split(":")
        with socket.create_connection((host, int(port))) as early:
            early.sendall(b"x")
    with pytest.raises(ConnectionError):
        objspace.connect(url)


def raw(url):
    host, _, port = url.removeprefix("tcp://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=20)


def test_unfinished_handshakes_keep_nobody_out(serving, connected):
    """More half-open handshakes than a server holds: the oldest go, honest clients get in."""
    server = serving(SOURCE, key="a secret", handshake_timeout=60)
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(raw(server.url)) for _ in range(200)]
        for peer in idle:
            with contextlib.suppress(OSError):
                peer.sendall(b"OBJSP")
        assert connected(server.url, key="a secret").greet("Ann") == "hello Ann"
        assert server.descriptors() < 200 * 2


def test_a_byte_now_and_then_does_not_keep_a_handshake_open(serving):
    server = serving(SOURCE, handshake_timeout=0.5)
    with raw(server.url) as slow:
        started = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() - started < 20:
                slow.sendall(b"OBJSPACE"[:1])
                slow.settimeout(0.1)
                with contextlib.suppress(TimeoutError):
                    if slow.recv(100) == b"":
                        break
        assert time.monotonic() - started < 10


def test_there_are_no_more_clients_than_allowed(serving, connected):
    server = serving(SOURCE, max_clients=2)
    first = connected(server.url)
    connected(server.url)
    with pytest.raises(ConnectionError, match="serves as many clients as it may"):
        connected(server.url)
    from objspace.distributed import session_of

    session_of(first).close()
    assert connected(server.url, retry=20).greet("Ann") == "hello Ann"


def test_trying_again_waits_for_a_server(tmp_path, connected, serving):
    url = f"unix://{tmp_path}/late"
    with pytest.raises(ConnectionError):
        connected(url, retry=0.2)
    started = threading.Event()

    def start():
        serving(SOURCE, url)
        started.set()

    thread = threading.Thread(target=start)
    thread.start()
    assert connected(url, retry=30).greet("Ann") == "hello Ann"
    thread.join()
    assert started.is_set()


def test_a_socket_file_is_for_its_user_only(serving, tmp_path):
    serving(SOURCE, f"unix://{tmp_path}/s")
    assert os.stat(tmp_path / "s").st_mode & 0o777 == 0o600


def test_keys_are_not_shown(certificates):
    with objspace.Server({}, "tcp://127.0.0.1:0", key="very secret") as server:
        shown = [repr(server), str(server), repr(TLS(**certificates.server))]
    assert "very secret" not in "".join(shown)
