"""Two processes run the tests side by side (pytest-xdist): each, and the engines that it starts,
computes with one thread, since threads that outnumber the cores wait for each other."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
