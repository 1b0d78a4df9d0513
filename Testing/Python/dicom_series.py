"""DICOM series for tests, written slice by slice with chosen places and header entries."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
ROOT = "1.2.826.0.1.3680043.8.498."


def voxels(planes=6, rows=7, columns=9, seed=0):
    return np.random.default_rng(seed).integers(-500, 500, (planes, rows, columns)).astype(np.int16)


def write_series(
    folder: Path,
    array: np.ndarray,
    positions=None,
    orientation=AXIAL,
    spacing=(0.8, 0.9),
    uid="1",
    number=1,
    prefix="IM",
    suffix=".dcm",
    tags=None,
):
    """Writes array (k, j, i); `tags` are header entries, or a function of k that gives them."""
    folder.mkdir(exist_ok=True)
    if positions is None:
        positions = [(-12.3, 40.5, 7.25 + 1.7 * k) for k in range(len(array))]
    paths = []
    for k, plane in enumerate(array):
        image = sitk.GetImageFromArray(plane[None])
        row, column = np.reshape(orientation, (2, 3))
        axes = np.column_stack([row, column, np.cross(row, column)])
        image.SetDirection(axes.ravel().tolist())
        image.SetSpacing((*spacing, 1.7))
        image.SetOrigin(positions[k])
        head = {
            "0008|0060": "CT",
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"{ROOT}{uid}.{number}.{sum(prefix.encode())}.{k}",
            "0020|000d": f"{ROOT}99",
            "0020|000e": f"{ROOT}{uid}",
            "0020|0011": str(number),
            "0020|0013": str(k + 1),
            "0020|0032": "\\".join(f"{v:.6f}" for v in positions[k]),
            "0020|0037": "\\".join(map(str, orientation)),
            "0018|0050": "1.7",
        }
        head |= (tags(k) if callable(tags) else tags) or {}
        for key, value in head.items():
            image.SetMetaData(key, value)
        writer = sitk.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.KeepOriginalImageUIDOn()
        path = folder / f"{prefix}{k:03}{suffix}"
        # The writer would add an ending to a name without one.
        written = path if path.suffix else path.with_suffix(".dcm")
        writer.SetFileName(str(written))
        writer.Execute(image)
        written.rename(path)
        paths.append(path)
    return paths
