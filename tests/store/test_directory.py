"""A directory has one owner: tried with real processes, real forks and real kills."""

import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from rm.store.directory import DirectoryTaken, DirectoryUnsafe, OwnedDirectory
from support.descriptors import descriptor_count

OWNER = """
import os, sys
from pathlib import Path
from rm.store.directory import DirectoryTaken, OwnedDirectory

try:
    owned = OwnedDirectory(Path(sys.argv[1]), mode=0o700)
except DirectoryTaken:
    sys.exit(75)
child = 0
if "fork" in sys.argv:
    ready, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, b"x")
        os.read(0, 1)
        os._exit(0)
    os.read(ready, 1)
sys.stdout.write(f"owned {child}\\n")
sys.stdout.flush()
sys.stdin.read(1)
"""


class Owner:
    """Another process that owns the directory until it is killed or told to end."""

    def __init__(self, path, *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(path), *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        said = self.process.stdout.readline().split()
        assert said[:1] == ["owned"], self.process.wait(20)
        self.child_pid = int(said[1])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(20)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=20)


@pytest.fixture
def owner(tmp_path):
    owners = []

    def start(*words: str) -> Owner:
        owners.append(Owner(tmp_path / "own", *words))
        return owners[-1]

    yield start
    for one in owners:
        one.close()
        with suppress(ProcessLookupError):
            if one.child_pid:
                os.kill(one.child_pid, signal.SIGKILL)


def own(path, mode: int = 0o700) -> OwnedDirectory:
    return OwnedDirectory(path, mode=mode)


@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_a_directory_is_made_with_its_parents_and_its_mode(tmp_path, mode) -> None:
    path = tmp_path / "a" / "b"
    directory = own(path, mode)
    assert path.stat().st_mode & 0o777 == mode
    assert (path / "lock").stat().st_mode & 0o777 == 0o600
    directory.release()


def test_a_second_owner_in_the_same_process_is_refused(tmp_path) -> None:
    directory = own(tmp_path / "own")
    with pytest.raises(DirectoryTaken, match="another daemon"):
        own(tmp_path / "own")
    directory.release()
    own(tmp_path / "own").release()


def test_a_second_release_is_harmless(tmp_path) -> None:
    directory = own(tmp_path / "own")
    directory.release()
    directory.release()


def test_an_owner_in_another_process_keeps_it_until_it_is_killed(tmp_path, owner) -> None:
    other = owner()
    for _ in range(3):
        with pytest.raises(DirectoryTaken):
            own(tmp_path / "own")
    other.kill()
    own(tmp_path / "own").release()


def test_a_forked_child_does_not_hold_the_lock_for_a_dead_parent(tmp_path, owner) -> None:
    parent = owner("fork")
    with pytest.raises(DirectoryTaken):
        own(tmp_path / "own")
    parent.kill()
    os.kill(parent.child_pid, 0)  # the child lives
    own(tmp_path / "own").release()


def test_what_one_owner_left_in_it_the_next_one_finds(tmp_path) -> None:
    path = tmp_path / "own"
    directory = own(path)
    (path / "kept").write_text("x")
    directory.release()
    own(path).release()
    assert (path / "kept").read_text() == "x"


def test_a_failed_try_leaves_no_descriptor(tmp_path, owner) -> None:
    owner()
    before = descriptor_count()
    for _ in range(10):
        with pytest.raises(DirectoryTaken):
            own(tmp_path / "own")
    assert descriptor_count() == before


# Directories that others could put files into.


def test_a_link_to_a_directory_is_refused(tmp_path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(DirectoryUnsafe, match="link"):
        own(tmp_path / "link")


def test_a_link_to_nothing_is_refused_and_nothing_is_made(tmp_path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    with pytest.raises(DirectoryUnsafe):
        own(tmp_path / "link")
    assert not (tmp_path / "nothing").exists()


def test_a_lock_that_is_a_link_is_not_followed(tmp_path) -> None:
    (tmp_path / "own").mkdir(mode=0o700)
    (tmp_path / "own" / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        own(tmp_path / "own")
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_is_refused(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DirectoryUnsafe):
        own(tmp_path / "file")


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777])
def test_a_directory_that_others_may_write_to_is_refused_and_the_remedy_is_named(tmp_path, mode) -> None:
    path = tmp_path / "own"
    path.mkdir()
    path.chmod(mode)
    with pytest.raises(DirectoryUnsafe, match="chmod go-w"):
        own(path)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a directory away")
def test_a_directory_of_another_user_is_refused(tmp_path) -> None:
    path = tmp_path / "own"
    path.mkdir(mode=0o700)
    os.chown(path, 65534, 65534)
    with pytest.raises(DirectoryUnsafe, match="uid 65534"):
        own(path)


def test_a_name_that_no_directory_can_have_is_refused_in_words(tmp_path) -> None:
    with pytest.raises(DirectoryUnsafe, match="cannot make"):
        own(tmp_path / ("x" * 300))
