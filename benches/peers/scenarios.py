"""The rows of the table: what each asks of a proxy, who can do it, and how one batch of it is measured."""

import json
import subprocess
import time
from dataclasses import dataclass, field

import processes
from processes import Failed, Process
from proxies import ALL, CONNECT, INSPECT, NAME, SEKISHO, SNI, TUNNEL

GIB = 1 << 30
BULK_BYTES = 64 << 20
NO_CONNECT = "it is steered by SNI only: no CONNECT"
NO_SNI = "steered by SNI it would need the kernel to redirect connections to it; not set up here"
NO_INSPECT = "it does not inspect: its TLS termination serves names of its own, with certificates made beforehand"
NO_H2 = "Squid 5 does not speak HTTP/2"
SPLICE_REFUSES = "see Squid: a port with ssl-bump accepts the CONNECT and inspects it, to show its error page inside"
BY_SNI = "steered by the SNI of the ClientHello; the others by CONNECT"
SEKISHO_BY_CONNECT = "sekisho has no transparent mode yet: this is its figure by CONNECT, measured in this row"


@dataclass(frozen=True)
class Row:
    key: str
    work: str
    unit: str
    role: str
    scenario: str
    kind: str = "cost"          # cost | idle | latency
    connections: int = 16       # open at a time
    streams: int = 1
    pilot: int = 1000           # requests of the batch that finds out how long a batch must be
    subtract_opening: bool = False
    places: int = 1
    metrics: tuple = ("",)
    cannot: dict = field(default_factory=dict)
    notes: dict = field(default_factory=dict)


def connect_only():
    return {proxy.key: NO_CONNECT for proxy in ALL if proxy.via == SNI}


def inspects(**more):
    cannot = {proxy.key: NO_INSPECT for proxy in ALL if INSPECT not in proxy.templates}
    cannot["squid-splice"] = "see Squid: it splices or inspects"
    return {**cannot, **more}


SNI_CANNOT = {proxy.key: NO_SNI for proxy in ALL if proxy.via == CONNECT and proxy is not SEKISHO}
STEERED = {proxy.key: BY_SNI for proxy in ALL if proxy.via == SNI}

ROWS = [
    Row("tunnel-new", "CONNECT tunnel, new connection + small GET", "µs", TUNNEL, "new", cannot=connect_only()),
    Row("sni-new", "the same steered by SNI alone", "µs", TUNNEL, "new", cannot=SNI_CANNOT,
        notes={"sekisho": SEKISHO_BY_CONNECT}),
    Row("tunnel-bulk", "tunnel, bulk", "CPU-s/GiB", TUNNEL, "bulk", connections=4, pilot=8, places=3, notes=STEERED),
    Row("tunnel-keepalive", "tunnel, keep-alive small request", "µs", TUNNEL, "h1", connections=32, pilot=10_000,
        subtract_opening=True, places=2, notes=STEERED),
    Row("refused", "refused by name", "µs", TUNNEL, "refused", cannot={"squid-splice": SPLICE_REFUSES}, notes=STEERED),
    Row("tunnel-idle", "idle tunnel", "KiB", TUNNEL, "idle", kind="idle", notes=STEERED),
    Row("inspect-new", "inspect, new connection + small GET", "µs", INSPECT, "new", pilot=300, cannot=inspects()),
    Row("inspect-h1", "inspect, h1 keep-alive request", "µs", INSPECT, "h1", connections=32, pilot=5000,
        subtract_opening=True, places=2, cannot=inspects()),
    Row("inspect-h2", "inspect, h2 request", "µs", INSPECT, "h2", connections=4, streams=16, pilot=5000,
        subtract_opening=True, places=2, cannot=inspects(squid=NO_H2)),
    Row("inspect-bulk", "inspect, bulk", "CPU-s/GiB", INSPECT, "bulk", connections=4, pilot=4, places=3, cannot=inspects()),
    Row("inspect-idle", "idle inspected connection", "KiB", INSPECT, "idle", kind="idle", cannot=inspects()),
    Row("tunnel-latency", "latency added by a tunnel", "µs", TUNNEL, "h1", kind="latency", connections=32, pilot=10_000,
        places=0, metrics=("p50", "p99"), notes=STEERED),
    Row("inspect-latency", "latency added by inspecting", "µs", INSPECT, "h1", kind="latency", connections=32, pilot=5000,
        places=0, metrics=("p50", "p99"), cannot=inspects()),
]


@dataclass
class Effort:
    """How much is done: CPU seconds a batch should cost the proxy, connections held idle, seconds of an open-loop batch."""

    batch_cpu_s: float
    idle_connections: int
    latency_s: int


