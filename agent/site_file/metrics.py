"""`[metrics]`: the file that a Prometheus collector reads."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from agent.quantity import Time
from agent.site_file.section import Section


class MetricsSection(Section):
    """Where the metrics go, and how often."""

    enabled: bool = True
    file: str | None = None
    every: Annotated[Time, Field(ge=1.0, le=3600.0)] = 15.0

    @field_validator("file")
    @classmethod
    def _a_text_file(cls, path: str | None) -> str | None:
        if path is not None and not (path.startswith("/") and path.endswith(".prom")):
            raise ValueError(f"{path!r}: write the whole path of a file that ends in .prom; collectors read no other")
        return path
