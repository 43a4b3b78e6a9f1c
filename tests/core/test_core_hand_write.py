"""When a point of a device may be written by hand, as far as the control of the site is concerned."""

from __future__ import annotations

import pytest

from agent.core.authority import Source
from agent.core.hand_write import refuse_hand_write


@pytest.mark.parametrize("source", list(Source))
def test_what_the_control_does_not_own_may_be_written_whoever_decides(source):
    assert refuse_hand_write(owned=False, source=source, awards=()) is None


@pytest.mark.parametrize("source", [source for source in Source if source is not Source.OVERRIDE])
def test_what_the_control_owns_needs_an_override(source):
    refused = refuse_hand_write(owned=True, source=source, awards=())
    assert refused is not None
    assert "the control owns this point" in refused.why
    assert refused.hint
    assert refuse_hand_write(owned=True, source=Source.OVERRIDE, awards=()) is None


def test_a_safety_latch_is_not_overridden_by_hand():
    safe = refuse_hand_write(owned=True, source=Source.SAFE_MODE, awards=())
    assert safe is not None
    assert "ems safe-mode end" in safe.hint
    refused = refuse_hand_write(owned=True, source=Source.LATCH, awards=())
    assert "the safety latch holds the batteries at 0 kW" in refused.why
    assert "ems latch reset" in refused.hint


@pytest.mark.parametrize("owned", [True, False])
@pytest.mark.parametrize("source", list(Source))
def test_while_awards_are_answered_nothing_is_written(owned, source):
    refused = refuse_hand_write(owned=owned, source=source, awards=("a-1", "a-2"))
    assert "the award a-1, a-2 is in force" in refused.why
    assert "--suspend-awards" in refused.hint
