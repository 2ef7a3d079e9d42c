"""What the operating system knows of a process: its children, CPU time, memory, and the cores it may use."""

import ctypes
import os
import resource
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import IO

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
STOP_S = 5.0
PREFERENCE = -10
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def raise_descriptor_limit() -> None:
    """Let this process and its children open as many sockets as the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def pin(pid: int, cores: set[int]) -> None:
    """Keep all threads of a process on these cores."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), cores)


def prefer(pid: int) -> None:
    """Let a process go before others, as far as we may: a measurement should not be one of the machine's visitors.

    With automatic grouping the kernel weighs nice only within a session, and sessions by their group's own value.
    """
    with suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(PREFERENCE))
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.setpriority(os.PRIO_PROCESS, int(thread.name), PREFERENCE)


def start(command: list[str], output: IO[bytes] | int) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own that does not outlive us."""
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, preexec_fn=die_with_us
    )


def die_with_us() -> None:
    """Called in a child: it ends when the process that started it does, however that ends."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    """A process's children, theirs, and so on."""
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):
            for child in map(int, thread.read_text().split()):
                found += [child, *descendants(child)]
    return found


def command_line(pid: int) -> str:
    """As it was started; empty when it is gone."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def cpu_s(pid: int) -> float:
    """CPU time of a process so far, user and system, of all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def rss_mb(pid: int) -> float:
    """Resident memory in MB (10^6 bytes)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    kib = next((int(line.split()[1]) for line in lines if line.startswith("VmRSS")), 0)
    return kib * 1024 / 1e6


def free_port(kind: socket.SocketKind, host: str = "127.0.0.1") -> int:
    """A port that nobody has now."""
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind((host, 0))
        return int(sock.getsockname()[1])


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end, twice as it may drain first, then end it."""
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S if number == signal.SIGKILL else STOP_S / 5)
    process.wait()


def cores() -> tuple[int, int, set[int]]:
    """The media core, the generator's core, and the cores of everything else (all but the media core).

    Raises RuntimeError on a machine with one core: a generator beside the gateway would measure itself.
    """
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise RuntimeError("a capacity run takes two cores: one for media, one for the load generator")
    media, generator = allowed[0], allowed[-1]
    others = set(allowed[1:-1]) or {generator}
    return media, generator, others
