"""The mutation check: each guard of the core is taken out in turn, and the core's tests must notice.

`python -m tests.mutants [--json] [--only TEXT] [--skip N]`. Each mutant is one replacement of text in one file of `agent/core`,
made in a copy of the tree. A text that is no longer found ends the check: the table must follow the code.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.mutants_table import MUTANTS, Mutant

ROOT = Path(__file__).parents[1]
COPIED = ("agent", "drivers", "simulators", "tests/core", "tests/conftest.py", "pyproject.toml")
AT_ONCE = 2
TIMEOUT_S = 900.0
"""Far beyond the suite on a busy machine: a run that is cut off counts as killed, and must not be by mere load."""
PASSED, FAILED = 0, 1
"""Exit codes of pytest that mean what they say; others are trouble of the run itself."""


@dataclass(frozen=True)
class Verdict:
    """What became of one mutant: killed by a test, or alive."""

    file: str
    guard: str
    killed: bool
    by: str


def copied(into: Path) -> Path:
    """A copy of what the core's tests need."""
    for name in COPIED:
        source, place = ROOT / name, into / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, place)
    return into


def tested(tree: Path, first: tuple[str, ...]) -> tuple[int, str]:
    """pytest's exit code and its first failure, with the test files named `first` run before all others."""
    files = sorted(path.name for path in (tree / "tests/core").glob("test_*.py"))
    ahead = [name for name in files if any(part in name for part in first)]
    ordered = [f"tests/core/{name}" for name in ahead + [name for name in files if name not in ahead]]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "--tb=no", "-p", "no:randomly"]
    command += ["-p", "no:cacheprovider", "--hypothesis-seed=0", *ordered]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return FAILED, f"no end within {TIMEOUT_S:.0f} s"
    told = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return done.returncode, told[0] if told else "\n".join(done.stdout.splitlines()[-5:])


def tried(mutant: Mutant, tree: Path) -> Verdict:
    """The verdict on one mutant, made in `tree`, which is left as it was."""
    path = tree / "agent/core" / mutant.file
    original = path.read_text()
    path.write_text(original.replace(mutant.old, mutant.new))
    try:
        code, by = tested(tree, mutant.first)
    finally:
        path.write_text(original)
    assert code in (PASSED, FAILED) or by.startswith("ERROR"), f"pytest itself failed on {mutant}: {by}"
    return Verdict(mutant.file, mutant.guard, code != PASSED, by if code != PASSED else "")


def lost_texts(mutants: list[Mutant]) -> list[str]:
    """The mutants whose text is not there exactly once, for people."""
    lost = []
    for mutant in mutants:
        path = ROOT / "agent/core" / mutant.file
        count = path.read_text().count(mutant.old) if path.exists() else 0
        if count != 1:
            lost.append(f"{mutant.file}: {mutant.guard}: found {count} times: {mutant.old!r}")
    return lost


def check(mutants: list[Mutant], tell: bool) -> list[Verdict]:
    """The verdicts on all mutants, `AT_ONCE` at a time."""
    verdicts: list[Verdict] = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        trees = [copied(Path(folder) / str(number)) for number in range(AT_ONCE)]
        code, said = tested(trees[0], ())
        if code != PASSED:
            raise SystemExit(f"the core's tests fail without any mutant; mend that first: {said}")

        def lane(number: int) -> list[Verdict]:
            found = []
            for mutant in mutants[number::AT_ONCE]:
                verdict = tried(mutant, trees[number])
                if tell:
                    mark = "killed " if verdict.killed else "SURVIVED"
                    print(f"{mark:<9}{verdict.file}: {verdict.guard}", file=sys.stderr, flush=True)
                found.append(verdict)
            return found

        with ThreadPoolExecutor(AT_ONCE) as lanes:
            for found in lanes.map(lane, range(AT_ONCE)):
                verdicts += found
    return verdicts


def main() -> int:
    """0 when every mutant was killed, 1 when one survived, 2 when the table no longer fits the code."""
    parser = argparse.ArgumentParser(description="Each guard of the core removed in turn must be noticed by its tests.")
    parser.add_argument("--json", action="store_true", help="print JSON alone")
    parser.add_argument("--only", default="", help="only mutants whose file or guard holds this text")
    parser.add_argument("--skip", type=int, default=0, help="leave out so many of them, to go on where a run ended")
    options = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if options.only in mutant.file or options.only in mutant.guard]
    chosen = chosen[options.skip :]
    lost = lost_texts(chosen)
    if lost:
        print(
            "the table of mutants does not fit the code; mend tests/mutants_table.py:", *lost, sep="\n", file=sys.stderr
        )
        return 2
    verdicts = check(chosen, tell=not options.json)
    killed = sum(verdict.killed for verdict in verdicts)
    rate_pct = round(100.0 * killed / len(verdicts), 1) if verdicts else None
    survivors = [asdict(verdict) for verdict in verdicts if not verdict.killed]
    print(json.dumps({"mutants": len(verdicts), "killed": killed, "kill_rate_pct": rate_pct, "survivors": survivors}))
    return 1 if survivors else 0


if __name__ == "__main__":
    raise SystemExit(main())
