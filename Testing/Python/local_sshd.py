"""An SSH server of this user on a free port of this computer, with keys of its own."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from far_away import Far, far_environment, kill, quoted, use

PROGRAMS = ("ssh", "ssh-keygen", "sshd")
PATIENCE = 20.0  # seconds for the server to begin


def found(name):
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Server:
    """sshd in the foreground, and the command that logs in.

    config: the client's configuration; known: its file of known hosts; keys: those that may log in.
    """

    def __init__(self, folder: Path, environment: dict[str, str]):
        self.folder, self.port = folder, free_port()
        for name in ("host", "user"):
            subprocess.run(
                [found("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", folder / name],
                check=True,
                stdin=subprocess.DEVNULL,
            )
        self.keys, self.known, self.config = (
            folder / "keys",
            folder / "known",
            folder / "config",
        )
        shutil.copy(folder / "user.pub", self.keys)
        kind, key, *_ = (folder / "host.pub").read_text(encoding="utf-8").split()
        self.known.write_text(f"[127.0.0.1]:{self.port} {kind} {key}\n")
        variables = " ".join(f'"{name}={value}"' for name, value in environment.items() if value)
        (folder / "sshd_config").write_text(
            f"ListenAddress 127.0.0.1:{self.port}\nHostKey {folder / 'host'}\n"
            f"AuthorizedKeysFile {self.keys}\nPidFile none\nUsePAM no\nStrictModes no\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            f"PermitRootLogin prohibit-password\nSetEnv {variables}\n"
        )
        self.config.write_text(
            f"Host gpu-box\n  HostName 127.0.0.1\n  Port {self.port}\n"
            f"  IdentityFile {folder / 'user'}\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {self.known}\n  GlobalKnownHostsFile /dev/null\n"
        )
        self.command = f"ssh -F {quoted(self.config)} gpu-box"
        self._log = (folder / "log").open("wb")
        self._process = subprocess.Popen(
            [found("sshd"), "-D", "-e", "-f", folder / "sshd_config"],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )

    @property
    def log(self):
        return (self.folder / "log").read_text(errors="replace")

    def begun(self):
        """Waits until it listens."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self._process.poll() is None:
            if "Server listening" in self.log:
                return True
            time.sleep(0.02)
        return False

    def sessions(self):
        """Process numbers of its connections."""
        done = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self._process.pid)],
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        return [int(pid) for pid in done.stdout.split()]

    def close(self):
        self._process.terminate()
        self._process.wait(10)
        self._log.close()


@pytest.fixture
def ssh_server(engine, tmp_path, monkeypatch):
    """The SSH server; skips where there can be none."""
    if sys.platform == "win32":
        pytest.skip("Windows' sshd is a service of the system")
    if missing := [name for name in PROGRAMS if found(name) is None]:
        pytest.skip(f"{', '.join(missing)} not installed (Debian: openssh-server)")
    if os.geteuid() == 0:  # as root it wants a folder of the system
        try:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        except OSError as error:
            pytest.skip(f"sshd cannot be started: /run/sshd: {error.strerror}")
    folder = tmp_path / "ssh"
    folder.mkdir(mode=0o700)
    found_server = Server(folder, far_environment(tmp_path / "far"))
    try:
        if not found_server.begun():
            pytest.skip(f"sshd cannot be started: {found_server.log[-300:]}")
        use(monkeypatch, found_server.command)
        yield found_server
    finally:
        found_server.close()


@pytest.fixture
def far_by_ssh(ssh_server, tmp_path):
    """The other computer, reached through the SSH server."""

    def lose():
        for pid in ssh_server.sessions():
            kill(pid)

    return Far(ssh_server.command, tmp_path / "far", lose)
