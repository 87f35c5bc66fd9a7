"""A worker of a build on this machine: ``python -m tracemill.dataset.worker CHANNEL LIFE``, started by
:mod:`tracemill.dataset.processes`, with two open descriptors.

Over the channel come the plan and then parts with their arguments; back go results. Nothing is ever written to the other
descriptor: it ends when the process that holds its other side does, however that ends, and the worker goes with it.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from multiprocessing.connection import Connection
from typing import Any

from tracemill.core.errors import DatasetError
from tracemill.dataset.site import Site


def main() -> None:
    """Work until the channel is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started us decides what an interruption means
    channel, life = (int(argument) for argument in sys.argv[1:3])
    threading.Thread(target=_end_with, args=(life,), daemon=True).start()
    connection: Connection[Any, Any] = Connection(channel)
    site: Site | None = None
    try:
        site = Site.of(connection.recv())
        while True:
            part, argument = connection.recv()
            connection.send(_done(site, part, argument))
    except EOFError:
        pass
    except Exception as error:  # noqa: BLE001 - a plan or part that cannot be loaded here: whoever sent it has to know
        connection.send((False, _sendable(error)))
    finally:
        if site is not None:
            site.close()


def _done(site: Site, part: Any, argument: Any) -> tuple[bool, Any]:
    try:
        return True, part(site, argument)
    except Exception as error:  # noqa: BLE001 - it is raised where the build was begun
        return False, _sendable(error)


def _sendable(error: Exception) -> Exception:
    """The error itself where it survives being sent, else one that says the same."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - just written
    except Exception:  # noqa: BLE001 - whatever an error of a step's author does when it is copied
        return DatasetError(f"{type(error).__name__}: {error}")
    return error


def _end_with(descriptor: int) -> None:
    os.read(descriptor, 1)
    os._exit(1)


if __name__ == "__main__":
    main()
