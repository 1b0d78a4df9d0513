"""``python -m SparseSegNetLib.cli``: the command line without an installed script."""

import signal

from .main import entry

if __name__ == "__main__":
    # A shell starts background programs with Ctrl-C ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    entry()
