import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from inhouse.common.files import digest, digests, lock_folder, read_json, write_atomic, write_json


def test_digest_is_the_sha256_of_the_bytes(tmp_path: Path) -> None:
    content = os.urandom((1 << 20) + 7)
    (tmp_path / "file").write_bytes(content)
    assert digest(tmp_path / "file") == "sha256:" + hashlib.sha256(content).hexdigest()


def test_digests_name_every_file_below_a_folder(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c.txt").write_text("c")
    (tmp_path / "a.txt").write_text("a")
    assert list(digests(tmp_path)) == ["a.txt", "b/c.txt"]


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomic(path, "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_round_trip_and_a_place_in_errors(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_json(path, {"name": "Zoë", "numbers": [1, 2.5, None]})
    assert read_json(path) == {"name": "Zoë", "numbers": [1, 2.5, None]}
    path.write_text('{\n"a": ]')
    with pytest.raises(ValueError, match=r"file\.json, line 2: not valid JSON"):
        read_json(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="not valid JSON"):
        read_json(path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, float("nan"))


def test_a_locked_folder_names_the_process_that_holds_it(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with lock_folder(folder), pytest.raises(ValueError, match=rf"process {os.getpid()}\)"), lock_folder(folder):
        pass
    with lock_folder(folder):
        pass  # free again


def test_a_lock_goes_with_its_process(tmp_path: Path) -> None:
    code = "import os, signal, sys; from pathlib import Path; from inhouse.common.files import lock_folder\n"
    code += "with lock_folder(Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)]).returncode == -9
    with lock_folder(tmp_path):
        pass
