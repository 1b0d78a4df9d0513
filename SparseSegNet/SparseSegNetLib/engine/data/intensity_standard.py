"""Normalisation of intensities that carries over from a training set to other volumes.

CT is given in Hounsfield units, so the statistics of the training set hold for every scan. Other
modalities have a scale of their own in each volume, so each is normalised by its own robust
statistics, after matching its histogram to that of the training set where that is wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from ...annotation.hounsfield import looks_like_ct
from ...runfolder.forms import choice, number, of_type, record, rows
from .preprocessing import SAMPLE, Normalisation

RANGE = (1, 99)  # percentiles that describe the intensities of a channel
# Percentiles at which histograms are matched; linear in between (Nyul 2000).
LANDMARKS = (0.1, 1, 5, *range(10, 100, 5), 99, 99.9)
FORM = record(
    {
        "modality": choice("ct", "other"),
        "normalisation": of_type(Normalisation),
        "landmarks": rows(rows(number(), len(LANDMARKS), len(LANDMARKS))),
    }
)


@dataclass(frozen=True)
class IntensityStandard:
    """The normalisation of images for a model.

    Attributes:
        modality: 'ct' or 'other'.
        normalisation: Of the training set; used for CT.
        landmarks: Per channel the training set's mean `LANDMARKS`, after normalisation; empty where
            histograms are not matched.
    """

    modality: str
    normalisation: Normalisation
    landmarks: tuple[tuple[float, ...], ...] = ()

    @classmethod
    def measure(
        cls, images: Sequence[np.ndarray], modality: str = "auto", match: bool = False
    ) -> IntensityStandard:
        """Measures a training set.

        Args:
            images: Each (c, k, j, i).
            modality: 'ct', 'other', or 'auto' to tell by the values of all images.
            match: Whether to match histograms (not for CT, whose values mean something).
        """
        if modality == "auto":
            modality = "ct" if all(looks_like_ct(image) for image in images) else "other"
        pooled = [
            np.concatenate([_sample(image[c]) for image in images]) for c in range(len(images[0]))
        ]
        standard = cls(modality, Normalisation.measure(np.stack(pooled)[:, None, None, :]))
        if not match or modality == "ct":
            return standard
        found = [
            [_landmarks(channel) for channel in Normalisation.measure(image).apply(image)]
            for image in images
        ]
        mean = np.mean(found, axis=0)
        return cls(modality, standard.normalisation, tuple(tuple(map(float, row)) for row in mean))

    def normalisation_of(self, image: np.ndarray) -> Normalisation:
        """The normalisation of an image (c, k, j, i)."""
        return self.normalisation if self.modality == "ct" else Normalisation.measure(image)

    def matched(
        self, image: np.ndarray, landmarks: Sequence[np.ndarray] | None = None
    ) -> np.ndarray:
        """The image with its histogram matched to the training set's, where that is wanted.

        Args:
            image: float32 (c, k, j, i), normalised; changed in place.
            landmarks: Per channel those of the volume that the image is a part of, see
                `landmarks_of`; None if it is all.
        """
        if not self.landmarks:
            return image
        measured = landmarks_of(image) if landmarks is None else landmarks
        for channel, wanted, own in zip(image, self.landmarks, measured, strict=True):
            # Equal percentiles (a background of zeros) would make the map ambiguous.
            rising = np.concatenate(([True], np.diff(own) > 1e-6))
            channel[...] = np.interp(channel, own[rising], np.asarray(wanted)[rising])
        return image

    def to_json(self) -> dict:
        """The standard as JSON-able values."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: dict) -> IntensityStandard:
        """The standard of a JSON object.

        Raises:
            ValueError: It has another form.
        """
        FORM(found, "intensities")
        channels = {len(row) for row in found["normalisation"].values()}
        if len(channels) != 1 or min(channels) < 1:
            raise ValueError("intensities.normalisation: one value per channel is needed")
        return cls(
            found["modality"],
            Normalisation(**{key: tuple(row) for key, row in found["normalisation"].items()}),
            tuple(map(tuple, found["landmarks"])),
        )


def intensity_ranges(images: Sequence[np.ndarray]) -> list[tuple[float, float]]:
    """Per channel the lowest and highest `RANGE` percentiles of images (c, k, j, i)."""
    ends = [[np.percentile(_sample(channel), RANGE) for channel in image] for image in images]
    return [
        (float(min(image[c][0] for image in ends)), float(max(image[c][1] for image in ends)))
        for c in range(len(ends[0]))
    ]


def _sample(channel: np.ndarray) -> np.ndarray:
    step = max(1, round((channel.size / SAMPLE) ** (1 / 3)))
    return np.asarray(channel[::step, ::step, ::step], np.float64).ravel()


def landmarks_of(image: np.ndarray) -> list[np.ndarray]:
    """Per channel of a normalised image (c, k, j, i) its percentiles at `LANDMARKS`."""
    return [_landmarks(channel) for channel in image]


def _landmarks(channel: np.ndarray) -> np.ndarray:
    return np.percentile(_sample(channel), LANDMARKS)
