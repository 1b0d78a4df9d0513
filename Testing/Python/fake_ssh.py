"""An SSH command without a network: ``python fake_ssh.py HOST COMMAND`` runs the command here.

Bytes pass through this process, so that killing it is the loss of the connection. The environment
over there is that of FAR_ENVIRONMENT, JSON, beside this one. FAR_PID names a file for the number of
this process.
"""

import json
import os
import subprocess
import sys
import threading


def relay(read, write, close):
    while data := os.read(read, 65536):
        try:
            os.write(write, data)
        except OSError:
            break
    if close:
        os.close(write)


def main():
    if "FAR_PID" in os.environ:
        with open(os.environ["FAR_PID"], "w", encoding="ascii") as file:
            file.write(str(os.getpid()))
    environment = {**os.environ, **json.loads(os.environ.get("FAR_ENVIRONMENT", "{}"))}
    far = subprocess.Popen(
        sys.argv[2],
        shell=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        cwd=environment.get("HOME"),
        start_new_session=os.name != "nt",
    )
    given, out = os.dup(far.stdin.fileno()), far.stdout.fileno()
    far.stdin.close()
    threading.Thread(target=relay, args=(0, given, True), daemon=True).start()
    relay(out, 1, False)
    os._exit(far.wait())


if __name__ == "__main__":
    main()
