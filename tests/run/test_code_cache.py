"""Compiled code: how long it is kept."""

import os
import tempfile
import time

from torch._inductor.runtime import cache_dir_utils

from study.run import code_cache


def old_and_new(folder):
    """Two files in a folder of torch's, one made long ago."""
    folder = folder / "fxgraph"
    folder.mkdir(parents=True)
    old, new = folder / "old.so", folder / "new.so"
    for path in (old, new):
        path.write_bytes(b"code")
    long_ago = time.time() - (code_cache.DAYS + 1) * 24 * 3600
    os.utime(old, (long_ago, long_ago))
    return old, new


def test_what_was_compiled_long_ago_goes(root, monkeypatch):
    monkeypatch.setenv(code_cache.FOLDER, "")
    monkeypatch.delenv(code_cache.FOLDER)  # as it is for a user; put back after the test
    assert cache_dir_utils.cache_dir().startswith(tempfile.gettempdir())  # torch names its own, as on import
    code_cache.keep()
    old, new = old_and_new(root / "out" / "compiled")
    code_cache.prune()
    assert new.exists() and not old.exists()


def test_a_user_s_own_folder_of_compiled_code_is_left_alone(root, monkeypatch):
    monkeypatch.setenv(code_cache.FOLDER, str(root / "elsewhere"))
    code_cache.keep()
    kept = [*old_and_new(root / "elsewhere"), *old_and_new(root / "out" / "compiled")]
    code_cache.prune()
    assert all(path.exists() for path in kept)
