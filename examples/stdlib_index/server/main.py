"""The server: parses the standard library of this Python, then serves the index over TCP."""

import pickle
import sys
import sysconfig
import time
from pathlib import Path

import index
import objspace

SKIPPED = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
# A slow machine serves what it has read by then; the demo says so.
LONGEST_PARSE = 15.0


def sources(root):
    """The library's modules with their files, without its tests."""
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if not SKIPPED.intersection(parts) and not parts[0].startswith(("config-", "lib2to3")):
            yield ".".join(parts).removesuffix(".__init__"), path


def progress(total):
    """A function that shows how far the parse has come: a bar on a terminal, else some lines."""
    if sys.stderr.isatty():
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        bar = Progress(
            TextColumn("  parsing"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[at]}"),
        )
        bar.start()
        task = bar.add_task("parsing", total=total, at="")

        def show(done, name):
            bar.update(task, completed=done, at=name)
            if done == total:
                bar.stop()

        return show

    step = max(1, -(-total // 5))

    def say(done, _name):
        if done == total or done % step == 0:
            print(f"  parsed {done} of {total} modules", file=sys.stderr, flush=True)

    return say


def build(root):
    files = list(sources(root))
    show = progress(len(files))
    built, started = index.Index(), time.monotonic()
    for done, (name, path) in enumerate(files, 1):
        if time.monotonic() - started > LONGEST_PARSE:
            show(len(files), "")
            print(f"  stopped at {done - 1} modules: this machine is slow", file=sys.stderr)
            break
        built.add(name, path)
        show(done, name)
    return built


def main():
    built = build(Path(sysconfig.get_path("stdlib")))

    def size_if_copied():
        """The bytes of the whole index as a pickle, the least that copying it would move."""
        return len(pickle.dumps(built, protocol=pickle.HIGHEST_PROTOCOL))

    names = {
        "index": built,
        "Index": index.Index,
        "Module": index.Module,
        "NotIndexed": index.NotIndexed,
        "size_if_copied": size_if_copied,
    }
    # The client looks into frames of this process with pdb, so it gets every right: both ends
    # are ours. A listener's default, Policy.public(), refuses that.
    server = objspace.Server(names, "tcp://127.0.0.1:0", policy=objspace.Policy.full())
    server.start()
    print(server.address, flush=True)
    # Whoever started this process ends it by closing its standard input, or by dying.
    sys.stdin.read()
    server.close()


if __name__ == "__main__":
    main()
