"""What `make bundle` builds: the same from the same, all that is needed and nothing else, said in its papers."""

import hashlib
import json
import os
import subprocess
import tarfile
import tomllib

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from agent.store.schema import MIGRATIONS
from bundle.archive import KeyRefusedError, signing_key, write_archive
from bundle.build import ROOT, CannotBuildError, downloaded, own_wheel, release, requirements, version_of_the_tree
from bundle.packages import PROJECT, TARGETS, Pinned, needed_by, read_lock, run_time_packages
from bundle.sbom import Component, bill_of_materials

KEY = Ed25519PrivateKey.generate()
FILES = {"wheels/b.whl": b"b", "systemd/install.sh": b"#!/bin/sh\n", "a.json": b"{}"}
PARTS = [
    Component("ems-agent", "1.1", "Apache-2.0", {"ems_agent-1.1-py3-none-any.whl": "1" * 64}, ("orjson",)),
    Component("orjson", "3.11", None, {"orjson-x.whl": "2" * 64, "orjson-a.whl": "3" * 64}, ()),
]


def test_the_same_files_give_the_same_archive(tmp_path):
    write_archive(tmp_path / "one.tar", "x", FILES, KEY)
    write_archive(tmp_path / "two.tar", "x", dict(reversed(FILES.items())), KEY)
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()


def test_the_archive_begins_with_its_manifest_and_signature(tmp_path):
    write_archive(tmp_path / "b.tar", "x", FILES, KEY)
    with tarfile.open(tmp_path / "b.tar") as archive:
        assert [entry.name for entry in archive] == [
            "x/MANIFEST",
            "x/MANIFEST.sig",
            "x/a.json",
            "x/signing-key.pem",
            "x/systemd/install.sh",
            "x/wheels/b.whl",
        ]
        manifest, signature = (archive.extractfile(f"x/{name}").read() for name in ("MANIFEST", "MANIFEST.sig"))
        assert archive.getmember("x/systemd/install.sh").mode == 0o755
    KEY.public_key().verify(signature, manifest)
    with pytest.raises(InvalidSignature):
        KEY.public_key().verify(signature, manifest + b" ")
    assert f"{hashlib.sha256(b'b').hexdigest()}  wheels/b.whl\n".encode() in manifest


def test_without_a_key_there_is_no_signature(tmp_path):
    write_archive(tmp_path / "b.tar", "x", FILES, None)
    with tarfile.open(tmp_path / "b.tar") as archive:
        assert {"x/MANIFEST.sig", "x/signing-key.pem"}.isdisjoint(archive.getnames())


def test_a_key_as_openssl_writes_it_signs(tmp_path):
    path = tmp_path / "key.pem"
    path.write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    assert signing_key(path).sign(b"x") == KEY.sign(b"x")
    path.write_text("nothing")
    with pytest.raises(KeyRefusedError, match="is not a private key in PEM"):
        signing_key(path)


def test_all_that_the_project_asks_for_is_in_it_and_none_of_its_tests():
    found = run_time_packages(TARGETS, ["ems-agent", "pip"])
    wanted = tomllib.loads(PROJECT.read_text())["project"]["dependencies"]
    assert {line.split(">")[0].split("=")[0] for line in wanted} <= set(found["ems-agent"]) <= set(found)
    assert {"numpy", "pydantic-core", "cffi", "pip"} <= set(found)
    assert {"pytest", "mypy", "ruff", "packaging"}.isdisjoint(found)
    assert set(found) - {"ems-agent"} <= set(read_lock(ROOT / "requirements.lock"))


def test_what_only_windows_needs_is_left_out():
    assert "colorama" not in needed_by("click", TARGETS[0])


def test_the_lock_is_read_with_all_its_hashes(tmp_path):
    path = tmp_path / "requirements.lock"
    path.write_text(
        f"Typing_Extensions==4.1 \\\n    --hash=sha256:{'a' * 64} \\\n    --hash=sha256:{'b' * 64}\n    # via x\n"
    )
    assert read_lock(path) == {"typing-extensions": Pinned("typing-extensions", "4.1", frozenset({"a" * 64, "b" * 64}))}


