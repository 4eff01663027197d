"""Lets a test stop, kill or fail a process exactly before one of its file operations.

Python imports this at its start because its folder is on the path. It changes nothing of what runs:
the interpreter tells its audit hooks of each operation before it is done, and then a signal is
sent or an error raised there. ``strace`` can do the same at system calls, but without its filter
(which sends no signals) the imports alone take a minute.

The environment says what and where, as JSON in ``FAULT``: ``event`` (``write`` is an open for
writing, ``read`` any other one; ``rename``, ``link``, ``mkdir``, ``remove``), ``path`` (a regular
expression searched in the path, of the target where there are two), ``when`` (the how manieth of
these, or several; 0 is each), and ``signal`` or ``errno``, or ``gate``: a file at which the process
waits as long as it exists, having put one beside it whose name goes on with its host and number; or
``pause_s``: it waits so long. With ``list``, all of them in the folder ``path`` are written to that
file. With ``clock``, the wall clock jumps by so many seconds every time it is asked, to and fro.
"""

import json
import os
import re
import sys
import threading
import time

_NAMES = {
    "os.rename": "rename",
    "os.link": "link",
    "os.symlink": "link",
    "os.mkdir": "mkdir",
    "os.remove": "remove",
    "os.truncate": "write",
}


def _operation(event, arguments):
    """What a file operation is called here, and its path; None for anything else."""
    if event == "open":
        path, _, flags = arguments
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
        return ("write" if writes else "read"), path
    if event in _NAMES:
        two = event in ("os.rename", "os.link", "os.symlink")
        return _NAMES[event], arguments[1] if two else arguments[0]
    return None


def _wait_at(gate):
    open(f"{gate}.{os.uname().nodename}.{os.getpid()}", "w").close()
    while os.path.exists(gate):
        time.sleep(0.05)


def _install(fault):
    wanted = re.compile(fault["path"])
    when = fault.get("when")
    turns = when if isinstance(when, list) else [when]
    seen = 0
    busy = False

    def hook(event, arguments):
        nonlocal seen, busy
        if not event.startswith(("open", "os.")):
            return
        found = _operation(event, arguments)
        if found is None or not isinstance(found[1], str | bytes | os.PathLike) or busy:
            return
        kind, path = found[0], os.fsdecode(found[1])
        if not wanted.search(path) or threading.current_thread() is not threading.main_thread():
            return
        if "list" in fault:
            busy = True
            if kind != "read":
                with open(fault["list"], "a") as file:
                    file.write(f"{kind} {path}\n")
            busy = False
        elif kind == fault["event"]:
            seen += 1
            if 0 in turns or seen in turns:
                if "errno" in fault:
                    raise OSError(fault["errno"], os.strerror(fault["errno"]), path)
                if "gate" in fault:
                    _wait_at(fault["gate"])
                if "pause_s" in fault:
                    time.sleep(fault["pause_s"])
                if "signal" in fault:
                    os.kill(os.getpid(), fault["signal"])

    sys.addaudithook(hook)


def _jumping(jump_s):
    """A wall clock that nobody can measure a time with."""
    now_s, asked = time.time, 0

    def jumped():
        nonlocal asked
        asked += 1
        return now_s() + jump_s * (-1) ** asked

    return jumped


if "FAULT" in os.environ:
    _fault = json.loads(os.environ["FAULT"])
    if "clock" in _fault:
        time.time = _jumping(_fault["clock"])
    else:
        _install(_fault)
