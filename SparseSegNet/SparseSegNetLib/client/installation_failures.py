"""Cause and remedy of an installation that failed, recognised in the output of pip and uv."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import EngineError

WHEELS = (
    "on a computer with internet and the same system, 'pip download -d wheels uv torch "
    "safetensors numpy scipy SimpleITK' with the same version of Python collects what is needed: "
    "copy that folder here, and start Slicer with the environment variables PIP_NO_INDEX=1 and "
    "PIP_FIND_LINKS=FOLDER"
)
# Parts of the output (in lower case), code, cause and remedy. The first that fits counts: a full
# disk makes other things fail, too, and a proxy that refuses looks like no network.
KNOWN = (
    (
        ("no space left on device", "os error 28", "os error 112", "not enough space on the disk",
         "disk quota exceeded", "errno 28", "os error 122"),
        "disk-full",
        "the disk is full.",
        "Free some space (10 GB for a graphics card, 2 GB without one) and install again.",
    ),
    (
        ("certificate_verify_failed", "invalid peer certificate", "unknownissuer",
         "self-signed certificate", "self signed certificate"),
        "certificate",
        "the server's certificate is not trusted, as behind a proxy that looks into encrypted "
        "connections.",
        "Ask your IT department for its root certificate, and start Slicer with the environment "
        "variables SSL_CERT_FILE and PIP_CERT set to that file.",
    ),
    (
        ("proxy authentication required", "proxy authorization required", "407 proxy"),
        "proxy",
        "the proxy wants a name and a password.",
        "Start Slicer with the environment variable HTTPS_PROXY=http://NAME:PASSWORD@HOST:PORT.",
    ),
    (
        ("cannot connect to proxy", "tunnel error", "proxyerror", "unsuccessful tunnel"),
        "proxy",
        "the proxy cannot be reached, or refuses the connection.",
        "Check the environment variable HTTPS_PROXY with which Slicer was started, and the "
        "system's proxy settings.",
    ),
    (
        ("401 unauthorized", "403 forbidden", "403 client error", "401 client error"),
        "refused",
        "the package index refuses access.",
        "Check the index, name and password in pip's configuration, or whether a firewall "
        "blocks the index.",
    ),
    (
        ("dns error", "failed to lookup address", "name or service not known",
         "nodename nor servname", "getaddrinfo failed", "temporary failure in name resolution",
         "network is unreachable", "no route to host", "connection refused", "connection reset",
         "connection aborted", "operation timed out", "read timed out", "connecttimeout",
         "newconnectionerror", "network was disabled", "error sending request", "timed out"),
        "offline",
        "the package index cannot be reached.",
        f"Check the network and install again. Without internet: {WHEELS}.",
    ),
    (
        ("index lookups were disabled", "not found in the provided package locations",
         "was not found in the cache"),
        "wheels-missing",
        "a package is not among the wheels at hand, and the index may not be asked.",
        f"Add the missing one: {WHEELS}.",
    ),
    (
        ("winerror 32", "os error 32", "being used by another process", "winerror 5]",
         "text file busy", "torch is in use"),
        "in-use",
        "a file that would be replaced is in use.",
        "Close other Slicers, end runs, restart the computer if need be, and install again; a "
        "virus scanner may hold it for some minutes.",
    ),
    (
        ("permission denied", "access is denied", "errno 13", "os error 13", "os error 5",
         "read-only file system", "os error 30", "errno 30"),
        "read-only",
        "the folder may not be written to.",
        "Allow writing there, or start Slicer with the environment variable SPARSESEGNET_DATA "
        "set to a folder that you may write to.",
    ),
    (
        ("not a directory", "file exists", "is not a directory", "cannot create a file when",
         "os error 183"),
        "in-the-way",
        "a file lies where a folder has to be made.",
        "Move it away and install again.",
    ),
    (
        ("file name too long", "os error 206", "winerror 206", "filename or extension is too long"),
        "path-too-long",
        "a path is longer than the system takes.",
        "Switch long paths on in Windows, or start Slicer with the environment variable "
        "SPARSESEGNET_DATA set to a folder with a short path.",
    ),
    (
        ("driver on your system is too old", "driver version is insufficient",
         "cuda driver version"),
        "driver",
        "the graphics card's driver is too old for this torch.",
        "Update the driver, or start Slicer with the environment variable UV_TORCH_BACKEND=cpu.",
    ),
    (
        ("no matching distribution found", "no solution found", "not a supported wheel",
         "no wheels with a matching", "doesn't have a source distribution or wheel"),
        "no-wheel",
        "the package index has no version that fits this system and this Python, or it is blocked.",
        "Choose another place to install to or another Python (3.12, 64 bit), or check the index "
        "in pip's configuration.",
    ),
)  # fmt: skip
KILLED = (-9, 137)


def explain(lines: Sequence[str], code: int = 1) -> EngineError:
    """Error that explains a failed installation.

    Args:
        lines: The last lines of its output.
        code: The exit code of the program that failed, negative for a signal.
    """
    text = "\n".join(lines).lower()
    for words, name, cause, remedy in KNOWN:
        if any(word in text for word in words):
            return EngineError(name, f"the installation failed: {cause}", remedy)
    if code in KILLED:
        return EngineError(
            "killed",
            "the system, or somebody, killed the installation; most often because memory ran out.",
            "Close other programs and install again.",
        )
    last = next((line for line in reversed(lines) if line.strip()), "none")
    return EngineError(
        "installation",
        f"the installation failed; its last output: '{last[:300]}'.",
        "Install again, or use another Python.",
    )
