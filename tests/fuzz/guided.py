"""Coverage-guided fuzzing of every parser that meets the outside: `make fuzz-guided [TARGET=plan] [SECONDS=60|RUNS=1000000]`.

Atheris (libFuzzer) mutates inputs and keeps those that reach code that none before reached. What it finds, an exception
or a broken promise (`tests.fuzz.targets`), is written down once per place, and the search goes on. Everything lies
in build/fuzz/TARGET: `found/`, the growing `corpus/`, `log`. `--keep` picks the few inputs that together reach the
most code into `tests/fuzz/corpus/`, which the tests replay. Prints one JSON object; exit code 1 after a finding.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.fuzz.targets import CORPUS, TARGETS, kept, target

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "fuzz"
PACKAGES = ["agent", "drivers", "tomllib"]
WATCHED = {
    "documents": ["agent.cloud", "agent.core"],
    "files": ["agent.config", "agent.quantity", "agent.site_file", "agent.toml_text", "drivers.profile", "tomllib"],
    "modbus": ["drivers"],
    "rows": ["agent.store", "agent.core", "agent.replan.kept", "agent.runtime"],
    "socket": ["agent.runtime", "agent.cloud.document", "agent.cloud.wire", "agent.core.admission"],
}
"""Where new code counts, by module of targets: not in the libraries beneath, which have fuzzers of their own."""
SLOW_S = 1.0
"""Of processor time with the watching, which costs several times the work itself."""
KEEP_MOST, KEEP_BYTES = 48, 24_000
"""Of each target in the repository."""


def search(name: str, options: list[str]) -> None:
    """One target in this process, until libFuzzer ends it."""
    import atheris
    import structlog

    structlog.configure(processors=[_unheard])

    with atheris.instrument_imports(include=WATCHED[TARGETS[name].module]):
        judge = target(name)
    seen: set[str] = set()

    def once(payload: bytes) -> None:
        begun_s = time.thread_time()
        try:
            judge(payload)
        except Exception as error:  # noqa: BLE001 (whatever it is, it is what is looked for)
            _write_down(name, payload, error, seen)
        if time.thread_time() - begun_s > SLOW_S:
            _write_down(name, payload, TimeoutError(f"more than {SLOW_S:g} s"), seen)

    atheris.Setup([sys.argv[0], *options], once)
    atheris.Fuzz()


def _unheard(*_: object) -> Any:
    """What is logged a million times is not looked at."""
    import structlog

    raise structlog.DropEvent


def _write_down(name: str, payload: bytes, error: Exception, seen: set[str]) -> None:
    """The input and where it went wrong, the first of each place."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    place = f"{type(error).__name__} {where} {error if isinstance(error, AssertionError) else ''}"
    if place in seen:
        return
    seen.add(place)
    file = BUILD / name / "found" / hashlib.sha256(place.encode()).hexdigest()[:12]
    file.write_bytes(payload)
    file.with_suffix(".txt").write_text("".join(traceback.format_exception(error)), errors="backslashreplace")
    print(f"FOUND {file.name}: {place}", file=sys.stderr, flush=True)


def searched(name: str, runs: int, seconds: int) -> dict[str, Any]:
    """What a search in a process of its own came to."""
    folder = BUILD / name
    shutil.rmtree(folder / "found", ignore_errors=True)
    for part in ("found", "corpus"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    words = folder / "words"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in TARGETS[name].words))
    limit = [f"-runs={runs}"] if runs else [f"-max_total_time={seconds}"]
    options = [*limit, f"-max_len={TARGETS[name].longest}", f"-dict={words}", "-rss_limit_mb=1500", "-timeout=60",
               f"-artifact_prefix={folder / 'found'}/", "-print_final_stats=1", str(folder / "corpus"), str(CORPUS / name)]  # fmt: skip
    begun_s = time.monotonic()
    with (folder / "log").open("wb") as log:
        child = [sys.executable, "-m", "tests.fuzz.guided", "--child", name, *options]
        status = subprocess.run(child, cwd=ROOT, stdout=log, stderr=log, check=False).returncode
    text = (folder / "log").read_text(errors="replace")
    reached = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", text)
    cases = re.search(r"number_of_executed_units: (\d+)", text)
    found = sorted(path.name for path in (folder / "found").iterdir() if path.suffix != ".txt")
    return {
        "cases": int(cases[1]) if cases else 0,
        "seconds": round(time.monotonic() - begun_s),
        "edges": int(reached[-1][0]) if reached else 0,
        "features": int(reached[-1][1]) if reached else 0,
        "inputs": int(reached[-1][2]) if reached else 0,
        "found": found,
        **({} if status == 0 else {"ended_with": status, "log": str(folder / "log")}),
    }


