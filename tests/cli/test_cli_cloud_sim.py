"""`ems cloud-sim` from the command line: what cannot be done is refused before anything begins."""

import pytest
from typer.testing import CliRunner

from agent.cli.main import app


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--broker", "http://x"], "'http://x' is no address of a broker"),
        (["--broker", "mqtt://x:0"], "is no address of a broker"),
        (["--broker", "mqtt://x:many"], "is no address of a broker"),
        (["--broker", "mqtt://x", "--ca", "ca.pem"], "write mqtts://"),
        (["--broker", "mqtts://x", "--ca", "nowhere.pem"], "nowhere.pem"),
        (["--broker", "mqtt://x", "--password-file", "nowhere.txt"], "nowhere.txt"),
        (["--broker", "mqtt://x", "--order", "jump 5"], "'jump' is none of plan, award"),
        (["--broker", "mqtt://x", "--order", "hold five"], "write hold FOR"),
        (["--broker", "mqtt://x", "--orders", "nowhere.txt"], "nowhere.txt"),
        (["--broker", "mqtt://x", "--sign-key", "nowhere.key"], "openssl genpkey -algorithm ed25519"),
        (["--broker", "mqtt://x", "--misbehave", "shouting"], "duplicates, old-versions, forged, floods, silence, all"),
        (["--broker", "mqtt://x", "--prices", "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_what_cannot_be_done_is_refused(options, words):
    done = CliRunner().invoke(app, ["cloud-sim", *options, "--seconds", "1"])
    assert (done.exit_code, words in done.output) == (1, True), done.output


def test_without_a_broker_the_account_is_not_complete_and_says_why():
    done = CliRunner().invoke(app, ["cloud-sim", "--broker", "mqtt://127.0.0.1:9", "--seconds", "1", "--no-yearly"])
    assert done.exit_code == 1
    assert "not complete: no site was heard" in done.output
    assert "nobody answers at mqtt://127.0.0.1:9" in " ".join(done.output.split())
