"""The last net under every command: what nobody expected ends in a line that helps, and never for the daemon itself."""

import os
import subprocess
import sys

import pytest

from agent.cli.exits import EXIT_FAULT, EXITS, epilog, guarded, words


def raising(error):
    def command():
        raise error

    return command


@pytest.fixture
def ended(monkeypatch, capsys):
    """(exit code, what was said on standard error) of a command that raises this."""
    monkeypatch.setattr(sys, "argv", ["ems", "status"])
    monkeypatch.delenv("EMS_TRACE", raising=False)

    def run(error):
        with pytest.raises(SystemExit) as end:
            guarded(raising(error))
        return end.value.code, capsys.readouterr().err

    return run


def test_an_exit_code_stays_what_it_is(ended):
    assert ended(SystemExit(3)) == (3, "")


def test_whoever_reads_no_further_is_no_fault(ended):
    assert ended(BrokenPipeError()) == (0, "")


def test_a_file_that_fails_is_named_with_its_reason(ended):
    code, said = ended(OSError(28, "No space left on device", "/tmp/x"))
    assert code == 1
    assert said.startswith("ems: /tmp/x: No space left on device\n     next: ")


def test_a_fault_is_one_line_with_a_way_to_see_more(ended):
    code, said = ended(KeyError("powers_w"))
    assert code == EXIT_FAULT
    assert "KeyError: 'powers_w'" in said
    assert "EMS_TRACE=1" in said
    assert len(said.splitlines()) == 2


@pytest.mark.parametrize("wanted", ["run", "trace"])
def test_the_daemon_and_whoever_asks_for_it_get_the_whole_traceback(monkeypatch, wanted):
    monkeypatch.setattr(sys, "argv", ["ems", "run" if wanted == "run" else "status"])
    if wanted == "trace":
        monkeypatch.setenv("EMS_TRACE", "1")
    with pytest.raises(KeyError):
        guarded(raising(KeyError("x")))


def test_a_pipe_that_is_closed_early_ends_in_silence():
    code = (
        "import sys; from agent.cli.exits import guarded; sys.argv = ['ems', 'x']; guarded(lambda: print('x' * 10**6))"
    )
    environment = {**os.environ, "EMS_TRACE": ""}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        process.stdout.read(10)
        process.stdout.close()
        assert process.wait(20) == 0
        assert process.stderr.read() == b""


def test_the_help_of_a_command_names_its_codes_once():
    def asks(socket=None):
        """Asks."""

    def works():
        """Works."""

    def tells():
        """Tells. Exit codes: 0 told."""

    assert epilog(asks) == words((0, 1, 3))
    assert epilog(works) == words((0, 1))
    assert epilog(tells) is None
    assert words((0, 3)) == f"Exit codes: 0 {EXITS[0]}; 3 {EXITS[3]}."
