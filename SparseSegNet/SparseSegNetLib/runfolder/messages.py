"""Forms of all messages between engine and client; a message of another form is refused."""

from __future__ import annotations

from .forms import (
    Form,
    ValidationError,
    anything,
    mapping,
    number,
    optional,
    record,
    rows,
    text,
    whole,
)

STEP, SECONDS, LOSS = whole(0), number(0), optional(number())
SCORE = optional(number(0, 1))
SCORES = optional(rows(record({}, {"dice": SCORE, "iou": SCORE, "voxels": whole(0)})))
TRIPLE = rows(whole(0), 3, 3)
EVENTS: dict[str, Form] = {
    "started": record({"pid": whole(1)}),
    "ready": record({"pid": whole(1), "device": text()}),
    "plan": record(
        {"device": text(), "network": text(), "shape": TRIPLE, "patch": TRIPLE, "width": whole(1)}
    ),
    "progress": record(
        {
            "step": STEP,
            "loss": LOSS,
            "seconds": SECONDS,
            "phase": text(),
            "fraction": number(),
            "remaining": optional(number()),
        }
    ),
    "metrics": record(
        {
            "step": STEP,
            "seconds": SECONDS,
            "loss": LOSS,
            "phase": text(),
            "held_out": SCORES,
            "held_out_dice": SCORE,
        }
    ),
    "score": record({"input": whole(1)}),
    "warning": record({"text": text()}),
    "oom-recovered": record({"step": STEP, "text": text()}),
    "checkpoint": record({"step": STEP, "seconds": SECONDS}),
    "resumed": record({"step": STEP, "seconds": SECONDS}),
    "labels": record({"input": whole(1), "step": STEP}),
    "paused": record({"step": STEP}),
    "preview": record(
        {"input": whole(1), "step": STEP, "seconds": SECONDS}, {"planes": rows(text())}
    ),
    "interrupted": record({"cause": text(), "remedy": text()}),
    "error": record({"code": text(), "cause": text()}, {"remedy": text()}),
    "done": record(
        {"seconds": SECONDS, "step": STEP, "held_out": SCORES, "held_out_slices": rows(text())},
        {"seconds_aside": mapping(number(0))},
    ),
}
INPUT = {"input": whole(1)}
COMMANDS: dict[str, Form] = {
    **dict.fromkeys(("stop", "cancel", "interrupt", "pause", "resume"), mapping(anything())),
    "set": record({"time_budget": number()}),
    "labels-changed": record({}, INPUT),
    "preview": record({}, {**INPUT, "planes": optional(rows(text()))}),
}
FORMS = {"event": EVENTS, "command": COMMANDS}


class ProtocolError(ValueError):
    """A message has not its form; the text names the message, the place and the expected form."""


def check_message(message: dict, kind: str, segments: int | None = None) -> None:
    """Checks that a decoded message has its form.

    A message of an unknown name passes, since a newer version may send more of them.

    Args:
        message: The decoded message.
        kind: 'event' or 'command'.
        segments: Number of segments of the run, each of which has a score where there are scores.

    Raises:
        ProtocolError: The message has another form.
    """
    form = FORMS[kind].get(message[kind], mapping(anything()))
    try:
        form(message, "")
        if segments is not None and form in (EVENTS["metrics"], EVENTS["done"]):
            optional(rows(anything(), segments, segments))(message["held_out"], "held_out")
    except ValidationError as error:
        name = message[kind][:40].encode("ascii", "backslashreplace").decode()
        raise ProtocolError(f"the {kind} '{name}' cannot be understood: {error}") from error
