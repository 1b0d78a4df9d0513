"""Cause and remedy of an exception, in the user's words."""

from __future__ import annotations

import errno
from pathlib import Path

from ...errors import EngineError
from ...runfolder.disk_faults import disk_fault, disk_full

# Parts of an error's text (in lower case), code, cause and remedy.
KNOWN_ERRORS = (
    (
        ("no kernel image", "is not compatible with the current pytorch"),
        "gpu-not-supported",
        "this torch has no code for this GPU",
        "Install a torch made for it (older GPUs need an older torch), or use --device cpu.",
    ),
    (
        (
            "driver version is insufficient",
            "driver on your system is too old",
            "found no nvidia driver",
        ),
        "driver",
        "the GPU's driver is missing or too old for this torch",
        "Update the driver, or use --device cpu.",
    ),
    (
        (
            "dll load failed",
            "winerror 126",
            "winerror 127",
            "winerror 1114",
            "cannot open shared object",
            "library not loaded",
        ),
        "library-missing",
        "a library that torch needs cannot be loaded",
        "On Windows install the Microsoft Visual C++ Redistributable (x64); otherwise install "
        "torch again. 'sparsesegnet doctor' checks it.",
    ),
    (
        ("cuda error", "cudnn", "cublas", "mps backend"),
        "gpu",
        "the GPU failed",
        "Try again after a restart, or use --device cpu. 'sparsesegnet doctor' checks it.",
    ),
)
# What allocators and libraries say (in lower case) when memory runs out: torch's on CUDA, ROCm,
# MPS and the CPU (on Windows too), cuBLAS, cuDNN and oneDNN, which cannot make its kernels then.
NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "alloc_failed",
    "unable to find a valid cudnn algorithm",
    "bad_alloc",
    "bad allocation",
    "could not create a primitive",
)
NOT_MEMORY = ("primitive descriptor",)  # oneDNN's way of saying that it has no such operation
HALF = "Install torch and safetensors again: 'pip install --force-reinstall torch safetensors'."


def out_of_memory(error: BaseException) -> bool:
    """True if an exception means that memory ran out, on whatever device."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and any(said in text for said in NO_MEMORY)
        and not any(said in text for said in NOT_MEMORY)
    )


def not_supported(error: BaseException) -> bool:
    """True if an exception means that the device does not support an operation.

    Its number format, for instance; memory that runs out is another matter.
    """
    return isinstance(error, (RuntimeError, NotImplementedError, TypeError)) and not out_of_memory(
        error
    )


def path_too_long(error: OSError) -> bool:
    """True if a path is longer than the system takes (on Windows 260 characters)."""
    return (
        error.errno == errno.ENAMETOOLONG
        or getattr(error, "winerror", None) == 206
        or (getattr(error, "winerror", None) == 3 and len(str(error.filename)) >= 250)
    )


def classify(error: BaseException, folder: Path | None = None) -> EngineError:
    """The EngineError that explains an unexpected exception.

    Args:
        error: The exception.
        folder: The run folder that was worked on.
    """
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    if out_of_memory(error):
        return EngineError(
            "out-of-memory",
            f"out of memory ({text}).",
            "Close other programs, or use --device cpu, or crop the volume.",
        )
    if isinstance(error, OSError) and path_too_long(error):
        return EngineError(
            "path-too-long",
            f"a path is too long for this system ({text}).",
            "Choose a run folder with a shorter name.",
        )
    if isinstance(error, (ImportError, OSError, RuntimeError)):
        for words, code, cause, remedy in KNOWN_ERRORS:
            if any(word in str(error).lower() for word in words):
                return EngineError(code, f"{cause} ({text}).", remedy)
    if isinstance(error, ImportError) or (
        isinstance(error, AttributeError) and "torch" in str(error)
    ):
        return EngineError(
            "torch", f"torch or safetensors is not installed completely ({text}).", HALF
        )
    if isinstance(error, OSError) and folder is not None and _lies_in(error, folder):
        fault = disk_fault(error, folder)
        again = f"'sparsesegnet resume \"{folder}\"' then goes on from the last checkpoint."
        return EngineError(fault.code, fault.cause, f"{fault.remedy} {again}")
    if isinstance(error, OSError) and disk_full(error):
        return EngineError("disk-full", f"the disk is full ({text}).", "Free some space.")
    if isinstance(error, OSError):
        return EngineError(
            "files",
            f"a file cannot be read or written ({text}).",
            "Check its rights and the disk's free space.",
        )
    return EngineError(
        "internal",
        f"{type(error).__name__}: {text}.",
        "This is a fault in SparseSegNet: please report it with the log.",
    )


def _lies_in(error: OSError, folder: Path) -> bool:
    """True if an error can be one of a file in a folder; not all name a file."""
    return error.filename is None or folder in Path(str(error.filename)).parents
