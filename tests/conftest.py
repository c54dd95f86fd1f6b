"""Small networks gain nothing from threads, and two workers fighting over cores lose; no test may depend on the clock."""

from pathlib import Path

import hypothesis
import pytest
import torch

torch.set_num_threads(1)
hypothesis.settings.register_profile("no clock", deadline=None)
hypothesis.settings.load_profile("no clock")


@pytest.fixture(autouse=True)
def _cache_of_its_own(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test of the data room finds what another has decoded, or what the user has."""
    if request.path.name.startswith("test_data"):
        monkeypatch.setenv("GANFORGE_CACHE", str(request.getfixturevalue("tmp_path") / "cache"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty folder for pictures."""
    path = tmp_path / "pictures"
    path.mkdir()
    return path
