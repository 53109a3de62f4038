"""The proxies: which there are, what each can do, and how each is started from its template in this folder."""

import os
import random
import re
import resource
import shutil
import socket
import string
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import machine
from processes import Failed, Process

HERE = Path(__file__).resolve().parent
NAME = "load.test"
# What the generator asks for in its scenario `refused`; on no list.
REFUSED = "refused.invalid"
ALLOWLIST_LENGTH = 200
PORTS = range(25000, 26000)
# The beginning of the names of Squid's shared memory in /dev/shm.
SQUID_SERVICE = f"peers{os.getpid()}x"
TUNNEL, INSPECT = "tunnel", "inspect"
CONNECT, SNI = "connect", "sni"


@dataclass(frozen=True)
class Proxy:
    """One column of the table. `templates`: role to file in this folder; `via`: how a client tells it where to go."""

    key: str
    title: str
    program: str
    via: str
    templates: dict


ALL = [
    Proxy("squid", "Squid", "squid", CONNECT, {TUNNEL: "squid-tunnel.conf", INSPECT: "squid-inspect.conf"}),
    Proxy("squid-splice", "Squid peek+splice", "squid", CONNECT, {TUNNEL: "squid-splice.conf"}),
    Proxy("haproxy", "HAProxy", "haproxy", SNI, {TUNNEL: "haproxy.cfg"}),
    Proxy("nginx", "nginx", "nginx", SNI, {TUNNEL: "nginx.conf"}),
    Proxy("tinyproxy", "tinyproxy", "tinyproxy", CONNECT, {TUNNEL: "tinyproxy.conf"}),
    Proxy("sekisho", "sekisho", "sekisho", CONNECT, {TUNNEL: "sekisho-tunnel.toml", INSPECT: "sekisho-inspect.toml"}),
]
BY_KEY = {proxy.key: proxy for proxy in ALL}
SEKISHO = BY_KEY["sekisho"]


COUNT = re.compile(rb'"sekisho\.count":(\d+)')


class ConfigTemplate(string.Template):
    delimiter = "@"


def free_port():
    """A port of loopback outside the ephemeral range, so that no connection of a batch can take it before its owner does."""
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise Failed(f"no free port in {PORTS.start}-{PORTS.stop - 1}")


def remove_shared_memory():
    """What a killed Squid left behind."""
    for path in Path("/dev/shm").glob(f"{SQUID_SERVICE}*"):
        path.unlink()


