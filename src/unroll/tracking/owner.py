"""The process that began a run, and whether it is gone: a number alone means nothing later, or on another machine."""

import json
import os
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Self

import psutil

HOST, STARTED_BY = "host", "started_by"  # tags of a run


@dataclass(frozen=True)
class Owner:
    """A process among all that ever were.

    Attributes:
        machine: its id, empty where the system gives it none.
        boot: the start of the system that it belongs to.
        namespace: of process numbers; a container has its own.
        pid: its number.
        begun: when it began, by the system's own clock, which nobody sets.
    """

    machine: str
    boot: str
    namespace: str
    pid: int
    begun: str

    @classmethod
    def this(cls) -> Self:
        """Return the process that runs."""
        namespace = ""
        with suppress(OSError):
            namespace = str(Path("/proc/self/ns/pid").readlink())
        boot = _read("/proc/sys/kernel/random/boot_id")
        return cls(_read("/etc/machine-id"), boot, namespace, os.getpid(), read_begin(os.getpid()))

    @classmethod
    def from_tag(cls, tag: str) -> Self | None:
        """Return what `as_tag` wrote, None for anything else."""
        try:
            owner = cls(**json.loads(tag))
        except (ValueError, TypeError):
            return None
        return owner if all(type(getattr(owner, part.name)) is part.type for part in fields(cls)) else None

    def as_tag(self) -> str:
        """Return it as text."""
        return json.dumps(asdict(self))

    def is_gone(self) -> bool:
        """Return whether it certainly runs no more; what cannot be seen from here may be alive."""
        here = self.this()
        if (self.machine, self.boot) != (here.machine, here.boot):
            return bool(self.machine) and self.machine == here.machine  # a boot before this one
        if self.namespace != here.namespace:
            return False
        try:
            os.kill(self.pid, 0)  # psutil sees no process of another user where /proc hides them
            return psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE or read_begin(self.pid) != self.begun
        except ProcessLookupError:
            return True
        except (psutil.Error, OSError, ValueError, OverflowError):
            return False


def tag_owner() -> dict[str, str]:
    """Return the tags that tell a run's process."""
    return {HOST: socket.gethostname(), STARTED_BY: Owner.this().as_tag()}


def read_begin(pid: int) -> str:
    """Return when a process began: in ticks since the system did, or in seconds where that is not to be had."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except FileNotFoundError:
        return f"{psutil.Process(pid).create_time():.2f}"


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
