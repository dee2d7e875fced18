"""How a training run fails: each error is one line that a person can act on."""

import json
from collections.abc import Mapping

# SageMaker keeps 1,024 characters of a failure's reason; the class's name comes before the message.
_LONGEST_MESSAGE = 900
_LONGEST_REASON = 300


class TrainingError(Exception):
    """The run cannot succeed, and no file is to blame: wrong settings, too few rows, a broken champion."""


class DataRefused(Exception):  # noqa: N818 - the name is what the failure's reason starts with
    """Files that must not be trained on, each with its reason."""

    def __init__(self, files: Mapping[str, str]) -> None:
        super().__init__(refusal(files))
        self.files = dict(files)


class Stopped(Exception):  # noqa: N818 - not an error
    """The run was told to stop, and has saved what it had."""


class Refusal(Exception):  # noqa: N818 - not an error of the program
    """Why one file must not be trained on."""


def refusal(files: Mapping[str, str]) -> str:
    """Return `REFUSED={"<file>":"<reason>",…}` with as many files as fit into a failure's reason."""
    told: dict[str, str] = {}
    for name in sorted(files):
        told[name] = shorten(files[name])
        if len(_message(told)) > _LONGEST_MESSAGE and len(told) > 1:
            del told[name]
            break
    return _message(told)


def shorten(text: str, longest: int = _LONGEST_REASON) -> str:
    """Return the text on one line, cut to a readable length."""
    line = " ".join(text.split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def _message(files: Mapping[str, str]) -> str:
    return "REFUSED=" + json.dumps(files, separators=(",", ":"), ensure_ascii=False)
