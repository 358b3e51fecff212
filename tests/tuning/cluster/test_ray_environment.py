"""The token of Ray."""

from pathlib import Path

import pytest

from tuning.cluster import ray_environment


def test_the_token_is_its_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = tmp_path / "home" / "auth_token"
    monkeypatch.setattr(ray_environment, "TOKEN", token)
    ray_environment.protect_token()
    assert token.parent.stat().st_mode & 0o777 == 0o700
    token.touch(0o644)
    token.chmod(0o644)
    ray_environment.protect_token()
    assert token.stat().st_mode & 0o777 == 0o600