def _escaped(word: bytes) -> str:
    return "".join(chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\x{b:02x}" for b in word)


def keep(name: str) -> int:
    """How many inputs `corpus/` has now: greedily those that add the most steps from line to line to those before."""
    judge = target(name)
    inputs = {path.read_bytes() for path in (*kept(name), *(BUILD / name / "corpus").glob("*"))}
    reach = {payload: _steps(judge, payload) for payload in sorted(inputs, key=lambda one: (len(one), one))}
    chosen: dict[bytes, None] = {path.read_bytes(): None for path in kept(name) if not path.name[:12].isalnum()}
    covered = {step for payload in chosen for step in reach[payload]}
    while len(chosen) < KEEP_MOST:
        best = max(reach, key=lambda one: len(reach[one] - covered) / (200 + len(one)))
        if not reach[best] - covered or sum(map(len, chosen)) + len(best) > KEEP_BYTES:
            break
        chosen[best] = None
        covered |= reach[best]
    for payload in chosen:
        if all(path.read_bytes() != payload for path in kept(name)):
            (CORPUS / name / hashlib.sha256(payload).hexdigest()[:12]).write_bytes(payload)
    for path in kept(name):
        if path.read_bytes() not in chosen:
            path.unlink()
    return len(chosen)


def _steps(judge: Callable[[bytes], object], payload: bytes) -> set[tuple[int, int]]:
    """The steps from line to line of our own code that this input takes."""
    steps: set[tuple[int, int]] = set()

    def entered(frame: Any, _event: str, _argument: Any) -> Any:
        if not any(f"/{package}/" in frame.f_code.co_filename for package in PACKAGES):
            return None
        code, before = id(frame.f_code), 0

        def line(frame: Any, event: str, _argument: Any) -> Any:
            nonlocal before
            if event == "line":
                steps.add((code, before * 10_000 + frame.f_lineno))
                before = frame.f_lineno
            return line

        return line

    sys.settrace(entered)
    try:
        judge(payload)
    except Exception:  # noqa: BLE001 (told by the search and by the tests)
        pass
    finally:
        sys.settrace(None)
    return steps


def main() -> int:
    """The searches that were asked for, one after the other."""
    if sys.argv[1:2] == ["--child"]:
        search(sys.argv[2], sys.argv[3:])
        return 0
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", choices=sorted(TARGETS), action="append", help="One of the parsers instead of all.")
    parser.add_argument("--runs", type=int, default=0, help="Cases of each.")
    parser.add_argument("--seconds", type=int, default=60, help="Time for each, where no runs are given.")
    parser.add_argument("--keep", action="store_true", help="Only pick the inputs to keep from what was searched.")
    asked = parser.parse_args()
    names = asked.target or list(TARGETS)
    if asked.keep:
        print(json.dumps({name: keep(name) for name in names}))
        return 0
    results = {}
    for name in names:
        results[name] = searched(name, asked.runs, asked.seconds)
        print(name, json.dumps(results[name]), file=sys.stderr, flush=True)
    print(json.dumps(results, indent=2))
    return 1 if any(one["found"] or "ended_with" in one for one in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
