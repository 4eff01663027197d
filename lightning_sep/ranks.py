"""The processes that train one run together: how they are started, meet, and notice each other's
end.

The first process, rank 0, is the command that the user gave or a worker. It tells the others what
to train, run after run, through a store that it holds; they do nothing of their own accord. On one
machine it starts them itself; on several, `srun` starts all at once. Whoever finds that another one
is gone ends or says so, so that nobody waits for ever.
"""

import atexit
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeAlias

from lightning_sep import errors
from lightning_sep.checks import refusal
from lightning_sep.errors import ConfigError, LightningSepError, RankLost
from lightning_sep.faults import breaks_process, chain

Order: TypeAlias = Mapping[str, Any]
"""What is to be trained, as JSON types."""

SILENT_S = 45.0  # a process without a sign of life for so long is lost: a node that is gone
GRACE_S = 10.0  # between the end of one process and that of those that cannot go on without it
MEET_S = 300.0  # for starting a process and its imports, on a busy machine
_LOOK_S = 0.5
_FOR_EVER = timedelta(days=30)
_SEAT = "LIGHTNING_SEP_SEAT"


@dataclass(frozen=True)
class Seat:
    """A process's place among those that train together.

    Args:
        rank: its number; the first one is 0.
        world: how many there are.
        host: where the first one is reached,
        port: and at which port.
        parent: process that started it and ends it; ``None`` where Slurm does.
    """

    rank: int
    world: int
    host: str
    port: int
    parent: int | None = None


def seat(environment: Mapping[str, str]) -> Seat | None:
    """This process's place among the tasks that one ``srun`` has started; ``None`` when it has
    started one or none.

    Raises:
        ConfigError: Slurm does not say where they meet.
    """
    if not environment.get("SLURM_STEP_NUM_TASKS", "1").isdecimal():
        return None
    world = int(environment.get("SLURM_STEP_NUM_TASKS", "1"))
    if world < 2:
        return None
    try:
        rank, host = int(environment["SLURM_PROCID"]), environment["SLURM_LAUNCH_NODE_IPADDR"]
        job, step = int(environment["SLURM_JOB_ID"]), int(environment["SLURM_STEP_ID"])
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"{world} tasks of a step of Slurm cannot meet: {error} is not set as srun sets it"
        ) from error
    return Seat(rank, world, host, 20000 + (7 * job + step) % 12000)


