"""`[replan]`: when this site plans anew by itself, and what its battery's wear costs."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from agent.core.replan_request import MAX_PRICE_PER_KWH
from agent.core.replan_rules import ReplanRules
from agent.quantity import Percent, Time
from agent.site_file.section import Section


class ReplanSection(Section):
    """Local re-planning."""

    enabled: bool = True
    cycle_cost_per_kwh: Annotated[float, Field(ge=0, le=MAX_PRICE_PER_KWH)] = 0.0
    soc_tolerance: Annotated[Percent, Field(ge=0.5, le=50)] = 3.0
    settle: Annotated[Time, Field(ge=0.2, le=3600)] = 60.0
    min_interval: Annotated[Time, Field(ge=1, le=3600)] = 300.0
    repeat: Annotated[Time, Field(ge=1, le=86_400)] = 1800.0
    time_limit: Annotated[Time, Field(ge=1, le=60)] = 30.0

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.repeat < self.min_interval:
            told = f"repeat ({self.repeat:g} s) must not be shorter than min_interval ({self.min_interval:g} s)"
            raise ValueError(told)
        return self

    def rules(self) -> ReplanRules:
        """When to plan anew, as the core sees it."""
        return ReplanRules(self.soc_tolerance, self.settle, self.min_interval, self.repeat)