class Load:
    """`sekisho load run`: one call is one batch."""

    def __init__(self, site):
        self.site = site
        self.calls = 0

    def command(self, row, address, via, arguments):
        self.calls += 1
        self.report = self.site.work / f"load-{self.calls}.json"
        root = self.site.issuing_root if row.role == INSPECT and via else self.site.origin_root
        # Straight to the origin: the generator takes the origin for a proxy that is steered by SNI.
        return [self.site.generator, "load", "run", "--proxy", address, "--via", via or SNI, "--ca", root,
                "--target", f"https://{NAME}:{self.site.origin_port}", "--json", self.report, *map(str, arguments)]

    def run(self, row, address, via, *, scenario=None, connections=None, **options):
        """The batch's report. Errors of any kind are not counted, they fail."""
        arguments = ["--scenario", scenario or row.scenario, "--connections", connections or row.connections]
        if row.streams > 1:
            arguments += ["--streams", row.streams]
        if row.scenario == "bulk":
            arguments += ["--size", BULK_BYTES]
        for option, value in options.items():
            arguments += [f"--{option}", value]
        command = list(map(str, self.command(row, address, via, arguments)))
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        self.must_be_clean(command, done.returncode, done.stdout + done.stderr)
        return json.loads(self.report.read_text())

    def must_be_clean(self, command, code, said):
        report = json.loads(self.report.read_text()) if self.report.exists() else {}
        tail = "\n  ".join(said.splitlines()[-5:])
        if code != 0 or report.get("errors"):
            raise Failed(f"{' '.join(map(str, command))}\n  exit {code}, errors {report.get('errors')}\n  {tail}")

    def hold(self, row, started, connections, seconds, while_held):
        """Holds idle connections and calls `while_held` when all are up."""
        arguments = ["--scenario", "idle", "--connections", connections, "--hold", f"{seconds}s"]
        command = self.command(row, started.address, started.proxy.via, arguments)
        output = self.site.work / f"load-{self.calls}.out"
        holder = Process(command, output, stdout=subprocess.PIPE)
        for line in holder.child.stdout:
            if line.startswith(b"holding"):
                while_held()
                break
        said = holder.child.stdout.read().decode(errors="replace") + output.read_text(errors="replace")
        code = holder.child.wait()
        holder.stop()
        self.must_be_clean(command, code, said)


class Measure:
    """One row: sizes its batches by a pilot, then measures one batch of one proxy at a time."""

    def __init__(self, row, site, effort):
        self.row, self.site, self.effort = row, site, effort
        self.load = Load(site)
        self.requests = {}
        self.rate = None
        self.doubts = {}
        self.attempts = {}

    def units(self, report):
        return report["requests"] * BULK_BYTES / GIB if self.row.scenario == "bulk" else report["requests"]

    def batch(self, started, requests):
        """CPU seconds of the proxy, units of work done."""
        before = processes.cpu_ns(started.process.pid)
        report = self.load.run(self.row, started.address, started.proxy.via, requests=requests)
        after = processes.settled_cpu_ns(started.process.pid)
        if self.row.scenario in ("new", "refused"):
            self.attempts[started.proxy.key] = self.attempts.get(started.proxy.key, 0) + report["requests"]
        return (after - before) / 1e9, self.units(report), report

    def pilot(self, started):
        """Warms the proxy up, and finds how many requests cost it `batch_cpu_s`."""
        self.batch(started, max(self.row.pilot // 10, self.row.connections))
        seconds, _, report = self.batch(started, self.row.pilot)
        wanted = self.effort.batch_cpu_s / max(seconds, 0.001) * report["requests"]
        self.requests[started.proxy.key] = max(int(wanted), self.row.connections)
        if started.proxy is SEKISHO:
            self.rate = max(int(report["requests"] / report["seconds"] / 10), 100)

    def cost(self, started):
        seconds, units, _ = self.batch(started, self.requests[started.proxy.key])
        if self.row.subtract_opening:
            opening_seconds, opening_units, _ = self.batch(started, self.row.connections * self.row.streams)
            seconds, units = seconds - opening_seconds, units - opening_units
        scale = 1 if self.row.scenario == "bulk" else 1e6
        return {"": seconds / units * scale}

    def idle(self, started):
        """Growth of resident memory by connection; the proxy is a fresh one, warmed by a few connections."""
        self.load.run(self.row, started.address, started.proxy.via, scenario="new", requests=200, connections=16)
        processes.settled_cpu_ns(started.process.pid)
        before, held = processes.resident_kib(started.process.pid), []
        connections = self.effort.idle_connections

        def while_held():
            time.sleep(1)
            held.append(processes.resident_kib(started.process.pid))

        self.load.hold(self.row, started, connections, 4, while_held)
        if not held:
            raise Failed(f"{started.proxy.title}: the generator never said that it holds {connections} connections")
        return {"": (held[0] - before) / connections}

    def latency(self, started):
        """p50 and p99 in open loop; `started` None is straight to the origin."""
        address = started.address if started else f"127.0.0.1:{self.site.origin_port}"
        via = started.proxy.via if started else None
        report = self.load.run(self.row, address, via, rate=self.rate, duration=f"{self.effort.latency_s}s")
        if report.get("invalid"):
            self.doubts.setdefault(started.proxy.key if started else "direct", []).append(report["invalid"])
        return {metric: report["latency_us"][metric] for metric in self.row.metrics}
