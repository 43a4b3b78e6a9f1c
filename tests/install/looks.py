"""The step of the technician: what `ems doctor` says of a real gateway, what a bundle holds, and who may do what."""

import json
import tarfile

from gateway import fail_unless

PASSWORD = "s3cret"
"""Of the broker, since the step before; only systemd may read it."""
IN_ORDER = {
    ("service", "daemon"), ("service", "unit"), ("service", "sandbox"), ("config", "site file"), ("disk", "space"),
    ("database", "control.db"), ("database", "telemetry.db"), ("broker", "login"), ("broker", "round trip"),
    ("device", "bess identity"), ("site", "energy balance"),
}  # fmt: skip


def looks_and_leaves(gateway):
    said = gateway.machine.try_("ems doctor --json").stdout
    found = {(one["area"], one["what"]): one for one in json.loads(said)["result"]["findings"]}
    wrong = [found.get(one, one) for one in IN_ORDER if found.get(one, {}).get("grade") != "ok"]
    fail_unless(not wrong, f"the doctor: {wrong}")
    fail_unless(("config", "risk") not in found, f"a risk that is none: {found.get(('config', 'risk'))}")
    files = _bundle(gateway)
    _roles(gateway)
    return f"the doctor has {len(found)} lines, the bundle {len(files)} files and no password; ems looks, ems-operator acts"


def _bundle(gateway):
    gateway.machine.run("ems support-bundle --out /root/bundle.tar.gz")
    with tarfile.open(gateway.root / "root/bundle.tar.gz") as archive:
        files = {name.split("/", 1)[1]: archive.extractfile(name).read().decode() for name in archive.getnames()}
    needed = {"MANIFEST.txt", "journal.log", "daemon/status.json", "ems.prom", "doctor.txt", "events.jsonl"}
    fail_unless(needed <= set(files), f"in the bundle: {sorted(files)}")
    fail_unless('"started"' in files["journal.log"], "the journal in the bundle is not that of the agent")
    told = [name for name, text in files.items() if PASSWORD in text]
    fail_unless(not told, f"the password is in {told}")
    return files


def _roles(gateway):
    """Members of ems look, those of ems-operator too act, and others find a closed door."""
    run, try_ = gateway.machine.run, gateway.machine.try_
    run("useradd -G ems looker && useradd -G ems,ems-operator operator-1 && useradd stranger")
    for user, words, code, said in (
        ("looker", "status", 0, ""),
        ("looker", "support-bundle --out /tmp/bundle-of-looker.tar.gz", 0, ""),
        ("looker", "override set 0 --reason test", 1, "looker is not an operator"),
        ("operator-1", "override set 0 --for 1m --reason test", 0, ""),
        ("operator-1", "override clear", 0, ""),
        ("stranger", "status", 3, "add the user to the group ems"),
    ):
        done = try_(f"runuser -u {user} -- ems {words}")
        right = done.returncode == code and said in done.stderr
        fail_unless(right, f"{user}: ems {words} ended with {done.returncode}: {done.stdout}{done.stderr}")
    who = [event["data"]["who"] for event in gateway.ems("events") if event["code"] == "override_set"]
    fail_unless("operator-1" in who, f"who set the override is not in the events: {who}")
