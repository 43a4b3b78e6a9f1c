"""Files that only we may read."""

import pytest

from agent.cloud.secret_files import UnusableFile, password_in


@pytest.fixture
def password(tmp_path, monkeypatch):
    """Its file, as a credential too."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    file = tmp_path / "broker"
    file.write_text("s3cret\n")
    return file


@pytest.mark.parametrize("mode", [0o400, 0o600])
def test_a_password_that_only_its_owner_may_read_is_used(password, mode):
    password.chmod(mode)
    assert password_in(str(password)) == password_in("credential:broker") == "s3cret"


def test_a_credential_with_an_access_list_is_used_though_its_group_seems_to_read_it(password):
    password.chmod(0o440)  # so on Debian 13; 0400 on Debian 12
    assert password_in("credential:broker") == "s3cret"
    with pytest.raises(UnusableFile, match="others than its owner"):
        password_in(str(password))


def test_a_credential_that_everybody_may_read_is_refused(password):
    password.chmod(0o444)
    with pytest.raises(UnusableFile, match="others than its owner"):
        password_in("credential:broker")


def test_without_systemd_a_credential_says_what_is_missing(monkeypatch):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(UnusableFile, match="add LoadCredential= to the unit"):
        password_in("credential:broker")
