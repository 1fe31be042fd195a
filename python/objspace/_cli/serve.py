"""`objspace serve`: a module's objects, for other processes."""

from __future__ import annotations

import importlib
import inspect
import signal
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from objspace._cli import INTERRUPTED, OK, Complaint, explain, one_line, security

if TYPE_CHECKING:
    from argparse import Namespace
    from types import ModuleType

SHOWN = 8


class Terminated(BaseException):
    """SIGTERM arrived."""


def run(options: Namespace) -> int:
    """Serves until it is told to stop; returns the exit code."""
    try:
        signal.signal(signal.SIGTERM, terminate)
        return serve(options)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Terminated:
        return OK


def serve(options: Namespace) -> int:
    url = options.bind
    names = resolve(options.target)
    import objspace

    arguments = {
        **security(options),
        "policy": objspace.Policy.full() if options.policy == "full" else objspace.Policy.public(),
        "heartbeat": options.heartbeat or None,
        "max_clients": options.max_clients,
        "status": options.status,
        "debug": options.debug,
    }
    # Nothing but the protocol may be written to standard output when that is the connection.
    if url.rstrip("/") == "stdio:":
        return serve_stdio(names, url, arguments)
    try:
        server = objspace.Server(names, url, **arguments)
        server.start()
    except (OSError, ValueError) as error:
        raise explain(error, url, listening=True) from error
    grace = 0.0
    try:
        if not options.quiet:
            announce(options, names, address(server.address, url))
        server.serve_forever()
    except Terminated:
        grace = options.grace
        raise
    finally:
        server.close(grace)
    return OK


def terminate(*_: object) -> NoReturn:
    raise Terminated


def serve_stdio(names: dict[str, Any], url: str, arguments: dict[str, Any]) -> int:
    """Serves the one client that has standard input and output, until it leaves."""
    import objspace

    try:
        objspace.serve(names, url, **arguments)
    except (OSError, ValueError) as error:
        raise explain(error, url, listening=True) from error
    return OK


def announce(options: Namespace, names: dict[str, Any], url: str) -> None:
    policy = options.policy
    shown = ", ".join(list(names)[:SHOWN])
    if len(names) > SHOWN:
        shown += f" and {len(names) - SHOWN} more"
    print(
        f"serving {shown} of {options.target} at {url} (policy {policy}); Ctrl-C ends",
        file=sys.stderr,
    )
    if policy == "full":
        print("policy full: whoever connects can run any code in this process", file=sys.stderr)
    if options.debug:
        print("debug: whoever may debug can run any code in this process", file=sys.stderr)
    if url.startswith("tcp:") and not loopback(url):
        print("tcp: is not encrypted: whoever sees the network reads along", file=sys.stderr)
    sys.stderr.flush()


def loopback(url: str) -> bool:
    """Whether a listener's URL is one that only this machine can reach."""
    import ipaddress
    from urllib.parse import urlsplit

    try:
        return ipaddress.ip_address(urlsplit(url).hostname or "").is_loopback
    except ValueError:
        return False


def address(bound: object, url: str) -> str:
    """The address as a URL, with the port that was really taken."""
    if isinstance(bound, str):
        return bound
    if isinstance(bound, tuple) and len(bound) >= 2:
        host, port = bound[:2]
        return f"tcp://[{host}]:{port}" if ":" in str(host) else f"tcp://{host}:{port}"
    return url


def resolve(target: str) -> dict[str, Any]:
    """The objects that `MODULE[:NAME]` stands for, by name."""
    module_name, colon, path = target.partition(":")
    if not module_name or (colon and not path):
        raise Complaint(
            f"{target!r} names no object; write MODULE or MODULE:NAME, for example app:inventory"
        )
    module = load(module_name)
    if path:
        value: Any = module
        for index, part in enumerate(path.split(".")):
            try:
                value = getattr(value, part)
            except AttributeError:
                raise missing_name(module, path, value, part, first=index == 0) from None
        return {path.rpartition(".")[2]: value}
    names = public_names(module)
    if not names:
        raise Complaint(
            f"module {module_name} defines no public names; name an object, as in "
            f"{module_name}:NAME, or list them in its __all__"
        )
    return names


def load(name: str) -> ModuleType:
    """Imports a module as `python -m` would find it."""
    if "" not in sys.path:
        sys.path.insert(0, "")
    if name.endswith(".py") or "/" in name:
        wanted = name.removesuffix(".py").replace("/", ".").strip(".")
        raise Complaint(f"{name!r} is a file; name the module instead: {wanted}")
    if not all(part.isidentifier() for part in name.split(".")):
        raise Complaint(f"{name!r} is no module name; write it as in an import, for example app")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # The module itself or a package around it; another one means that its own imports fail.
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise Complaint(
                f"no module named {error.name!r}; run this in the directory that holds it, or "
                "install it"
            ) from None
        raise broken(name, error) from error
    except Exception as error:
        raise broken(name, error) from error
    except SystemExit as error:
        raise Complaint(
            f"importing {name} ended the program (exit code {error.code}); put what it runs under "
            "if __name__ == '__main__':"
        ) from error


def broken(name: str, error: Exception) -> Complaint:
    return Complaint(
        f"importing {name} failed: {type(error).__name__}: {one_line(error)}; "
        f"'{sys.executable} -c \"import {name}\"' shows where"
    )


def missing_name(
    module: ModuleType, path: str, holder: object, part: str, *, first: bool
) -> Complaint:
    import difflib

    where = f"module {module.__name__}" if first else path[: path.index(part)].rstrip(".")
    close = difflib.get_close_matches(part, dir(holder), n=1)
    if close:
        hint = f"did you mean {close[0]!r}?"
    elif first and (names := list(public_names(module))):
        hint = f"it has {', '.join(names[:SHOWN])}{', …' if len(names) > SHOWN else ''}"
    else:
        hint = "name one that it has"
    return Complaint(f"{where} has no {part!r}; {hint}")


def public_names(module: ModuleType) -> dict[str, Any]:
    """What the module offers: its `__all__`, else the public names that it defines itself.

    What it imported stays out: `import os` at its top is no offer of `os.system`.
    """
    declared = getattr(module, "__all__", None)
    if declared is not None:
        try:
            return {name: getattr(module, name) for name in declared}
        except AttributeError as error:
            raise Complaint(
                f"the __all__ of module {module.__name__} names {error.name!r}, which it lacks; "
                "correct one of the two"
            ) from error
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and not imported(value, module)
    }


def imported(value: object, module: ModuleType) -> bool:
    if inspect.ismodule(value):
        return True
    if inspect.isclass(value) or inspect.isroutine(value):
        return getattr(value, "__module__", None) != module.__name__
    # `from __future__ import annotations` leaves an object behind.
    return type(value).__module__ == "__future__"
