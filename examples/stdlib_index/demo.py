"""Runs the demo: a server process, then a client process that explores what it serves.

The exit code says whether everything was as it must be.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# What three processes print is to appear in the order in which it is printed.
ENVIRONMENT = {**os.environ, "PYTHONUNBUFFERED": "1"}
LONGEST_CLIENT = 40


def main():
    started = time.monotonic()
    problem = run()
    if problem:
        print(f"demo failed: {problem}", file=sys.stderr)
        return 1
    print(f"\nDone in {time.monotonic() - started:.1f} s; both processes have ended.")
    return 0


def run():
    """Runs both processes; returns what went wrong, or None."""
    python = ".".join(map(str, sys.version_info[:3]))
    print(f"Server: Python {python} parses its standard library", flush=True)
    server = subprocess.Popen(
        [sys.executable, str(HERE / "server" / "main.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    try:
        url = server.stdout.readline().strip()
        if not url:
            return f"the server ended early, with {server.wait(10)}"
        print(f"Server: process {server.pid} listens at {url}", flush=True)
        client = subprocess.run(
            [sys.executable, str(HERE / "client" / "explore.py"), url],
            stdin=subprocess.DEVNULL,
            timeout=LONGEST_CLIENT,
            check=False,
            env=ENVIRONMENT,
        )
        server.stdin.close()
        server.wait(10)
    except subprocess.TimeoutExpired as expired:
        return f"{Path(expired.cmd[1]).name} took over {expired.timeout:.0f} s"
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
        server.stdin.close()
    if client.returncode:
        return f"the client ended with {client.returncode}"
    if server.returncode:
        return f"the server ended with {server.returncode}"
    return None


if __name__ == "__main__":
    sys.exit(main())
