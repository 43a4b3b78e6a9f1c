"""Every code of an event or a condition that the sources can tell, read from the sources themselves."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLACES = {"Condition": 0, "Event": 3}
"""Where the code stands among the arguments."""
MADE_UP = {"agent/store/writer.py": [f"{stream}_dropped" for stream in ("telemetry", "full_rate", "ledger")]}
"""Codes that are put together where they are told."""


@cache
def codes():
    """The codes, each with the severities that stand beside it in the sources; not those worked out at run time."""
    found = {code: set() for made in MADE_UP.values() for code in made}
    for folder in ("agent", "drivers"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for code, severities in _of(ast.parse(path.read_text())):
                found.setdefault(code, set()).update(severities)
    return found


def _of(tree):
    constants = dict(_constants(tree))
    passed_on = dict(_functions_with_a_code(tree))
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = ast.unparse(call.func).split(".")[-1]
        place = PLACES.get(name, passed_on.get(name))
        if place is None:
            continue
        beside = {
            one.attr.lower()
            for arg in call.args
            for one in ast.walk(arg)
            if isinstance(one, ast.Attribute) and ast.unparse(one.value) == "Severity"
        }
        if "EventState.CLEARED" in {ast.unparse(arg) for arg in call.args}:
            beside = set()  # the end of it
        if any(isinstance(one, ast.Starred) for one in call.args):
            # The first text is the code: state and severity, which come before it, are no texts.
            texts = [one.value for one in call.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
            yield texts[0], beside
        elif len(call.args) > place:
            for code in _words(call.args[place], constants):
                yield code, beside


def _constants(tree):
    """Names of the module that stand for a text."""
    for node in tree.body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                names, values = [target], [node.value]
                if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    names, values = target.elts, node.value.elts
                for one, value in zip(names, values, strict=True):
                    if isinstance(one, ast.Name) and isinstance(value, ast.Constant):
                        yield one.id, value.value


def _functions_with_a_code(tree):
    """Functions of the module that take a code and make an event of it, with its place among the arguments."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names = [one.arg for one in node.args.args if one.arg not in {"self", "cls"}]
            if "code" in names:
                yield node.name, names.index("code")


def _words(node, constants):
    if isinstance(node, ast.IfExp):
        yield from _words(node.body, constants)
        yield from _words(node.orelse, constants)
    value = constants.get(node.id) if isinstance(node, ast.Name) else getattr(node, "value", None)
    if isinstance(value, str) and value.replace("_", "").isalpha() and value.islower():
        yield value
