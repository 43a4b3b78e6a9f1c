"""What every section of the site file shares: strict types, no unknown keys, frozen."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """One table of the site file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, defer_build=True)


Name = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")]