class _Team:
    """The other processes, as the first one sees them.

    Args:
        world: how many there are, this one included.
        place: where they meet when Slurm has started them; else they are started here.
    """

    def __init__(self, world: int, place: Seat | None) -> None:
        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        self.world = world
        self.over = False
        self.orders = 0
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._working = False
        self._lost: str | None = None
        within: dict[str, Any] = {}
        if place is None:
            own = socket.create_server(("127.0.0.1", 0))
            host, port = "127.0.0.1", own.getsockname()[1]
            within["master_listen_fd"] = own.detach()
        else:
            host, port = place.host, place.port
        self.store = TCPStore(
            host, port, is_master=True, wait_for_workers=False, timeout=_FOR_EVER, **within
        )
        self._beats = TCPStore(host, port, is_master=False, wait_for_workers=False)
        if place is None:
            for rank in range(1, world):
                self._children[rank] = _started(Seat(rank, world, host, port, os.getpid()))
        atexit.register(self.end)
        threading.Thread(target=self._watch, name="ranks", daemon=True).start()

    def order(self, order: Order) -> int:
        """Tell the others what to train; returns the number of the order when all are ready.

        Raises:
            RankLost: one of them is gone, or does not come.
        """
        number, ranks = self.orders, order["ranks"]
        self.orders += 1
        self.store.set(f"order/{number}", json.dumps(dict(order)))
        keys = {rank: f"ready/{number}/{rank}" for rank in range(1, ranks)}
        until_s = time.monotonic() + MEET_S
        while not self.store.check(list(keys.values())):
            self.raise_reported(number, ranks)
            self._raise_ended()
            if time.monotonic() > until_s:
                away = [str(rank) for rank, key in keys.items() if not self.store.check([key])]
                raise RankLost(f"rank {', '.join(away)} did not come within {MEET_S:.0f} s")
            time.sleep(0.02)
        return number

    def reason(self, number: int, ranks: int, error: Exception) -> None:
        """Raise why the processes lost each other, if that is what an error is about.

        Raises:
            RankLost: a process has ended.
            Exception: what a process met on its own.
        """
        if not _is_of_group(error):
            return
        until_s = time.monotonic() + GRACE_S
        while time.monotonic() < until_s:
            self.raise_reported(number, ranks)
            self._raise_ended()
            time.sleep(0.05)
        raise RankLost(f"the processes that train together lost each other: {_line(error)}")

    def raise_reported(self, number: int, ranks: int) -> None:
        """Raise what another process says that it has met."""
        for rank in range(1, ranks):
            key = f"failed/{number}/{rank}"
            if self.store.check([key]):
                found = json.loads(self.store.get(key))
                if not found["lost"]:
                    raise _error(found["type"], f"{found['text']} (rank {rank})")

    def _raise_ended(self) -> None:
        if self._lost is not None:
            raise RankLost(self._lost)
        for rank, child in self._children.items():
            code = child.poll()
            if code is not None:
                how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
                raise RankLost(f"rank {rank} ended {how}: the same command goes on without loss")

    def wait_done(self, number: int, ranks: int) -> None:
        """Let the others end what they do; whoever does not is ended."""
        keys = [f"done/{number}/{rank}" for rank in range(1, ranks)]
        until_s = time.monotonic() + GRACE_S
        while not self.over and not self.store.check(keys):
            ended = any(child.poll() is not None for child in self._children.values())
            if ended or self._lost or time.monotonic() > until_s:
                self.end()
            time.sleep(0.01)

    @contextmanager
    def working(self) -> Iterator[None]:
        """While this lasts, the loss of a process ends this one too, if nothing else tells it."""
        self._working = True
        try:
            yield
        finally:
            self._working = False

    def _watch(self) -> None:
        """A thread's work: signs of life, and a look at those of the others."""
        counts = dict.fromkeys(range(1, self.world), (0, time.monotonic()))
        lost_s: float | None = None
        while not self.over:
            time.sleep(_LOOK_S)
            with suppress(Exception):  # the store is closed
                self._beats.add("beat/0", 1)
                for rank, (count, since_s) in counts.items():
                    now = self._beats.add(f"beat/{rank}", 0)
                    if now != count or not self._working:
                        counts[rank] = now, time.monotonic()
                    elif time.monotonic() - since_s > SILENT_S and self._lost is None:
                        self._lost = f"rank {rank} gave no sign of life for {SILENT_S:.0f} s"
                        if rank in self._children:
                            self._children[rank].kill()
            ended = [rank for rank, child in self._children.items() if child.poll() is not None]
            if not self._working or (not ended and self._lost is None):
                lost_s = None
                continue
            lost_s = time.monotonic() if lost_s is None else lost_s
            if time.monotonic() - lost_s > 2 * GRACE_S:  # it waits where nothing reaches it
                what = self._lost or f"rank {ended[0]} has ended"
                print(f"{what}: this process cannot go on without it", file=sys.stderr, flush=True)
                os._exit(1)

    def end(self) -> None:
        """Let all others end; those that were started here and do not are killed."""
        if self.over:
            return
        self.over = True
        atexit.unregister(self.end)
        with suppress(Exception):
            self.store.set("end", "")
        if not self._children:  # Slurm's: this process's end would be a failure to them
            until_s = time.monotonic() + GRACE_S
            with suppress(Exception):
                byes = [f"bye/{rank}" for rank in range(1, self.world)]
                while not self.store.check(byes) and time.monotonic() < until_s:
                    time.sleep(0.02)
        until_s = time.monotonic() + GRACE_S
        for child in self._children.values():
            try:
                child.wait(max(0.0, until_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


_team: _Team | None = None
_place: Seat | None = None


def lead(place: Seat) -> None:
    """Be the first of the processes that Slurm has started."""
    global _place
    _place = place
    _team_of(place.world)


def dismiss() -> None:
    """Let the others end, if there are any."""
    global _team
    if _team is not None:
        _team.end()
        _team = None


@contextmanager
def together(*, devices: int, nodes: int, cuda: bool, order: Order) -> Iterator[None]:
    """Within this, the processes that an order needs are a group, and the others train it too.

    Args:
        devices: processes on each node.
        nodes: machines.
        cuda: whether each of them computes on a GPU of its own.
        order: what :func:`follow` hands to its ``work`` in the others.

    Raises:
        RankLost: one of them is gone.
        Exception: what one of them has met, as if it had been met here.
    """
    ranks = devices * nodes
    if ranks == 1:
        yield
        return
    team = _team_of(ranks)
    try:
        number = team.order({**order, "ranks": ranks, "devices": devices, "cuda": cuda})
    except BaseException:  # those who are ready wait for those who will not come
        team.end()
        raise
    try:
        with team.working():
            try:
                _join(team.store, number, 0, ranks, devices, cuda)
                yield
            except Exception as error:
                team.reason(number, ranks, error)
                raise
    finally:
        _leave()
        team.wait_done(number, ranks)


def refuse_missing(*, devices: int, nodes: int, cuda: bool) -> None:
    """Refuse what this machine, or this step of Slurm, cannot give.

    Raises:
        ConfigError: there are not as many GPUs or processes.
    """
    if cuda:
        import torch

        known = torch.cuda.device_count()
        if devices > known:
            raise ConfigError(
                f"trainer.devices = {devices}: this machine has {known} GPU"
                f"{'s' if known != 1 else ''} for it; trainer.device=cpu trains on its cores"
            )
    if _place is not None and devices * nodes not in (1, _place.world):
        raise ConfigError(
            f"trainer.devices = {devices} on trainer.nodes = {nodes}: srun has started "
            f"{_place.world} tasks, and {devices * nodes} are needed"
        )
    if _place is None and nodes > 1:
        raise refusal("trainer.nodes", nodes, "srun has to start the processes of several nodes")


def _team_of(world: int) -> _Team:
    global _team
    if _team is not None and _team.over and _place is not None:
        raise RankLost("the other processes that srun had started have ended")
    if _team is not None and (_team.over or _team.world < world):
        dismiss()
    if _team is None:
        _team = _Team(world, _place)
    return _team


def _started(place: Seat) -> subprocess.Popen[bytes]:
    """Another process, with this one's environment, and so with as many threads."""
    command = [sys.executable, "-m", "lightning_sep.cli.follow"]
    values = [place.rank, place.world, place.host, place.port, place.parent]
    environment = {**os.environ, _SEAT: json.dumps(values)}
    # A session of its own: Ctrl-C reaches the first process alone, which then stops all.
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True
    )


def given_seat(environment: Mapping[str, str]) -> Seat:
    """The place that the first process has given to this one."""
    return Seat(*json.loads(environment[_SEAT]))


def follow(place: Seat, work: Callable[[Order], None]) -> int:
    """Train what the first process says until it has nothing more.

    Args:
        place: of this process.
        work: trains an order.

    Returns:
        The exit code.
    """
    for one in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(one, signal.SIG_IGN)  # the first process decides
    if place.parent is not None:
        _die_with_parent(place.parent)
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    meet = timedelta(seconds=MEET_S)
    store = TCPStore(place.host, place.port, is_master=False, wait_for_workers=False, timeout=meet)
    beats = TCPStore(place.host, place.port, is_master=False, wait_for_workers=False, timeout=meet)
    beats.set_timeout(timedelta(seconds=SILENT_S))
    threading.Thread(target=_beat, args=(place, beats), name="ranks", daemon=True).start()
    number = 0
    while True:
        while not store.check([f"order/{number}"]):
            if store.check(["end"]):
                store.set(f"bye/{place.rank}", "")
                return 0
            time.sleep(0.02)
        order = json.loads(store.get(f"order/{number}"))
        if place.rank < order["ranks"] and not _followed(place, store, number, order, work):
            return 1
        number += 1


def _followed(
    place: Seat, store: Any, number: int, order: Order, work: Callable[[Order], None]
) -> bool:
    """Train an order; whether this process can be trusted with another one."""
    from lightning_sep.functional.processes import is_of_first

    try:
        store.set(f"ready/{number}/{place.rank}", "")
        _join(store, number, place.rank, order["ranks"], order["devices"], order["cuda"])
        work(order)
    except Exception as error:
        if not is_of_first(error):
            told = {"type": type(error).__name__, "text": _line(error), "lost": _is_of_group(error)}
            store.set(f"failed/{number}/{place.rank}", json.dumps(told))
            if breaks_process(error):
                return False
    _leave()
    store.set(f"done/{number}/{place.rank}", "")
    return True


def _beat(place: Seat, store: Any) -> None:
    """A thread's work: give signs of life; without those of the first process, end."""
    count, since_s = 0, time.monotonic()
    try:
        while time.monotonic() - since_s < SILENT_S:
            time.sleep(_LOOK_S)
            store.add(f"beat/{place.rank}", 1)
            now = store.add("beat/0", 0)
            if now != count:
                count, since_s = now, time.monotonic()
            if place.parent is not None and os.getppid() != place.parent:
                break
    finally:  # the store went with the first process
        os._exit(1)


def _die_with_parent(parent: int) -> None:
    """Let Linux end this process with the one that started it, even where Python cannot look."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)


def _join(store: Any, number: int, rank: int, ranks: int, devices: int, cuda: bool) -> None:
    import torch
    from torch import distributed as dist
    from torch.distributed import PrefixStore  # type: ignore[attr-defined]

    if cuda:
        torch.cuda.set_device(rank % devices)
    if ranks == devices and sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # whatever the host's name stands for
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo",
        store=PrefixStore(f"group/{number}", store),
        rank=rank,
        world_size=ranks,
        timeout=_FOR_EVER,  # processes that are gone are noticed here
    )


def _leave() -> None:
    from torch import distributed as dist

    if dist.is_initialized():
        with suppress(RuntimeError):  # of a group that has lost somebody
            dist.destroy_process_group()


def _is_of_group(error: BaseException) -> bool:
    """Whether an error says no more than that the processes cannot reach each other."""
    words = ("gloo", "NCCL", "Connection closed by peer", "Connection reset", "Broken pipe")
    return any(
        type(one).__module__.startswith("torch.distributed")
        or (type(one) is RuntimeError and any(word in str(one) for word in words))
        for one in chain(error)
    )


def _line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _error(name: str, text: str) -> Exception:
    """The error that another process has met, as far as its kind matters here."""
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, LightningSepError):
        return kind(text)
    if name == "MemoryError":
        return MemoryError(text)
    return RuntimeError(text if name == "RuntimeError" else f"{name}: {text}")
