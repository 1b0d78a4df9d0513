"""The description of a model, in the header of its file: read and checked without torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..annotation.composition import MAX_SEGMENTS
from ..annotation.segments import Segment
from ..annotation.turned_content import EDGE, TURNS, ContentOrientation
from ..errors import InputError
from .forms import ValidationError, choice, number, of_type, optional, record, rows, text, whole
from .tensors_header import read_metadata

SCHEMA = 2
KEY = "sparsesegnet"


@dataclass(frozen=True)
class TrainingCase:
    """One volume of the training set.

    Attributes:
        name: Of the volume or its file.
        size: Voxels along i, j, k.
        spacing: mm along i, j, k.
        slices: Annotated slices.
        labelled: Labelled voxels.
        segments: Names of the segments that its annotation tells from the background.
    """

    name: str
    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    slices: int
    labelled: int
    segments: tuple[str, ...]


@dataclass(frozen=True)
class Score:
    """Score of a segment.

    Attributes:
        iou: Intersection over union; None where nothing could be scored.
        dice: Dice coefficient.
        voxels: Voxels of the segment that were scored.
    """

    iou: float | None
    dice: float | None
    voxels: int


@dataclass(frozen=True)
class ModelDescription:
    """Everything that is to be known of a model before it is applied.

    Attributes:
        name: Of the run that trained it.
        created: Date and time, ISO 8601.
        segments: The classes 1..K.
        channels: The name of each channel, in order.
        modality: 'ct' (Hounsfield units) or 'other'.
        ranges: Per channel the 1st and the 99th percentile of the intensities, lowest and highest
            of the training set.
        spacing: mm along i, j, k of the grid that it works on, in the model's orientation.
        orientation: Anatomical directions of i, j and k, such as 'LPS'.
        cases: The training set.
        scores: Per segment, see `scored`; None where there are none.
        scored: How the scores were measured.
        seconds: Of the training.
        steps: Of the network's training.
        seed: Random seed.
        versions: Of torch, Python and numpy.
        content: Orientation of the content of the training set; None where no turn can be told.
    """

    name: str
    created: str
    segments: list[Segment]
    channels: list[str]
    modality: str
    ranges: list[tuple[float, float]]
    spacing: tuple[float, float, float]
    orientation: str
    cases: list[TrainingCase]
    scores: list[Score] | None = None
    scored: str = ""
    seconds: float = 0.0
    steps: int = 0
    seed: int = 0
    versions: dict[str, str] = field(default_factory=dict)
    content: ContentOrientation | None = None

    def to_json(self) -> dict:
        """Dictionary that can be written as JSON."""
        return {
            **asdict(self),
            "schema": SCHEMA,
            "segments": [segment.to_json() for segment in self.segments],
        }

    @classmethod
    def from_json(cls, found: object) -> ModelDescription:
        """Description from `to_json`'s dictionary.

        Raises:
            ValueError: It has another form.
        """
        FORM(found, "")
        assert isinstance(found, dict)
        channels, ranges = found["channels"], found["ranges"]
        if len(channels) != len(ranges):
            raise ValidationError("ranges", f"{len(channels)}, one per channel", len(ranges))
        if sorted(axis for letter in found["orientation"] for axis in AXIS_OF.get(letter, ())) != [
            "L",
            "P",
            "S",
        ]:
            raise ValidationError(
                "orientation", "three directions such as 'LPS'", found["orientation"]
            )
        scores = found.get("scores")
        if scores is not None and len(scores) != len(found["segments"]):
            raise ValidationError(
                "scores", f"{len(found['segments'])}, one per segment", len(scores)
            )
        return cls(
            found["name"],
            found["created"],
            [Segment.from_json(segment) for segment in found["segments"]],
            list(channels),
            found["modality"],
            [(float(low), float(high)) for low, high in ranges],
            _three(found["spacing"]),
            found["orientation"],
            [
                TrainingCase(
                    case["name"],
                    _three(case["size"]),
                    _three(case["spacing"]),
                    case["slices"],
                    case["labelled"],
                    tuple(case["segments"]),
                )
                for case in found["cases"]
            ],
            None
            if scores is None
            else [Score(score["iou"], score["dice"], score["voxels"]) for score in scores],
            found.get("scored", ""),
            found.get("seconds", 0.0),
            found.get("steps", 0),
            found.get("seed", 0),
            dict(found.get("versions", {})),
            _content(found.get("content")),
        )

    @classmethod
    def read(cls, path: Path | str) -> ModelDescription:
        """Reads the description of a model file; nothing of it is executed or allocated.

        Raises:
            InputError: It is no model file, damaged, or of another version.
        """
        return cls.read_entry(path)[0]

    @classmethod
    def read_entry(cls, path: Path | str) -> tuple[ModelDescription, dict]:
        """Reads the description, and the whole JSON entry that it is a part of.

        Raises:
            InputError: As `read`.
        """
        try:
            found = read_metadata(Path(path), KEY)
            record({"schema": whole(1)})(found, "the header")
            if found["schema"] > SCHEMA:
                raise InputError(
                    f"the model {path} was written by a newer SparseSegNet (schema "
                    f"{found['schema']}, this one reads up to {SCHEMA}): update SparseSegNet."
                )
            if found["schema"] < SCHEMA:
                raise InputError(
                    f"the model {path} was written by an older SparseSegNet, which did not keep "
                    "what is needed to use it again: train it once more."
                )
            return cls.from_json(found), found
        except ValueError as error:
            raise InputError(
                f"{path} is not a SparseSegNet model: {error}. Give a file that SparseSegNet "
                "has saved, or restore it from a copy."
            ) from error


AXIS_OF = {"L": "L", "R": "L", "P": "P", "A": "P", "S": "S", "I": "S"}
FORM = record(
    {
        "name": text(),
        "created": text(),
        "segments": rows(of_type(Segment), 1, MAX_SEGMENTS),
        "channels": rows(text(), 1, 1000),
        "modality": choice("ct", "other"),
        "ranges": rows(rows(number(), 2, 2)),
        "spacing": rows(number(1e-12), 3, 3),
        "orientation": text(),
        "cases": rows(of_type(TrainingCase)),
    },
    {
        "scores": optional(
            rows(
                record(
                    {
                        "iou": optional(number(0, 1)),
                        "dice": optional(number(0, 1)),
                        "voxels": whole(0),
                    }
                )
            )
        ),
        "content": optional(
            record(
                {
                    "mean": rows(number(), EDGE**3, EDGE**3),
                    "turns": rows(whole(0, len(TURNS) - 1), 1, len(TURNS)),
                }
            )
        ),
        "scored": text(),
        "seconds": number(0),
        "steps": whole(0),
        "seed": whole(0),
        "versions": of_type(dict[str, str]),
    },
)


def _content(found: dict | None) -> ContentOrientation | None:
    if found is None:
        return None
    return ContentOrientation(tuple(map(float, found["mean"])), tuple(found["turns"]))


def _three(values: list) -> tuple:
    first, second, third = values
    return first, second, third
