"""A channel that is slow, and cuts what it carries into pieces at random places."""

from __future__ import annotations

import random
import socket
import threading
import time


class Chaos:
    """Listens, connects each client to `address`, and passes bytes on in pieces of any size."""

    def __init__(self, address, seed, *, delay=0.0):
        host, _, port = address.removeprefix("tcp://").rpartition(":")
        self.target = host, int(port)
        self.seed, self.delay = seed, delay
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self.listener.getsockname()[1]}"
        self.sockets = []
        self.threads = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(self.target)
            for end in client, server:
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sockets += client, server
            for number, (source, sink) in enumerate(((client, server), (server, client))):
                thread = threading.Thread(
                    target=self.pump,
                    args=(source, sink, random.Random(self.seed * 2 + number)),
                    daemon=True,
                )
                thread.start()
                self.threads.append(thread)

    def pump(self, source, sink, choice):
        try:
            while data := source.recv(choice.choice((1, 3, 17, 1000, 65536))):
                while data:
                    size = choice.choice((1, 2, 7, 100, len(data)))
                    sink.sendall(data[:size])
                    data = data[size:]
                    if self.delay and choice.random() < 0.1:
                        time.sleep(choice.random() * self.delay)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self):
        self.listener.close()
        for end in self.sockets:
            end.close()
        for thread in self.threads:
            thread.join(10)
