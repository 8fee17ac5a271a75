"""The daily climate of Delhi, as it comes with a package."""

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest

from sakiyomi.data.sources.climate import FILE, PACKAGE, Climate, find
from sakiyomi.errors import SakiyomiError


def installed() -> bool:
    try:
        return bool(distribution(PACKAGE))
    except PackageNotFoundError:
        return False


needs_it = pytest.mark.skipif(not installed(), reason="pip install 'sakiyomi[series]'")


@needs_it
def test_days_follow_each_other_through_the_splits(tmp_path: Path) -> None:
    store = Climate().record(tmp_path)
    assert [(entry.split, entry.lengths["value"]) for entry in store.entries] == [
        *(("train", 877), ("validation", 293), ("test", 292)),
    ]
    clock = np.concatenate([store.times(entry.id, "value") for entry in store.entries])
    assert clock.tolist() == [86_400.0 * day for day in range(1462)]
    assert store.streams["value"].names == ("meantemp",)
    assert store.entries[0].meta["start"] == "2013-01-01T00:00:00"
    assert 20 < store.statistics["value"].mean[0] < 30  # °C, in Delhi
    assert Climate().record(tmp_path).entries == store.entries


@needs_it
def test_columns_are_chosen_by_name(tmp_path: Path) -> None:
    store = Climate(values=("humidity", "wind_speed")).record(tmp_path / "two")
    assert store.streams["value"].shape == (2,)
    with pytest.raises(SakiyomiError, match="did you mean 'humidity'"):
        Climate(values=("humidty",)).record(tmp_path / "none")


@needs_it
def test_the_package_is_found_without_being_imported() -> None:
    """It would take pandas with it."""
    code = (
        "import sys; from sakiyomi.data.sources.climate import find; print(find()); "
        f"assert '{PACKAGE}' not in sys.modules and 'pandas' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).name == FILE


def test_what_is_missing_is_told_with_its_cure() -> None:
    with pytest.raises(SakiyomiError, match=r"pip install 'sakiyomi\[series\]'.*sakiyomi prepare csv"):
        find("sakiyomi-no-such-package")
    with pytest.raises(SakiyomiError, match=r"has no nothing\.csv"):
        find("sakiyomi", "nothing.csv")
