"""A class that is made often is a frozen dataclass in all but what it costs."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass, field, replace

import pytest

from agent.core.made_often import made_often


@dataclass(frozen=True, slots=True)
class Plain:
    name: str
    size_w: float = 2.0
    notes: dict[str, float] = field(default_factory=dict)


@made_often
@dataclass(frozen=True, slots=True)
class Often:
    name: str
    size_w: float = 2.0
    notes: dict[str, float] = field(default_factory=dict)


@made_often
@dataclass(frozen=True, slots=True)
class Judged:
    lower_w: float
    upper_w: float

    def __post_init__(self) -> None:
        if self.lower_w > self.upper_w:
            raise ValueError("the wrong way round")


@pytest.mark.parametrize("given", [("a",), ("a", 3.0), ("a", 3.0, {"x": 1.0})])
def test_it_holds_what_the_plain_one_holds(given):
    plain, often = Plain(*given), Often(*given)
    assert (often.name, often.size_w, often.notes) == (plain.name, plain.size_w, plain.notes)
    assert repr(often) == repr(plain).replace("Plain", "Often")


def test_it_is_of_its_own_class_and_takes_names_for_its_fields():
    assert type(Often(size_w=1.0, name="b")) is Often
    assert Often(size_w=1.0, name="b") == Often("b", 1.0)


def test_equal_ones_are_equal_and_hash_alike():
    assert Judged(1.0, 2.0) == Judged(1.0, 2.0) != Judged(1.0, 3.0)
    assert len({Judged(1.0, 2.0), Judged(1.0, 2.0)}) == 1


def test_nothing_of_it_can_be_changed_or_taken_away():
    often = Often("a")
    with pytest.raises(FrozenInstanceError):
        often.size_w = 5.0
    with pytest.raises(FrozenInstanceError):
        del often.name


def test_a_default_that_is_made_is_made_anew_for_each():
    one, other = Often("a"), Often("b")
    one.notes["x"] = 1.0
    assert other.notes == {}


def test_a_copy_with_a_change_is_judged_as_the_first_was():
    assert replace(Judged(1.0, 2.0), upper_w=4.0) == Judged(1.0, 4.0)
    with pytest.raises(ValueError, match="wrong way round"):
        replace(Judged(1.0, 2.0), upper_w=0.0)


def test_a_missing_or_unknown_field_is_refused_by_name():
    with pytest.raises(TypeError, match=r"Often.__init__\(\) missing 1 required positional argument: 'name'"):
        Often()
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        Often("a", colour="red")


def test_it_has_no_subclasses():
    with pytest.raises(TypeError, match="More: a class that is made often has no subclasses"):
        type("More", (Often,), {})
