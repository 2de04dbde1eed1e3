"""Salts: made once, kept where the data is, and names that only they explain."""

import hashlib
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aift_sklearn.errors import DataError
from aift_sklearn.pools import salted_names
from aift_sklearn.pools.salted_names import SALT_FILE, SaltedNames, find_salt


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "aift-sklearn"


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def read_only(data, monkeypatch):
    """A folder that cannot be written, whoever asks."""
    keep = salted_names._keep_salt

    def refuse(path):
        if path.parent == data:
            raise PermissionError(13, "Permission denied", str(path))
        keep(path)

    monkeypatch.setattr(salted_names, "_keep_salt", refuse)
    return data


@given(st.text(), st.text(min_size=1))
def test_names_are_hashes_with_a_key(text, salt):
    key = hashlib.blake2b(salt.encode("utf-8", "surrogatepass")).digest()
    expected = hashlib.blake2b(
        text.encode("utf-8", "surrogatepass"), digest_size=8, key=key, person=b"patient"
    ).hexdigest()
    assert SaltedNames(salt)("patient", text) == expected
    assert SaltedNames(salt)("study", text) != expected
    assert SaltedNames(salt + "x")("patient", text) != expected


def test_names_of_undecodable_files_differ():
    names = SaltedNames("salt")
    assert names("file", "\udce9") != names("file", "\udce8")


def test_bytes_and_text_are_one_salt():
    assert SaltedNames("salt é")("a", "b") == SaltedNames("salt é".encode())("a", "b")


def test_a_salt_is_kept_in_the_folder(data, settings):
    salt = find_salt(data)
    assert len(salt) == 64
    assert find_salt(data) == salt
    assert [path.name for path in data.iterdir()] == [SALT_FILE]
    assert (data / SALT_FILE).stat().st_mode & 0o777 == 0o600
    assert not settings.exists()


def test_a_folder_that_cannot_be_written_has_that_of_its_user(read_only, settings):
    salt = find_salt(read_only)
    assert find_salt(read_only) == salt == (settings / SALT_FILE).read_text().strip()
    assert list(read_only.iterdir()) == []
    assert settings.stat().st_mode & 0o777 == 0o700


def test_without_a_place_a_salt_is_asked_for(read_only, tmp_path, settings):
    (tmp_path / "config").write_text("a file")
    with pytest.raises(DataError, match=r"no salt can be kept.*pass salt="):
        find_salt(read_only)


@pytest.mark.parametrize("content", [b"", b"short\n", b"\xff" * 80])
def test_a_damaged_salt_is_not_replaced(data, settings, content):
    (data / SALT_FILE).write_bytes(content)
    with pytest.raises(DataError, match=r"\.aift-salt.* is damaged; .*Restore it, or pass salt="):
        find_salt(data)
    assert (data / SALT_FILE).read_bytes() == content


def test_the_salt_of_somebody_else_is_not_passed_over(data, settings, monkeypatch):
    find_salt(data)

    def refuse(path, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(type(data), "read_text", refuse)
    with pytest.raises(DataError, match=r"cannot be read \(Permission denied\)") as caught:
        find_salt(data)
    assert str(data) not in str(caught.value)


@pytest.mark.parametrize("links", [True, False])
def test_of_several_at_a_time_one_makes_it(data, settings, monkeypatch, links):
    if not links:

        def refuse(source, target):
            raise OSError(95, "Operation not supported")

        monkeypatch.setattr(os, "link", refuse)
        assert find_salt(data) == find_salt(data)
        return
    found = []
    threads = [threading.Thread(target=lambda: found.append(find_salt(data))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert [path.name for path in data.iterdir()] == [SALT_FILE]