def wait_for_port(process, port, seconds=15.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.child.poll() is not None:
            raise process.failed(f"ended with {process.child.returncode} before it listened")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise process.failed(f"not listening on 127.0.0.1:{port} after {seconds:.0f} s")


class Site:
    """What all proxies of a run share: the folder, the origins behind them, the allowlist, the issuing CA."""

    def __init__(self, work, sekisho, generator):
        self.work = Path(work)
        self.sekisho = sekisho
        self.generator = generator
        self.cores = len(os.sched_getaffinity(0))
        self.starts = 0
        # The hard limit is the limit (run raises it): two descriptors for a connection, some for everything else.
        self.descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self.connections = (self.descriptors - 100) // 2
        self.hosts_file = self.write("hosts", f"127.0.0.1 localhost {NAME}\n")
        self.names = [f"service-{number:03}.peers.test" for number in range(1, ALLOWLIST_LENGTH)] + [NAME]
        self.allowlist = self.write("allowlist", "".join(f"{name}\n" for name in self.names))
        self.origin_port, self.origin_root = self.start_origin("origin")
        # Signed by a root that no proxy trusts: shows that the proxies that verify do so.
        self.stranger_port, _ = self.start_origin("stranger")
        target = f"127.0.0.1:{self.origin_port}"
        self.nginx_map = self.write("nginx.map", "".join(f"{name} {target};\n" for name in self.names))
        self.issuing_root = self.make_issuing_ca()

    def write(self, name, text):
        path = self.work / name
        path.write_text(text)
        path.chmod(0o644)
        return path

    def start_origin(self, name):
        port, folder = free_port(), self.work / name
        folder.mkdir()
        command = [self.generator, "load", "origin", "--listen", f"127.0.0.1:{port}", "--dir", folder, "--name", NAME]
        process = Process(command, self.work / f"{name}.out")
        wait_for_port(process, port)
        return port, folder / "root.pem"

    def make_issuing_ca(self):
        """`sekisho ca init`: a P-256 root and an intermediate, which Squid is given too."""
        config = self.render("sekisho-inspect.toml", listen="127.0.0.1:1", log=self.work / "unused.jsonl", port=1)
        path = self.write("ca-init.toml", config)
        done = subprocess.run([self.sekisho, "ca", "init", "--config", path], capture_output=True, text=True)
        root = self.work / "ca-root.pem"
        if done.returncode != 0 or not root.exists():
            raise Failed(f"sekisho ca init: {done.stdout}{done.stderr}")
        return root

    def render(self, template, **values):
        """The template with the site's values and those of one process. A name that is not known is an error."""
        ports = [self.origin_port, self.stranger_port]
        values = {
            "origin": f"127.0.0.1:{self.origin_port}",
            "origin_root": getattr(self, "origin_root", ""),
            "origin_ports": " ".join(map(str, ports)),
            "ports": ", ".join(map(str, ports)),
            "connect_ports": "\n".join(f"ConnectPort {port}" for port in [443, *ports]),
            "hosts": ", ".join(f'"{name}"' for name in self.names),
            "hosts_file": self.hosts_file,
            "allowlist": self.allowlist,
            "tinyproxy_filter": self.allowlist,
            "nginx_map": getattr(self, "nginx_map", ""),
            "issuing_certificate": self.work / "ca.pem",
            "issuing_key": self.work / "ca.key",
            "cores": self.cores,
            "connections": self.connections,
            "descriptors": self.descriptors,
            **values,
        }
        return ConfigTemplate((HERE / template).read_text()).substitute({key: str(value) for key, value in values.items()})


class Started:
    """A proxy that runs: its process, where it listens, where it logs."""

    def __init__(self, site, proxy, role):
        self.site, self.proxy, self.role = site, proxy, role
        site.starts += 1
        self.folder = site.work / f"{site.starts:03}-{proxy.key}-{role}"
        self.folder.mkdir()
        self.port = free_port()
        self.log = self.folder / "access.log"
        self.process = Process(getattr(self, proxy.program)(), self.folder / "out")
        wait_for_port(self.process, self.port)

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def configuration(self, **values):
        template = self.proxy.templates[self.role]
        values = dict(listen=self.address, port=self.port, log=self.log, work=self.folder, **values)
        if self.proxy.program == "squid":
            values["squid_common"] = self.folder / "common.conf"
            values["squid_common"].write_text(self.site.render("squid-common.conf", **values))
        path = self.folder / template
        path.write_text(self.site.render(template, **values))
        return path

    def sekisho(self):
        return [self.site.sekisho, "run", "--config", self.configuration()]

    def squid(self):
        """As Debian's unit starts it. Squid refuses to work as root and changes to `proxy`, who must be able to write."""
        if self.role == INSPECT:
            helper = "/usr/lib/squid/security_file_certgen"
            subprocess.run([helper, "-c", "-s", self.folder / "leaves", "-M", "4MB"], check=True, capture_output=True)
        path = self.configuration(effective_user="cache_effective_user proxy" if os.geteuid() == 0 else "")
        if os.geteuid() == 0:
            for entry in (self.folder, *self.folder.rglob("*")):
                shutil.chown(entry, "proxy", "proxy")
        return ["/usr/sbin/squid", "--foreground", "-YC", "-f", path, "-n", f"{SQUID_SERVICE}{self.site.starts}"]

    def haproxy(self):
        self.log = self.folder / "out"
        return ["/usr/sbin/haproxy", "-db", "-f", self.configuration()]

    def nginx(self):
        load = "load_module /usr/lib/nginx/modules/ngx_stream_module.so;"
        user = "user www-data;" if os.geteuid() == 0 else ""
        return ["/usr/sbin/nginx", "-c", self.configuration(load_module=load, effective_user=user)]

    def tinyproxy(self):
        """It asks the system's resolver alone, so it runs where /etc/hosts is ours (a mount namespace of its own)."""
        path = self.configuration()
        script = 'mount --bind "$1" /etc/hosts && exec /usr/bin/tinyproxy -d -c "$2"'
        return [*machine.unshare(), "sh", "-c", script, "sh", self.site.hosts_file, path]

    def log_lines(self):
        """What the log stands for: sekisho's lines of a flood of refusals say how many each counts."""
        if not self.log.exists():
            return 0
        with open(self.log, "rb") as lines:
            return sum(int(found[1]) if (found := COUNT.search(line)) else 1 for line in lines)

    def stop(self):
        self.process.stop()
        shutil.rmtree(self.folder)
