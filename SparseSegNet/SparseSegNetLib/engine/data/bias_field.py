"""N4 bias field correction (Tustison 2010), by SimpleITK, as V-Net's authors prepare their data."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# The field is smooth: it is fitted to a reduced image of about so many voxels.
FIT_VOXELS = 64**3


def correct_bias(
    image: np.ndarray, spacing: tuple[float, float, float], check: Callable[[], None] = lambda: None
) -> np.ndarray:
    """Divides an image by its bias field, channel by channel.

    Args:
        image: (c, k, j, i), real.
        spacing: mm along k, j, i.
        check: Called at each iteration; it may raise to stop.

    Returns:
        float32 (c, k, j, i). A constant channel stays as it is.
    """
    out = np.empty(image.shape, np.float32)
    for channel, pixels in enumerate(image):
        out[channel] = _corrected(np.asarray(pixels, np.float32), spacing, check)
    return out


def _corrected(
    pixels: np.ndarray, spacing: tuple[float, float, float], check: Callable[[], None]
) -> np.ndarray:
    import SimpleITK as sitk  # takes most of a second, and few runs ask for the correction

    low, high = float(pixels.min()), float(pixels.max())
    if high <= low:
        return pixels
    # N4 works on logarithms; CT and normalised images have values below 0.
    shift = (1e-3 * (high - low) - low) if low <= 0 else 0.0
    full = sitk.GetImageFromArray(pixels + shift)
    full.SetSpacing([float(s) for s in reversed(spacing)])
    factor = max(1, round((pixels.size / FIT_VOXELS) ** (1 / 3)))
    shrink = [max(1, min(factor, n // 4)) for n in full.GetSize()]
    small = sitk.Shrink(full, shrink)
    mask = sitk.OtsuThreshold(small, 0, 1)
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    raised: list[BaseException] = []

    def iteration() -> None:
        try:
            check()
        except BaseException as error:  # an exception must not pass through ITK's C++ code
            raised.append(error)
            n4.Abort()

    n4.AddCommand(sitk.sitkIterationEvent, iteration)
    try:
        n4.Execute(small, mask)
    except RuntimeError:
        if not raised:
            raise
    if raised:
        raise raised[0]
    field = sitk.Exp(sitk.Cast(n4.GetLogBiasFieldAsImage(full), sitk.sitkFloat32))
    return sitk.GetArrayFromImage(full / field) - shift
