"""One thing that is wrong with a profile, for people: file, place and reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, and where in the file."""

    where: str
    """Such as `points.battery_power`."""
    reason: str
    severity: Literal["error", "warning"] = "error"
    """A profile with errors is refused; warnings are for its author."""

    def line(self, file: str) -> str:
        """One line: file, place, reason."""
        word = "warning: " if self.severity == "warning" else ""
        return f"{file}: {self.where}: {word}{self.reason}"


class BadProfile(ValueError):  # noqa: N818  # named for what the file states
    """A profile cannot be used; `problems` holds one line per problem."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
