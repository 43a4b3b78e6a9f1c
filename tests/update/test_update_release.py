"""A bundle is believed for its signature and its hashes, and for nothing else."""

import io
import subprocess
import tarfile

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from update_world import bundle, release

from agent.update.not_done import NotDone
from agent.update.release import MANIFEST, unpack
from bundle.archive import public_pem, write_archive

KEY, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()


@pytest.fixture
def keys(tmp_path):
    path = tmp_path / "update-key.pem"
    path.write_bytes(public_pem(KEY))
    return path


def changed(path, name, content):
    """The bundle with one file replaced, left out (None) or added, everything else as it was."""
    with tarfile.open(path) as archive:
        files = {entry.name: archive.extractfile(entry).read() for entry in archive}
    full = next((known for known in files if known.endswith(f"/{name}")), f"ems-agent-1.1/{name}")
    if content is None:
        del files[full]
    else:
        files[full] = content
    rewritten(path, files.items())


def rewritten(path, entries):
    with tarfile.open(path, "w") as archive:
        for name, content in entries:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def why(path, keys, tmp_path, *, unsigned=False):
    with pytest.raises(NotDone) as refused:
        unpack(path, keys, tmp_path / "out", unsigned=unsigned)
    assert refused.value.then
    return refused.value.why


def test_a_signed_bundle_is_unpacked_as_its_maker_made_it(tmp_path, keys):
    found = unpack(bundle(tmp_path, "1.1", KEY), keys, tmp_path / "out", unsigned=False)
    assert (found.version, dict(found.schema)) == ("1.1", {"control": 3, "telemetry": 4})
    assert (tmp_path / "out/wheels/agent.whl").read_bytes() == b"1.1"


def test_of_several_keys_one_is_enough(tmp_path, keys):
    keys.write_bytes(public_pem(OTHER) + public_pem(KEY))
    assert unpack(bundle(tmp_path, "1.1", KEY), keys, tmp_path / "out", unsigned=False).version == "1.1"


def test_a_bundle_of_another_key_is_refused_before_anything_is_written(tmp_path, keys):
    text = why(bundle(tmp_path, "1.1", OTHER), keys, tmp_path)
    assert "is signed by none of the 1 keys" in text
    assert not (tmp_path / "out").exists()


def test_the_key_in_the_bundle_itself_does_not_count(tmp_path, keys):
    keys.unlink()
    assert "cannot be read" in why(bundle(tmp_path, "1.1", OTHER), keys, tmp_path)


def test_an_unsigned_bundle_needs_to_be_asked_for(tmp_path, keys):
    path = bundle(tmp_path, "1.1")
    assert why(path, keys, tmp_path) == "nobody signed ems-agent-1.1.tar"
    assert unpack(path, keys, tmp_path / "out", unsigned=True).version == "1.1"


def test_a_false_signature_is_refused_also_where_none_is_needed(tmp_path, keys):
    path = bundle(tmp_path, "1.1", KEY)
    changed(path, "MANIFEST.sig", b"x" * 64)
    assert "is signed by none" in why(path, keys, tmp_path, unsigned=True)


@pytest.mark.parametrize("name", ["wheels/agent.whl", "release.json"])
def test_a_changed_file_is_found(tmp_path, keys, name):
    path = bundle(tmp_path, "1.1", KEY)
    changed(path, name, b"something else")
    assert f"{name} is not what its MANIFEST says" in why(path, keys, tmp_path)


def test_a_file_that_is_not_listed_is_refused(tmp_path, keys):
    path = bundle(tmp_path, "1.1", KEY)
    changed(path, "wheels/more.whl", b"more")
    assert "wheels/more.whl is not in its MANIFEST" in why(path, keys, tmp_path)


def test_a_missing_file_is_found(tmp_path, keys):
    path = bundle(tmp_path, "1.1", KEY)
    changed(path, "wheels/agent.whl", None)
    assert "wheels/agent.whl is missing" in why(path, keys, tmp_path)


def test_a_manifest_that_leads_out_of_the_folder_is_refused(tmp_path, keys):
    for name in ("../evil", "/etc/evil", "a/../../evil"):
        line = f"{'0' * 64}  {name}\n".encode()
        rewritten(tmp_path / "b.tar", [("x/MANIFEST", line), (f"x/{name}", b"")])
        assert "its MANIFEST cannot be read" in why(tmp_path / "b.tar", keys, tmp_path, unsigned=True)


def test_a_link_in_the_archive_is_refused(tmp_path, keys):
    path = tmp_path / "b.tar"
    with tarfile.open(path, "w") as archive:
        listed = f"{'0' * 64}  wheels\n".encode()
        entry = tarfile.TarInfo("x/MANIFEST")
        entry.size = len(listed)
        archive.addfile(entry, io.BytesIO(listed))
        link = tarfile.TarInfo("x/wheels")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(link)
    assert "x/wheels is not a file" in why(path, keys, tmp_path, unsigned=True)


@pytest.mark.parametrize("size", [0, 100, 700, 1500, 3000, 4000])
def test_a_bundle_that_was_cut_off_is_refused_wherever_it_was_cut(tmp_path, keys, size):
    path = bundle(tmp_path, "1.1", KEY)
    path.write_bytes(path.read_bytes()[:size])
    assert why(path, keys, tmp_path)


def test_where_there_is_no_room_it_says_so(tmp_path, keys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    path = bundle(tmp_path, "1.1", KEY)
    monkeypatch.setattr("agent.update.release._copy", full)
    assert why(path, keys, tmp_path).endswith("No space left on device")


def test_something_else_is_not_a_bundle(tmp_path, keys):
    rewritten(tmp_path / "b.tar", [("photo.jpg", b"...")])
    assert "it does not begin with a MANIFEST" in why(tmp_path / "b.tar", keys, tmp_path)
    assert "cannot be read" in why(tmp_path / "none.tar", keys, tmp_path)


def test_a_bundle_of_a_later_format_says_so(tmp_path, keys):
    assert "is of format 2" in why(bundle(tmp_path, "1.1", KEY, number=2), keys, tmp_path)


@pytest.mark.parametrize("version", ["../1.1", "", "a/b", "."])
def test_a_version_that_is_no_name_of_a_folder_is_refused(tmp_path, keys, version):
    write_archive(tmp_path / "b.tar", "x", {"release.json": release(version)}, KEY)
    assert "is not a version" in why(tmp_path / "b.tar", keys, tmp_path)


def test_the_manifest_is_what_sha256sum_reads(tmp_path, keys):
    unpack(bundle(tmp_path, "1.1", KEY), keys, tmp_path / "out", unsigned=False)
    checked = subprocess.run(["sha256sum", "--check", "--strict", MANIFEST], cwd=tmp_path / "out", check=False)
    assert checked.returncode == 0
