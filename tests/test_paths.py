"""Files are written whole, or not at all."""

import pytest

from toongan import ToonGANError
from toongan.paths import atomic_write


def test_atomic_write_keeps_the_old_file_on_failure(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(ToonGANError, match="Cannot write .*No space left.*free some space"):
        with atomic_write(path) as part:
            part.write_text("half")
            raise OSError(28, "No space left on device")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