def test_a_wheel_that_the_lock_does_not_name_is_refused(tmp_path, monkeypatch):
    def fetched(folder, _target):
        (folder / "orjson-3.11-py3-none-any.whl").write_bytes(b"not what was pinned")

    monkeypatch.setattr("bundle.build._fetch", fetched)
    with pytest.raises(CannotBuildError, match=r"is not what requirements.lock names"):
        downloaded({"orjson": Pinned("orjson", "3.11", frozenset({"a" * 64}))}, TARGETS[:1], tmp_path)


def test_what_was_fetched_is_not_fetched_again(tmp_path, monkeypatch):
    content, times = b"a wheel", []

    def fetched(folder, target):
        times.append(target.name)
        (folder / "orjson-3.11-py3-none-any.whl").write_bytes(content)

    monkeypatch.setattr("bundle.build._fetch", fetched)
    pinned = {"orjson": Pinned("orjson", "3.11", frozenset({hashlib.sha256(content).hexdigest()}))}
    for _ in range(2):
        assert set(downloaded(pinned, TARGETS[:2], tmp_path)["orjson"]) == {"orjson-3.11-py3-none-any.whl"}
    assert times == ["debian12-x86-64", "debian12-arm64"]


def test_a_gateway_installs_exactly_the_wheels_of_the_bundle():
    text = requirements({part.name: part for part in PARTS}).decode()
    assert text == (
        f"ems-agent==1.1 \\\n    --hash=sha256:{'1' * 64}\n"
        f"orjson==3.11 \\\n    --hash=sha256:{'2' * 64} \\\n    --hash=sha256:{'3' * 64}\n"
    )


def test_the_release_says_which_databases_it_writes():
    told = json.loads(release("1.1", TARGETS))
    assert told["schema"] == {name: len(found) for name, found in MIGRATIONS.items()}
    assert {"python": "3.13", "machine": "aarch64"} in told["targets"]


def test_the_bill_of_materials_names_every_part_its_files_and_who_needs_it():
    document = json.loads(bill_of_materials(PARTS[0], PARTS[1:]))
    assert (document["bomFormat"], document["specVersion"], document["version"]) == ("CycloneDX", "1.5", 1)
    assert document["serialNumber"].startswith("urn:uuid:")
    assert document["metadata"]["component"]["purl"] == "pkg:pypi/ems-agent@1.1"
    (orjson,) = document["components"]
    assert [file["name"] for file in orjson["components"]] == ["orjson-a.whl", "orjson-x.whl"]
    assert "licenses" not in orjson
    assert document["dependencies"][0] == {"ref": "pkg:pypi/ems-agent@1.1", "dependsOn": ["pkg:pypi/orjson@3.11"]}
    assert bill_of_materials(PARTS[0], PARTS[1:]) == bill_of_materials(PARTS[0], PARTS[1:])


def test_the_agents_own_wheel_is_the_same_each_time_and_has_the_version_asked_for(tmp_path):
    made = []
    for name, umask in (("one", 0o022), ("two", 0o077)):
        (tmp_path / name).mkdir()
        before = os.umask(umask)
        made.append(own_wheel(tmp_path / name, "9.9.1"))
        os.umask(before)
    assert made[0].name == "ems_agent-9.9.1-py3-none-any.whl"
    assert made[0].read_bytes() == made[1].read_bytes()
    assert version_of_the_tree() != "9.9.1"


@pytest.mark.parametrize("script", sorted((ROOT / "systemd").glob("*.sh")), ids=lambda path: path.name)
def test_the_installer_is_a_shell_script_that_any_debian_reads(script):
    checked = subprocess.run(["/bin/sh", "-n", str(script)], capture_output=True, text=True, check=False)
    assert checked.stderr == ""
