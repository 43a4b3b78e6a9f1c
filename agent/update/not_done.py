"""The one way in which what changes the installation says no."""

from __future__ import annotations


class NotDone(Exception):  # noqa: N818 - an expected outcome, named for what happened
    """It was not done, and what was there before stands."""

    def __init__(self, what: str, why: str, then: str) -> None:
        super().__init__(f"{what}: {why}")
        self.what, self.why, self.then = what, why, then
