"""Frozen dataclasses for what is made at every tick: as shut as any other, and made in a third of the time.

A frozen dataclass fills a new instance through `object.__setattr__`, field by field, because its own `__setattr__`
refuses. Here the new instance is of an open twin of its class while it is filled, by plain assignments, and then of the
class itself for good.
"""

from __future__ import annotations

from dataclasses import MISSING, Field, fields
from typing import Any, NoReturn, TypeVar

Made = TypeVar("Made")

_become = object.__dict__["__class__"].__set__
_OPEN = {"__slots__": (), "__setattr__": object.__setattr__, "__delattr__": object.__delattr__}


def made_often(cls: type[Made]) -> type[Made]:
    """`cls`, which is a frozen slotted dataclass, with an `__init__` that does the same and costs little.

    It pays from three fields on. Such a class has no subclasses: an instance would end up as one of `cls`.
    """
    taken = fields(cls)  # type: ignore[arg-type]  # every class given is a dataclass
    assert all(field.init and not field.kw_only for field in taken), "every field is a plain argument"
    known: dict[str, Any] = {"become": _become, "opened": type(cls.__name__, (cls,), dict(_OPEN)), "shut": cls}
    known |= {f"default_{field.name}": _default(field) for field in taken} | {"MISSING": MISSING}
    lines = [
        f"def __init__(self, {', '.join(_argument(field) for field in taken)}):",
        "become(self, opened)",
        *(f"self.{field.name} = {_value(field)}" for field in taken),
        "self.__class__ = shut",
        *(["self.__post_init__()"] if hasattr(cls, "__post_init__") else []),
    ]
    made: dict[str, Any] = {}
    exec("\n ".join(lines), known, made)  # noqa: S102 (as dataclasses do: the words are names of fields)
    init = made["__init__"]
    init.__qualname__, init.__annotations__ = cls.__init__.__qualname__, cls.__init__.__annotations__
    cls.__init__ = init  # type: ignore[method-assign]
    cls.__init_subclass__ = classmethod(_refuse)  # type: ignore[assignment]
    return cls


def _refuse(cls: type, /) -> NoReturn:
    raise TypeError(f"{cls.__name__}: a class that is made often has no subclasses")


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory


def _argument(field: Field[Any]) -> str:
    if field.default_factory is not MISSING:
        return f"{field.name}=MISSING"
    return field.name if field.default is MISSING else f"{field.name}=default_{field.name}"


def _value(field: Field[Any]) -> str:
    if field.default_factory is MISSING:
        return field.name
    return f"default_{field.name}() if {field.name} is MISSING else {field.name}"
