"""Child processes: started in a group of their own, what they and their descendants used, and their sure end."""

import ctypes
import os
import signal
import subprocess
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
CPUCLOCK_SCHED = 2
TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
LIBC = ctypes.CDLL(None, use_errno=True)

running = []


class Failed(Exception):
    """What the person at the terminal reads: what happened, where, and what to do."""


def adopt_orphans():
    """A daemon whose parent died (Squid's worker, nginx's) becomes our child, so that it can still be found and ended."""
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Process:
    """A child with its descendants. Its output goes to `output`, a file, unless `stdout` says otherwise."""

    def __init__(self, command, output, stdout=None, **options):
        self.output = Path(output)
        self.command = [str(word) for word in command]
        with open(output, "ab") as log:
            self.child = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=stdout or log, stderr=log,
                start_new_session=True, preexec_fn=die_with_parent, **options)
        self.pid = self.child.pid
        running.append(self)

    def failed(self, what):
        tail = self.output.read_text(errors="replace").splitlines()[-8:]
        return Failed("\n  ".join([f"{' '.join(self.command)}: {what}; the end of {self.output}:", *tail]))

    def stop(self, patience=3.0):
        family = tree(self.pid)
        for sign, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, 5.0)):
            for pid in family:
                send(pid, sign)
            deadline = time.monotonic() + seconds
            while any(alive(pid) for pid in family) and time.monotonic() < deadline:
                self.child.poll()
                reap_orphans(family)
                time.sleep(0.02)
        self.child.wait()
        running.remove(self)


def stop_all():
    for process in running:
        for pid in tree(process.pid):
            send(pid, signal.SIGTERM)
    for process in list(running):
        process.stop()
    strays = tree(os.getpid())[1:]
    for pid in strays:
        send(pid, signal.SIGKILL)
    reap_orphans(strays)


def send(pid, sign):
    try:
        os.kill(pid, sign)
    except ProcessLookupError:
        pass


def alive(pid):
    fields = stat(pid)
    return fields is not None and fields[0] != "Z"


def reap_orphans(family):
    own = {process.pid for process in running}
    for pid in family:
        if pid not in own:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                pass


def stat(pid):
    """The fields of /proc/PID/stat from the third on (the second, the program's name, may hold anything)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def tree(root):
    """`root` and all its descendants."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := stat(int(entry))):
            children.setdefault(int(fields[1]), []).append(int(entry))
    found = [root]
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


def cpu_ns(root):
    """
    User and system time of `root` and its descendants, exited threads and exited, waited-for children included.
    The clock is the process's own CPU clock (clock_getcpuclockid(3)): the sum that /proc/PID/stat shows as utime + stime,
    in nanoseconds and not in ticks. Only exited children (cutime + cstime) are counted in ticks.
    """
    total = 0
    for pid in tree(root):
        fields = stat(pid)
        if fields is None or fields[0] == "Z":
            continue
        try:
            total += time.clock_gettime_ns((~pid << 3) | CPUCLOCK_SCHED)
        except OSError:
            continue
        total += (int(fields[13]) + int(fields[14])) * TICK_NS
    return total


def settled_cpu_ns(root, quiet=0.4, patience=5.0):
    """The CPU time once the process has come to rest: what a batch left to do (closing, records) belongs to the batch."""
    deadline = time.monotonic() + patience
    last = cpu_ns(root)
    while True:
        time.sleep(quiet)
        now = cpu_ns(root)
        if now - last < 1_000_000 * quiet or time.monotonic() > deadline:
            return now
        last = now


def resident_kib(root):
    """Proportional set size (Pss) of `root` and its descendants: pages that several of them share count once."""
    total = 0
    for pid in tree(root):
        try:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total
