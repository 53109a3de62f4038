"""The machine: the peers' Debian packages, their versions, and what the table says about where it was made."""

import datetime
import os
import platform
import shutil
import subprocess
from pathlib import Path

# Program, Debian package, how it says its version.
PROGRAMS = {
    "squid": ("/usr/sbin/squid", "squid-openssl", ["-v"]),
    "haproxy": ("/usr/sbin/haproxy", "haproxy", ["-v"]),
    "nginx": ("/usr/sbin/nginx", "nginx", ["-v"]),
    "tinyproxy": ("/usr/bin/tinyproxy", "tinyproxy", ["-v"]),
}
CERTIFICATE_HELPER = Path("/usr/lib/squid/security_file_certgen")
POLICY = Path("/usr/sbin/policy-rc.d")
STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")


def missing(peers):
    """Debian package by peer that is not (wholly) there."""
    lacking = {peer: PROGRAMS[peer][1] for peer in peers if not os.access(PROGRAMS[peer][0], os.X_OK)}
    if "squid" in peers and not CERTIFICATE_HELPER.exists():
        lacking["squid"] = "squid-openssl"
    if "nginx" in peers and not STREAM_MODULE.exists():
        lacking["nginx"] = "nginx libnginx-mod-stream" if "nginx" in lacking else "libnginx-mod-stream"
    return lacking


def install(peers, say):
    """Installs what is missing if this is Debian and we are root. Answers with the peers that are still not there: why."""
    lacking = missing(peers)
    packages = " ".join(lacking.values()).split()
    if not lacking:
        say("the peers' programs are all there")
    elif os.geteuid() != 0 or not shutil.which("apt-get"):
        say(f"missing, and only root on Debian can have them installed: {' '.join(packages)}")
    else:
        say(f"installing {' '.join(packages)}")
        done = apt_get(packages)
        if done.returncode != 0:
            say("apt-get: " + "\n".join((done.stdout + done.stderr).splitlines()[-3:]))
    absent = {peer: f"not installed (Debian package {package})" for peer, package in missing(peers).items()}
    if "tinyproxy" in peers and "tinyproxy" not in absent and namespaces_are_refused():
        absent["tinyproxy"] = "it needs an /etc/hosts of its own (a mount namespace), which this machine refuses"
    return absent


def apt_get(packages):
    """Without starting the packages' services, which would listen on every address (invoke-rc.d asks policy-rc.d)."""
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    ours = not POLICY.exists()
    if ours:
        POLICY.write_text("#!/bin/sh\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        for arguments in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
            done = subprocess.run(["apt-get", "-q", *arguments], env=environment, capture_output=True, text=True)
        return done
    finally:
        if ours:
            POLICY.unlink()


def unshare():
    """The command that gives what follows a mount namespace of its own, as root or as anyone."""
    return ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]


def namespaces_are_refused():
    script = "mount --bind /etc/hosts /etc/hosts"
    return not shutil.which("unshare") or subprocess.run([*unshare(), "sh", "-c", script], capture_output=True).returncode != 0


def version(program, arguments):
    done = subprocess.run([program, *arguments], capture_output=True, text=True)
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0].strip() if lines else "unknown"


def versions(peers, sekisho):
    told = {"sekisho": version(sekisho, ["--version"])}
    for peer in peers:
        program, _, arguments = PROGRAMS[peer]
        told[peer] = version(program, arguments)
    return told


def commit(folder):
    done = subprocess.run(["git", "-C", folder, "describe", "--always", "--dirty"], capture_output=True, text=True)
    return done.stdout.strip() or "no commit"


def describe():
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = int(Path("/proc/meminfo").read_text().split()[1]) // 1024
    release = platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": memory,
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "system": release,
        "load_average_before": [round(value, 2) for value in os.getloadavg()],
    }


def now():
    return datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %z")
