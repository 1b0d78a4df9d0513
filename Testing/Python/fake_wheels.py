"""Wheels of a few hundred bytes, for installations without a network."""

import base64
import hashlib
import zipfile
from pathlib import Path


def wheel(folder: Path, name: str, version: str, files: dict[str, bytes]) -> Path:
    """Writes a wheel for any Python on any system.

    Args:
        folder: Where to.
        name: Of the distribution.
        version: Its version.
        files: Contents by path inside of site-packages.
    """
    info = f"{name}-{version}.dist-info"
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = []
    for path, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={digest},{len(data)}\n")
    files[f"{info}/RECORD"] = ("".join(rows) + f"{info}/RECORD,,\n").encode()
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for inside, data in files.items():
            file.writestr(inside, data)
    return path


def engine_wheels(folder: Path, torch: dict[str, bytes]) -> Path:
    """A folder with all that the engine needs; torch holds these files, the others nothing."""
    folder.mkdir(parents=True)
    wheel(folder, "torch", "2.9.1", torch)
    for name, version in (
        ("safetensors", "0.6.0"),
        ("numpy", "2.3.0"),
        ("scipy", "1.16.0"),
        ("SimpleITK", "2.5.0"),
    ):
        wheel(folder, name, version, {})
    return folder
