"""Runs every command of `ems` in a state that somebody will meet, each in a process of its own, and tells how it ended.

    python cli_every_command.py FOLDER STATE      one JSON object per command on standard output
    python cli_every_command.py page              renews the table of docs/commands.md

Forks instead of starting Python anew for each: a whole walk takes seconds. A new command is walked by itself.
"""

import io
import json
import os
import re
import resource
import signal
import sys
import tempfile
import traceback
from importlib import import_module
from pathlib import Path

from cli_site_file import BATTERY_ALONE
from typer.main import get_command
from typer.testing import CliRunner

from agent.cli.main import app, main

WITHIN_S = 10
"""Whatever takes longer hangs."""
GOOD = f"""\
schema = 1
[site]
id = "walked"
{BATTERY_ALONE}[cloud]
broker = "mqtt://127.0.0.1:1"
[store]
directory = "{{store}}"
[api]
socket = "{{socket}}"
"""
BROKEN = 'schema = 1\n[site]\nid = 5 kW\n"'
PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
ROW = "| `ems "
EMPTY = b'{"ok": true, "result": {"conditions": [{}]}}\n'


def leaves(command, path=()):
    """(path, command) of every command that does something, as the help has them."""
    inner = getattr(command, "commands", None)
    if inner is None or (path and command.invoke_without_command):
        yield path, command
    for name in inner or ():
        yield from leaves(inner[name], (*path, name))


LEAVES = {" ".join(path): command for path, command in leaves(get_command(app))}


def help_of(path):
    output = CliRunner().invoke(app, [*path.split(), "--help"]).output
    return " ".join(output.split())


def codes_of(path):
    """The exit codes that a command's help names."""
    told = help_of(path).split("Exit codes: ")
    assert len(told) == 2, f"{path}: its help names its exit codes once"
    return {int(code) for code in re.findall(r"(?:^|[;.] )(\d) ", told[1])}


def page_rows():
    """The table of docs/commands.md, as it must be."""
    for path, command in LEAVES.items():
        about = " ".join((command.help or "").split("\n\n")[0].split())
        first = re.split(r"(?<=[a-z)])[.:;] ", about.rstrip("."))[0]
        codes = ", ".join(str(code) for code in sorted(codes_of(path)))
        yield f"| `ems {path}` | {first.replace('|', chr(92) + '|')} | {codes} |"


def renew_page():
    """The table of the page is what the commands say of themselves."""
    lines = PAGE.read_text().splitlines()
    first = next(index for index, line in enumerate(lines) if line.startswith(ROW))
    kept = [line for line in lines if not line.startswith(ROW)]
    PAGE.write_text("\n".join([*kept[:first], *page_rows(), *kept[first:]]) + "\n")


def concerns(state_name, command):
    """Whether a command can meet a state at all: what is no matter to it would only be the same once more."""
    options = {option for one in command.params for option in one.opts}
    needed = {"json": "--json", "empty": "--socket"}.get(state_name)
    if state_name == "broken":
        return "--config" in options or any(one.name == "site" and one.required for one in command.params)
    return needed is None or needed in options


def arguments(path, command, state):
    """What must be given, so that the command gets beyond its command line."""
    given = []
    for one in command.params:
        if one.required:
            sample = SAMPLES.get(one.name, "1")
            given += [state[sample]] if one.param_type_name == "argument" else [one.opts[0], state[sample]]
    options = {option for one in command.params for option in one.opts}
    for option, value in (("--config", state["file"]), ("--store", state["folder"]), ("--seconds", "1")):
        given += [option, value] if option in options else []
    given += ["--broker", state["broker"]] if "--broker" in options and "--broker" not in given else []
    given += {"update": [state["file"]], "backup": [state["out"]]}.get(path[0], [])
    return [*path, *given]


SAMPLES = {
    "file": "file", "source": "file", "folder": "out", "device": "name", "name": "name", "point": "name",
    "reason": "name", "target": "host", "broker": "broker", "site": "broken",
}  # fmt: skip
"""The kind of value for a name; a number for every other one."""


def ended(words, folder, *, room=True):
    """How one command ended: code, output, errors."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        code = _ran(words, folder, out, err, room=room)
        told = []
        for stream in (out, err):
            stream.seek(0)
            told.append(stream.read().decode(errors="replace"))
    return {"words": words, "code": code, "out": told[0], "err": told[1]}


def _ran(words, folder, out, err, *, room):
    """The exit code of a command in a child; below 0 where a signal ended it."""
    child = os.fork()
    if not child:
        os.chdir(folder)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out.fileno() if room else os.open("/dev/full", os.O_WRONLY), 1)
        os.dup2(err.fileno(), 2)
        sys.stdout, sys.stderr = io.TextIOWrapper(os.fdopen(1, "wb")), os.fdopen(2, "w", 1)
        sys.argv = ["ems", *words]
        # Whoever runs the tests as root must not lose an agent that is installed here.
        os.geteuid = lambda: 1000
        signal.alarm(WITHIN_S)
        code = 99
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        except BaseException:  # noqa: BLE001 - it is what the tests look for
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def empty_daemon(path):
    """A daemon that answers everything with nothing, as one of another version might; its process."""
    import socket

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    child = os.fork()
    while not child:
        line, _ = listener.accept()
        with line, line.makefile("rwb") as stream:
            while stream.readline():
                stream.write(EMPTY)
                stream.flush()
    listener.close()
    return child


def walk(folder, state_name):
    """One JSON object for each command in a state: `down`, `json`, `broken`, `full`, `mute` or `empty`."""
    good, broken = folder / "good.toml", folder / "broken.toml"
    socket_path = folder / "ems.sock"
    # A store that cannot be made: `ems run` must not start a daemon here.
    good.write_text(GOOD.format(store="/dev/null/store", socket=socket_path))
    broken.write_text(BROKEN)
    state = {
        "file": str(broken if state_name == "broken" else good), "folder": str(folder), "out": str(folder / "out"),
        "name": "bess", "host": "127.0.0.1:1", "broker": "nonsense://host", "broken": str(broken), "1": "1",
    }  # fmt: skip
    os.environ["EMS_SOCKET"] = str(socket_path)
    os.environ["EMS_STORE"] = str(folder)
    daemon = empty_daemon(str(socket_path)) if state_name == "empty" else None
    if state_name == "full":
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        for name, command in LEAVES.items():
            if not concerns(state_name, command):
                continue
            path = tuple(name.split())
            words = arguments(path, command, state)
            if state_name == "json":
                words.append("--json")
            result = ended(words, folder, room=state_name != "mute")
            print(json.dumps(result | {"path": name}), flush=True)
    finally:
        if daemon is not None:
            os.kill(daemon, signal.SIGKILL)
            os.waitpid(daemon, 0)


if __name__ == "__main__":
    if sys.argv[1] == "page":
        renew_page()
        raise SystemExit
    # Loaded once for all the children.
    for module in ("agent.app", "agent.cli.bundle_content", "agent.cli.doctor_devices", "simulators.cloud_run"):
        import_module(module)
    walk(Path(sys.argv[1]), sys.argv[2])
