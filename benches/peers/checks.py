"""What a proxy must show once in a run before it is measured: that it does the work its row says."""

import socket
import ssl
import time

from processes import Failed
from proxies import CONNECT, INSPECT, NAME, REFUSED

PATIENCE = 5.0


class Refused(Exception):
    """How the other side said no."""


def open_connection(address, via, name, port, hello_name, root):
    """A verified TLS connection to `name` through the proxy at `address`."""
    sock = socket.create_connection(address, PATIENCE)
    try:
        if via == CONNECT:
            sock.sendall(f"CONNECT {name}:{port} HTTP/1.1\r\nHost: {name}:{port}\r\n\r\n".encode())
            head = b""
            while b"\r\n\r\n" not in head:
                more = sock.recv(4096)
                if not more:
                    raise Refused("closed")
                head += more
            status = head.split(b" ", 2)[1]
            if status != b"200":
                raise Refused(status.decode())
        context = ssl.create_default_context(cafile=root)
        return context.wrap_socket(sock, server_hostname=hello_name)
    except (OSError, Refused) as error:
        sock.close()
        raise error if isinstance(error, Refused) else Refused(str(error)) from error


def get(address, via, port, root, name=NAME, hello_name=None):
    """Status and body of `GET /`, asked on a connection of its own."""
    with open_connection(address, via, name, port, hello_name or name, root) as sock:
        answer = b""
        try:
            sock.sendall(f"GET / HTTP/1.1\r\nHost: {name}:{port}\r\nConnection: close\r\n\r\n".encode())
            while more := sock.recv(65536):
                answer += more
        except OSError as error:
            raise Refused(str(error)) from error
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1].decode() if b" " in head else "no answer"
    return status, body


def must_refuse(started, what, *arguments, **names):
    try:
        status, body = get(*arguments, **names)
    except Refused:
        return
    if status == "200":
        raise Failed(f"{started.proxy.title} ({started.role}) let through {what}: {body[:40]!r}")


def check(started):
    """The right answer through it, from the right side's certificate; the refused name refused; each attempt logged."""
    site, via = started.site, started.proxy.via
    address = ("127.0.0.1", started.port)
    root = site.issuing_root if started.role == INSPECT else site.origin_root
    expected = get(("127.0.0.1", site.origin_port), None, site.origin_port, site.origin_root)
    try:
        got = get(address, via, site.origin_port, root)
    except Refused as error:
        raise started.process.failed(f"GET https://{NAME}/ through it: {error}") from error
    if got != expected or got[0] != "200":
        raise started.process.failed(f"GET https://{NAME}/ through it: {got}, and not {expected}")
    must_refuse(started, f"a connection to {REFUSED}", address, via, site.origin_port, root, name=REFUSED)
    attempts = 2
    if started.proxy.key in ("sekisho", "squid-splice"):
        must_refuse(started, f"the name {REFUSED} inside a connection to {NAME}", address, via, site.origin_port, root,
                    hello_name=REFUSED)
        attempts += 1
    if started.role == INSPECT or started.proxy.key == "sekisho":
        must_refuse(started, "an origin of an unknown CA", address, via, site.stranger_port, root)
        attempts += 1
    logged(started, attempts)


def logged(started, attempts):
    """A line for each attempt at least, or its part of a count; what is written late is waited for. Of a peer's one in a hundred may be
    missing: HAProxy drops a line that its log does not take at once. Returns how many are."""
    deadline = time.monotonic() + PATIENCE
    while (missing := attempts - started.log_lines()) > 0:
        if time.monotonic() > deadline:
            if started.proxy.key == "sekisho" or missing * 100 > attempts:
                raise Failed(f"{started.proxy.title} ({started.role}): no log line of {missing} in {attempts} attempts")
            return missing
        time.sleep(0.1)
    return 0
