"""Engines without the seconds that importing torch takes: forks of one process that has it loaded.

``python -m engine_server SOCKET`` serves until its stdin ends. A client (quick_engine) hands it
arguments, environment and its own three streams; it forks an engine with these and answers with the
exit code. Without a server quick_engine runs the engine itself.
"""

import array
import json
import os
import signal
import socket
import struct
import sys
import threading
from contextlib import suppress

STREAMS = 3


def ask(path: str, arguments: list[str]) -> int:
    """Have the server run an engine with this process's streams; its exit code, negative for a
    signal."""
    with socket.socket(socket.AF_UNIX) as wire:
        wire.connect(path)
        request = json.dumps([arguments, dict(os.environ), os.getcwd()]).encode()
        streams = array.array("i", range(STREAMS))
        wire.sendmsg(
            [struct.pack("!I", len(request))],
            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams.tobytes())],
        )
        wire.sendall(request)
        for descriptor in range(STREAMS):  # the engine's alone: their end must be seen
            os.close(descriptor)
        return struct.unpack("!i", _read(wire, 4))[0]


def _read(wire: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (part := wire.recv(size - len(data))):
        data += part
    return data


def serve(path: str, run) -> None:
    """Fork a process for each request that calls `run` with its arguments.

    run: returns the exit code.
    """
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen(16)
    print("ready", flush=True)
    while True:
        wire, _ = server.accept()
        head, ancillary, _, _ = wire.recvmsg(4, socket.CMSG_SPACE(STREAMS * 4))
        streams = array.array("i")
        streams.frombytes(ancillary[0][2][: STREAMS * 4])
        arguments, environment, folder = json.loads(_read(wire, struct.unpack("!I", head)[0]))
        pid = os.fork()
        if pid == 0:
            server.close()
            wire.close()
            _engine(arguments, environment, folder, list(streams), run)
        for descriptor in streams:
            os.close(descriptor)
        # In a thread, so that others are served meanwhile; it holds no lock that a fork could copy.
        threading.Thread(target=_reap, args=(pid, wire), daemon=True).start()


def _engine(arguments, environment, folder, streams, run) -> None:
    os.setpgid(0, 0)  # a client that kills the engine kills its group
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    code = 1
    try:
        code = run(arguments)
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def _reap(pid: int, wire: socket.socket) -> None:
    _, status = os.waitpid(pid, 0)
    with wire, suppress(OSError):  # the client may have been killed
        wire.sendall(struct.pack("!i", os.waitstatus_to_exitcode(status)))
