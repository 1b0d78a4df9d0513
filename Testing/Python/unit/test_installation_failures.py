"""Real outputs of uv 0.13 and pip 24 where an installation fails, and what users read of them."""

import pytest

from SparseSegNetLib.client.installation_failures import explain
from SparseSegNetLib.client.pip_settings import NO_INDEX, translated

DNS = """error: Failed to fetch: https://nowhere.invalid/simple/safetensors/
cause: error sending request for url (https://nowhere.invalid/simple/safetensors/)
cause: client error (Connect)
cause: dns error
cause: failed to lookup address information: Name or service not known"""
PYTHON = """error: Failed to download `https://github.com/astral-sh/python-build-standalone/releases/x`
cause: error sending request for url (https://github.com/astral-sh/python-build-standalone/x)
cause: client error (Connect)
cause: dns error"""
CERTIFICATE = """error: Failed to fetch: https://localhost:8843/simple/safetensors/
cause: error sending request for url (https://localhost:8843/simple/safetensors/)
cause: client error (Connect)
cause: invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))"""
PROXY = """error: Failed to fetch: https://pypi.org/simple/safetensors/
cause: client error (Connect)
cause: tunnel error: failed to create underlying connection
cause: tcp connect error
cause: Connection refused (os error 111)"""
PROXY_PASSWORD = """error: Failed to fetch: https://pypi.org/simple/safetensors/
cause: error sending request for url (https://pypi.org/simple/safetensors/)
cause: client error (Connect)
cause: tunnel error: proxy authorization required"""
FORBIDDEN = """error: No solution found when resolving dependencies
cause: Because safetensors was not found in the package registry and you require safetensors
hint: An index (http://127.0.0.1:8844/simple) returned a 403 Forbidden error."""
NO_WHEELS = """error: No solution found when resolving dependencies
cause: Because safetensors was not found in the provided package locations
hint: Packages were unavailable because index lookups were disabled"""
FULL = """error: Failed to download `numpy==2.4.6`
cause: Failed to extract archive: numpy-2.4.6-cp311-cp311-manylinux_2_28_x86_64.whl
cause: I/O operation failed during extraction
cause: failed to write to file `/home/a/_umath.so`: No space left on device (os error 28)"""
READ_ONLY = """error: Failed to create virtual environment
cause: failed to create directory `ro/env`: Permission denied (os error 13)"""
IN_THE_WAY = """error: Failed to initialize cache at `file/c`
cause: failed to create directory `/tmp/uvt/file/c`: Not a directory (os error 20)"""
NO_VERSION = """error: No solution found when resolving dependencies
cause: Because there is no version of torch==2.2.99 and you require torch==2.2.99"""
PIP_DNS = """WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(
'Failed to establish a new connection: [Errno -2] Name or service not known')': /simple/uv/
ERROR: Could not find a version that satisfies the requirement uv (from versions: none)
ERROR: No matching distribution found for uv"""
PIP_CERTIFICATE = """Could not fetch URL https://localhost:8843/simple/uv/: There was a problem
confirming the ssl certificate: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed:
self-signed certificate (_ssl.c:1006) - skipping
ERROR: No matching distribution found for uv"""
PIP_PROXY = """WARNING: Retrying (Retry(total=0)) after connection broken by 'ProxyError('Cannot
 connect to proxy.', NewConnectionError('Failed to establish: [Errno 111] Connection refused'))'
ERROR: No matching distribution found for uv"""
PIP_PROXY_PASSWORD = """WARNING: Retrying (Retry(total=0)) after connection broken by 'ProxyError(
'Cannot connect to proxy.', OSError('Tunnel connection failed: 407 Proxy Authentication Required'))'
ERROR: No matching distribution found for uv"""
PIP_FULL = """File "/usr/lib/python3.11/shutil.py", line 515, in _copytree
raise Error(errors)
shutil.Error: [('/tmp/a.so', '/t/a.so', "[Errno 28] No space left on device: '/tmp/a.so'")]"""
PIP_READ_ONLY = """File "<frozen os>", line 225, in makedirs
PermissionError: [Errno 13] Permission denied: '/tmp/uvt/ro/env'"""
PIP_NOTHING = """
ERROR: Could not find a version that satisfies the requirement uv (from versions: none)
ERROR: No matching distribution found for uv"""


@pytest.mark.parametrize(
    ("output", "code", "remedy"),
    [
        (DNS, "offline", "pip download"),
        (PYTHON, "offline", "pip download"),
        (CERTIFICATE, "certificate", "SSL_CERT_FILE"),
        (PROXY, "proxy", "HTTPS_PROXY"),
        (PROXY_PASSWORD, "proxy", "NAME:PASSWORD"),
        (FORBIDDEN, "refused", "pip's configuration"),
        (NO_WHEELS, "wheels-missing", "PIP_FIND_LINKS"),
        (FULL, "disk-full", "Free some space"),
        (READ_ONLY, "read-only", "SPARSESEGNET_DATA"),
        (IN_THE_WAY, "in-the-way", "Move it away"),
        (NO_VERSION, "no-wheel", "another Python"),
        (PIP_DNS, "offline", "PIP_NO_INDEX"),
        (PIP_CERTIFICATE, "certificate", "PIP_CERT"),
        (PIP_PROXY, "proxy", "HTTPS_PROXY"),
        (PIP_PROXY_PASSWORD, "proxy", "NAME:PASSWORD"),
        (PIP_FULL, "disk-full", "Free some space"),
        (PIP_READ_ONLY, "read-only", "Allow writing"),
        (PIP_NOTHING, "no-wheel", "index"),
        (
            "OSError: [WinError 32] The process cannot access the file because it is being used by "
            "another process: 'torch_cpu.dll'",
            "in-use",
            "restart",
        ),
        (
            "C:\\torch cannot be removed (Access is denied): torch is in use.",
            "in-use",
            "restart",
        ),
        (
            "error: failed to write: The filename or extension is too long. (os error 206)",
            "path-too-long",
            "short path",
        ),
        (
            "RuntimeError: The NVIDIA driver on your system is too old (found version 11040).",
            "driver",
            "UV_TORCH_BACKEND=cpu",
        ),
        ("something new", "installation", "another Python"),
    ],
)
def test_recognised(output, code, remedy):
    problem = explain(output.splitlines())
    assert problem.code == code and remedy in problem.remedy
    assert problem.cause.endswith(".") and problem.remedy.endswith(".")
    assert "\n" not in str(problem)


def test_killed_and_silent():
    assert explain([], -9).code == "killed"
    assert "none" in explain(["", " "]).cause


def test_pips_settings_are_given_to_uv():
    listed = (
        "global.index-url='https://mirror/simple'\n"
        "global.extra-index-url='https://a/simple\\nhttps://b/simple'\n"
        "global.timeout='60'\n"
        "download.index-url='https://not/this'\n"
        ":env:.no-index='1'\n"
        ":env:.find-links='/wheels'\n"
        "install.proxy=''\n"
        "nonsense\n"
    )
    assert translated(listed, {"UV_FIND_LINKS": "/mine"}) == {
        "UV_DEFAULT_INDEX": "https://mirror/simple",
        "UV_INDEX": "https://a/simple https://b/simple",
        NO_INDEX: "1",
    }
    assert translated("global.find-links='/a\\n/b'", {}) == {"UV_FIND_LINKS": "/a,/b"}
