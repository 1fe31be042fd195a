"""Runs the demo: a server process, then a client process that explores what it serves.

The exit code says whether everything was as it must be.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
PARSE_TIMEOUT = 40
CLIENT_TIMEOUT = 60


def main():
    started = time.monotonic()
    python = f"Python {'.'.join(map(str, sys.version_info[:3]))}"
    print(f"Server: {python} parses its standard library", flush=True)
    # Output of three processes is to appear in the order in which it is written.
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    server = subprocess.Popen(
        [sys.executable, str(HERE / "server" / "main.py")],
        stdout=subprocess.PIPE,
        text=True,
        env=env,
    )
    try:
        url = server.stdout.readline().strip()
        if not url:
            print(f"demo failed: the server ended with {server.wait(10)}", file=sys.stderr)
            return 1
        print(f"Server: process {server.pid} listens at {url}", flush=True)
        client = subprocess.run(
            [sys.executable, str(HERE / "client" / "explore.py"), url],
            env=env,
            timeout=CLIENT_TIMEOUT,
            check=False,
        )
        if server.poll() is not None:
            print(f"demo failed: the server ended with {server.returncode}", file=sys.stderr)
            return 1
    except subprocess.TimeoutExpired:
        print(f"demo failed: the client took over {CLIENT_TIMEOUT} s", file=sys.stderr)
        return 1
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            print("demo failed: the server had to be killed", file=sys.stderr)
            client = None
        server.stdout.close()
    if client is None or client.returncode or server.returncode:
        code = client.returncode if client else "?"
        print(f"demo failed: client {code}, server {server.returncode}", file=sys.stderr)
        return 1
    print(f"\nDone in {time.monotonic() - started:.1f} s; both processes have ended.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
