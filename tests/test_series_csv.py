"""Series out of text tables: any encoding, delimiter and decimal sign reads the same; what is handled is said."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sakiyomi.__main__ import main
from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.formats.csv_table import Reading, decode, read_table
from sakiyomi.data.formats.series_csv import SeriesCsv
from sakiyomi.data.formats.stamps import stamps
from sakiyomi.data.normalize import Normalizer
from sakiyomi.data.windows import Data, Windows
from sakiyomi.errors import SakiyomiError
from sakiyomi.job import load_job
from sakiyomi.models import WindowAE
from sakiyomi.prepare import FORMATS

SHARED = Path(__file__).parents[2] / "shared/data/series"
DELHI, MELBOURNE = SHARED / "delhi_climate.csv", SHARED / "melbourne_temps.csv"
START = datetime(2013, 1, 28, 6)
HOUR = 3600.0
JAPANESE = """ダウンロードした時刻：2024/05/01 12:00:00

,東京,東京,東京
年月日時,気温(℃),気温(℃),気温(℃)
,,品質情報,均質番号
"""


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str | bytes, encoding: str = "utf-8") -> Path:
        path = tmp_path / "series.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
        return path

    return write


def rows(count: int = 40, skipped: tuple[int, ...] = (), step: float = HOUR) -> list[str]:
    """Rows `stamp,value` of a series without the rows `skipped`; the value of row i is i / 10."""
    return [f"{START + timedelta(seconds=step * i)},{i / 10}" for i in range(count) if i not in skipped]


def table(lines: list[str], header: str = "time,load") -> str:
    return "\n".join((header, *lines)) + "\n"


def record(path: Path, **changes: Any) -> EpisodeStore:
    return SeriesCsv(path=str(path), **changes).record(path.parent / "store")


def everything(store: EpisodeStore) -> tuple[np.ndarray, np.ndarray]:
    """Clock [T] and values [T, C] of all splits, one after the other."""
    values = [store.values(entry.id, "value") for entry in store.entries]
    return np.concatenate([store.times(entry.id, "value") for entry in store.entries]), np.concatenate(values)


def handled(store: EpisodeStore) -> str:
    return "; ".join(store.entries[0].meta["handled"])


def test_a_series_is_cut_into_splits_in_order_of_time(file: Callable[..., Path]) -> None:
    store = record(file(table(rows(100))))
    assert [(entry.split, entry.lengths["value"]) for entry in store.entries] == [
        ("train", 60),
        ("validation", 20),
        ("test", 20),
    ]
    clock, values = everything(store)
    assert clock.tolist() == [HOUR * i for i in range(100)]
    np.testing.assert_array_equal(values[:, 0], np.arange(100, dtype=np.float32) / np.float32(10))
    stream = store.streams["value"]
    assert (stream.kind, stream.names, stream.rate) == ("scalar", ("load",), 1 / HOUR)
    meta = store.entries[2].meta
    assert meta["start"] == "2013-01-28T06:00:00"
    assert meta["period"] == HOUR
    assert "time in 'time', values in 'load'" in handled(store)


STYLES = st.fixed_dictionaries(
    {
        "delimiter": st.sampled_from([",", ";", "\t", "|", " "]),
        "comma": st.booleans(),
        "encoding": st.sampled_from(["utf-8", "utf-8-sig", "cp932", "utf-16", "utf-16-le", "latin-1"]),
        "newline": st.sampled_from(["\n", "\r\n", "\r"]),
        "stamps": st.sampled_from(
            ["%Y-%m-%d %H:%M:%S", "%Y/%m/%d %H:%M", "%d.%m.%Y %H:%M", "%Y-%m-%dT%H:%M:%SZ", "%s"]
        ),
        "above": st.lists(st.sampled_from(["Station 47", "# made by a logger", "", "Height: 25 m"]), max_size=4),
        "missing": st.sampled_from(["", "NA", "NaN", "-", "///", "×", "--", "null"]),
        "holes": st.sets(st.integers(1, 58), max_size=6),
        "quoted": st.booleans(),
        "shuffled": st.booleans(),
        "seed": st.integers(0, 1000),
    }
)


@settings(max_examples=60, deadline=None)
@given(style=STYLES)
def test_the_numbers_are_those_of_the_file_however_it_is_written(style: dict, tmp_path_factory: Any) -> None:
    random = np.random.default_rng(style["seed"])
    delimiter, encoding = style["delimiter"], style["encoding"]
    latin = encoding == "latin-1"
    names = ["date", "t\u00e9mp" if latin else "気温" if encoding == "cp932" else "temp", "load"]
    missing = "-" if (style["missing"] == "×" and latin) or delimiter == " " else style["missing"]
    comma = style["comma"] and delimiter != ","
    values = np.round(random.normal(size=(60, 2)) * 10.0 ** random.integers(-2, 4), 6)
    absent = sorted(style["holes"])
    order = random.permutation(60) if style["shuffled"] else np.arange(60)

    def written(i: int) -> str:
        moment = START + timedelta(hours=int(i))
        stamp = str(int((moment - datetime(1970, 1, 1)).total_seconds())) if style["stamps"] == "%s" else ""
        cells = [stamp or moment.strftime(style["stamps"]), *(repr(float(value)) for value in values[i])]
        cells = [cells[0], *(cell.replace(".", ",") if comma else cell for cell in cells[1:])]
        if i in absent:
            cells[1] = missing
        quote = '"' if style["quoted"] or delimiter == " " else ""
        return delimiter.join(f"{quote}{cell}{quote}" for cell in cells)

    lines = [*style["above"], delimiter.join(names), *(written(int(i)) for i in order)]
    path = tmp_path_factory.mktemp("style") / "series.csv"
    path.write_bytes((style["newline"].join(lines) + style["newline"]).encode(encoding))
    read = read_table(path, Reading())
    assert read.names == (names[1], "load")
    assert read.stamps is not None
    assert read.dated
    assert read.told[0].startswith(f"encoding {encoding}".replace("utf-8-sig", "utf-8"))
    expected = values.copy()
    expected[absent, 0] = np.nan
    np.testing.assert_array_equal(read.values, expected[order])
    np.testing.assert_array_equal(read.stamps - read.stamps.min(), HOUR * order)
    store = record(path, gap=20)
    clock, stored = everything(store)
    assert clock.tolist() == [HOUR * i for i in range(60)]
    known = np.isfinite(expected)
    np.testing.assert_array_equal(stored[known], expected[known].astype(np.float32))


def test_a_download_of_the_weather_service(file: Callable[..., Path]) -> None:
    """Shift-JIS, three rows above the names, columns of one name, stamps of 24:00."""
    lines = [f"2023/1/{1 + (i + 1) // 24} {(i + 1) % 24 or 24}:00,{i % 7}.5,8,1" for i in range(48)]
    lines[23], lines[47] = "2023/1/1 24:00,2.5,8,1", "2023/1/2 24:00,5.5,8,1"
    path = file(JAPANESE + "\n".join(lines) + "\n", "cp932")
    store = record(path, values=("気温(℃)",))
    clock, values = everything(store)
    assert clock.tolist() == [HOUR * i for i in range(48)]
    assert values[:, 0].tolist() == [i % 7 + 0.5 for i in range(48)]
    assert store.streams["value"].unit == "℃"
    assert store.entries[0].meta["start"] == "2023-01-01T01:00:00"
    for said in ("encoding cp932", "header in line 4", "3 other rows above the data left out"):
        assert said in handled(store)
    assert read_table(path, Reading()).names == ("気温(℃)", "気温(℃) 品質情報", "気温(℃) 均質番号")


def test_holes_are_interpolated_or_cut(file: Callable[..., Path]) -> None:
    store = record(file(table(rows(300, (*range(60, 63), *range(100, 140))))))
    assert [entry.split for entry in store.entries] == ["train", "train", "validation", "test"]
    assert store.times(store.entries[1].id, "value")[0] == 140 * HOUR
    assert "1 hole of 5 periods at most left to interpolation" in handled(store)
    assert "cut at 1 longer hole, the longest 41 hours" in handled(store)
    streams, data = ("value",), Data(str(store.folder), steps=20, clock="value")
    windows = Windows(store, "train", data, streams, Normalizer.fit(store, {"value": ("value",)}))
    for series, window in zip(windows.series("value"), windows.windows, strict=True):
        np.testing.assert_allclose(series[:, 0], window.times / HOUR / 10, atol=1e-5)


def test_a_missing_number_is_interpolated_in_time_and_a_long_stretch_is_a_hole(file: Callable[..., Path]) -> None:
    lines = [f"{line},{i}" for i, line in enumerate(rows(100))]
    for i in (30, 31, *range(50, 60)):
        stamp, value, _ = lines[i].split(",")
        lines[i] = f"{stamp},{value},"
    store = record(file(table(lines, "time,a,b")))
    clock, values = everything(store)
    assert clock.tolist() == [HOUR * i for i in range(100) if not 50 <= i < 60]
    np.testing.assert_allclose(values[:, 1], clock / HOUR)
    for said in ("12 missing values of 'b'", "2 missing values interpolated", "10 rows in longer stretches"):
        assert said in handled(store)


@pytest.mark.parametrize(("kept", "value"), [("mean", 2.0), ("first", 0.5), ("last", 3.5)])
def test_one_row_a_stamp(file: Callable[..., Path], kept: str, value: float) -> None:
    lines = [*rows(), f"{START + timedelta(hours=5)},2.0", f"{START + timedelta(hours=5)},3.5"]
    store = record(file(table(lines)), duplicates=kept)
    assert everything(store)[1][5, 0] == value
    assert f"2 rows whose stamp was there already: {kept} taken" in handled(store)
    assert "1 stamp before the one above: sorted" in handled(store)


def test_several_series_in_one_table_are_doubted(file: Callable[..., Path]) -> None:
    long = [f"{kind},{line}" for kind in ("beef", "mutton") for line in rows()]
    assert "are there several series in this table?" in handled(record(file(table(long, "kind,time,price"))))


def test_months_and_years_are_stamps(file: Callable[..., Path]) -> None:
    months = [f"{1960 + i // 12}-{1 + i % 12:02d},{i}" for i in range(48)]
    assert record(file(table(months, "Month,Sales"))).entries[0].meta["start"] == "1960-01-01T00:00:00"
    read = read_table(file(table([f"{1850 + i},{i / 7}" for i in range(48)], "Year,anomaly")), Reading())
    assert read.names == ("anomaly",)
    assert read.dated


def test_limits_take_impossible_values_for_missing(file: Callable[..., Path]) -> None:
    lines = rows()
    lines[7], lines[9] = f"{lines[7].split(',')[0]},7679.3", f"{lines[9].split(',')[0]},-3"
    store = record(file(table(lines)), low=0.0, high=100.0)
    np.testing.assert_allclose(everything(store)[1][:, 0], np.arange(40) / 10, atol=1e-6)
    for said in ("1 value of 'load' under 0 taken for missing", "1 value of 'load' over 100"):
        assert said in handled(store)


def test_what_stays_the_same_is_no_series(file: Callable[..., Path]) -> None:
    path = file(table([f"{line},7" for line in rows()], "time,load,serial"))
    store = record(path)
    assert store.streams["value"].names == ("load",)
    assert "never change in training left out: serial" in handled(store)
    with pytest.raises(SakiyomiError, match="'serial' never changes in the 24 rows for training"):
        record(path, values=("serial",))


def test_rows_without_stamps_are_told(file: Callable[..., Path]) -> None:
    store = record(file("load\n" + "\n".join(str(i / 10) for i in range(40))), period=0.5)
    assert everything(store)[0].tolist() == [i / 2 for i in range(40)]
    assert store.entries[0].meta["start"] == ""
    assert "no column of time: a row each 0.5 s" in handled(store)


def test_columns_without_names_are_numbered_and_those_of_row_numbers_left_out(file: Callable[..., Path]) -> None:
    assert read_table(file("\n".join(rows())), Reading()).names == ("column 2",)
    numbered = [f"{i},{line}" for i, line in enumerate(rows(), 2701)]
    assert read_table(file(table(numbered, ",time,load")), Reading()).names == ("load",)


def test_date_and_time_of_day_may_stand_apart(file: Callable[..., Path]) -> None:
    text = table([line.replace(" ", ",") for line in rows()], "Date,Time,load")
    clock, _ = everything(record(file(text), time=("date", "time")))
    assert clock.tolist() == [HOUR * i for i in range(40)]


def test_a_header_behind_a_header_is_left_out(file: Callable[..., Path]) -> None:
    store = record(file(table(rows(20)) + table(rows(60)[20:])))
    assert len(everything(store)[0]) == 60
    assert "1 repeated header left out" in handled(store)


@pytest.mark.parametrize(
    ("written", "how", "seconds"),
    [
        (["2013-01-05", "2013-01-06"], "auto", 1357344000.0),
        (["2013-01-05T12:00:00+09:00", "2013-01-05T13:00:00+09:00"], "auto", 1357354800.0),
        (["2013/1/5", "2013/1/6"], "auto", 1357344000.0),
        (["2013年1月5日 12時30分", "2013年1月6日 0時5分"], "auto", 1357389000.0),
        (["05.01.2013", "06.01.2013"], "auto", 1357344000.0),
        (["5/1/2013", "13/1/2013"], "auto", 1357344000.0),
        (["1/5/2013", "1/13/2013"], "auto", 1357344000.0),
        (["1/5/2013 12:30 AM", "1/13/2013 1:00 pm"], "auto", 1357345800.0),
        (["1/5/2013", "1/6/2013"], "%m/%d/%Y", 1357344000.0),
        (["20130105", "20130106"], "auto", 1357344000.0),
        (["1357344000", "1357344060"], "auto", 1357344000.0),
        (["1357344000000", "1357344060000"], "auto", 1357344000.0),
        (["1357344000000000000", "1357344060000000000"], "auto", 1357344000.0),
        (["2013-01-04 24:00", "2013-01-05 1:00"], "auto", 1357344000.0),
        (["2013-01", "2013-02"], "auto", 1356998400.0),
        (["2013年1月", "2013年2月"], "auto", 1356998400.0),
        (["2013", "2014"], "auto", 1356998400.0),
        (["0.5", "1.5"], "auto", 0.5),
        (["5 Jan 2013", "6 Jan 2013"], "%d %b %Y", 1357344000.0),
    ],
)
def test_stamps_mean_what_they_say(written: list[str], how: str, seconds: float) -> None:
    found, dated, _ = stamps(written, [1, 2], how)
    assert found[0] == seconds
    assert found[1] > seconds
    assert dated == (seconds > 1)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (["1/5/2013", "1/6/2013"], r"day and month cannot be told apart.*--time-format"),
        (["13/5/2013", "1/16/2013"], "some stamps have the day first and others the month"),
        (["2013-01-05T12:00:00Z", "2013-01-05T13:00:00"], "line 2.*some stamps have a zone"),
        (["2013-01-05", "soon"], "line 2: 'soon': that is no stamp"),
        (["2013-02-28", "2013-02-29"], "line 2: '2013-02-29'"),
        (["2013-01-05 1:00", "2013-01-05 25:00"], "line 2"),
    ],
)
def test_stamps_that_say_nothing_are_refused(written: list[str], message: str) -> None:
    with pytest.raises(SakiyomiError, match=message):
        stamps(written, [1, 2])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"time,load\n", "holds no column of numbers"),
        (b"time,load\n2013-01-01,1\n2013-01-02,2\n", "2 rows with a number"),
        (bytes(range(256)) * 20, "binary data"),
        (b"PK\x03\x04" + bytes(100), "a zip or Excel file"),
        (b"only words\nand more words\n" * 30, "holds no column of numbers"),
        (table([*rows(), '2013-03-01,"12']).encode(), "quotation mark left open"),
        (table([*rows(30), "2013-03-01"]).encode(), "line 32 has 1 cells, the header 2"),
        (table([*rows(30), "2013-03-01,broken"]).encode(), "column 'load', line 32: 'broken' is no number"),
        (table([*rows(30), "2013-03-01,inf"]).encode(), "'inf' is no number"),
        (table([*rows(30), "2013-03-01,1_0"]).encode(), "'1_0' is no number"),
        (table([*rows(30), "never,1"]).encode(), "column 'time', line 32: 'never'"),
        (table(rows(), "time;load").replace(",", ";").encode() + b"2013-03-01;x\n", "'x' is no number"),
        (table([line.split(",")[0] + ",5" for line in rows()]).encode(), "never changes"),
        (table([f"2013-01-01,{i}" for i in range(40)]).encode(), "20 at least|one stamp"),
    ],
)
def test_what_is_no_series_is_refused(file: Callable[..., Path], content: bytes, message: str) -> None:
    with pytest.raises(SakiyomiError, match=message):
        record(file(content))
    assert not (file(content).parent / "store").exists()


def test_a_series_of_nothing_but_holes_is_refused(file: Callable[..., Path]) -> None:
    with pytest.raises(SakiyomiError, match="no piece of 30 rows without a hole is left for training, of 38 rows"):
        record(file(table(rows(60, tuple(range(15, 37))))), shortest=30)


def test_what_is_no_series_may_be_skipped(file: Callable[..., Path]) -> None:
    lines = [*rows(30), "2013-03-01,1,2", "never,1", *rows(60)[30:]]
    lines[5] = lines[5].split(",")[0] + ",broken"
    store = record(file(table(lines)), skip_bad=True)
    assert len(everything(store)[0]) == 60
    for said in ("1 cell of 'load' that is no number", "1 row without a stamp", "1 row of another width left out"):
        assert said in handled(store)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_whatever_a_file_holds_it_is_read_or_refused(data: st.DataObject, tmp_path_factory: Any) -> None:
    """Tables of which some bytes were lost, changed or put in."""
    content = bytearray(table(rows(30)).encode(data.draw(st.sampled_from(["utf-8", "utf-16", "cp932"]))))
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(content) - 1))
        put = data.draw(st.sampled_from([b"", b",", b'"', b"\n", b"9" * 40, b";", b"-", b"e", b"\xff", b"x", b"inf"]))
        content[at : at + data.draw(st.sampled_from([0, 1, 1, 50]))] = put
    path = tmp_path_factory.mktemp("damaged") / "series.csv"
    path.write_bytes(bytes(content))
    for skip_bad in (False, True):
        try:
            read = read_table(path, Reading(skip_bad=skip_bad))
            series = SeriesCsv().series(read, str(path), [])
        except SakiyomiError as error:
            assert str(path) in str(error) or "column" in str(error)  # noqa: PT017
            continue
        assert np.isfinite(series.values).all()
        assert (np.diff(series.times) > 0).all()


def test_slips_of_the_keyboard_are_named(file: Callable[..., Path], tmp_path: Path) -> None:
    path = file(table(rows()))
    with pytest.raises(SakiyomiError, match="did you mean 'load'"):
        record(path, values=("laod",))
    with pytest.raises(SakiyomiError, match="cannot be both"):
        record(path, values=("time",))
    with pytest.raises(SakiyomiError, match="is not in encoding 'ascii'"):
        record(file(table(rows(), "time,気温")), encoding="ascii")
    with pytest.raises(SakiyomiError, match="--header 9000"):
        record(path, header=9000)
    with pytest.raises(SakiyomiError, match="is a folder"):
        record(tmp_path)
    with pytest.raises(SakiyomiError, match="does not exist"):
        record(tmp_path / "nothing.csv")
    with pytest.raises(SakiyomiError, match="no path given"):
        SeriesCsv().record(tmp_path / "store")
    with pytest.raises(SakiyomiError, match="is not less than"):
        record(path, low=2.0, high=1.0)
    with pytest.raises(SakiyomiError, match="leave nothing for training"):
        record(path, validation=0.6, test=0.4)


def test_latin_letters_are_not_taken_for_japanese() -> None:
    for text, encoding in (("temp\u00e9rature \u00b0C", "latin-1"), ("気温、湿度", "cp932"), ("日付", "cp932")):
        assert decode(text.encode(encoding), Path("x")) == (text, encoding)


def test_a_store_is_made_once_of_a_file(file: Callable[..., Path]) -> None:
    path = file(table(rows()))
    first = record(path)
    assert record(path).entries == first.entries
    moved = path.rename(path.with_name("elsewhere.csv"))
    assert record(moved).entries == first.entries
    moved.write_text(table(rows(41)))
    with pytest.raises(SakiyomiError, match="made with other settings"):
        record(moved)
    with pytest.raises(SakiyomiError, match="gap"):
        record(path.with_name("elsewhere.csv"), gap=9.0)


def test_windows_begin_where_they_are_asked_to(file: Callable[..., Path]) -> None:
    store = record(file(table(rows(100))))  # 60 for training: 59 steps that have a next one
    normalizer = Normalizer.fit(store, {"value": ("value",)})

    def begins(steps: int, stride: int = 0) -> list[float]:
        data = Data(str(store.folder), steps=steps, stride=stride, clock="value")
        windows = Windows(store, "train", data, ("value",), normalizer)
        return [window.times[0] / HOUR for window in windows.windows]

    assert begins(steps=20) == [0, 10, 20, 30, 39]
    assert begins(steps=20, stride=15) == [0, 15, 30, 39]
    assert begins(steps=20, stride=1) == list(range(40))
    assert begins(steps=0, stride=7) == [0]


def test_from_a_table_to_a_trained_model(
    file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = file(table([f"{line},{i % 7}" for i, line in enumerate(rows(120))], "date,load,heat"))
    monkeypatch.chdir(tmp_path)
    assert main(["prepare", "csv", str(path), "--time", "date", "--values", "heat", "--out", "data/mine"]) == 0
    assert "encoding utf-8, delimiter comma, header in line 1" in capsys.readouterr().out
    small = ["--data.store", "data/mine", "--model.window", "12", "--train.steps", "3", "--train.batch-size", "4"]
    assert main(["train", "climate", *small, "--data.steps", "12"]) == 0
    model = load_job(Path("runs/climate")).model
    assert model == WindowAE.Config(channels=1, window=12)
    assert main(["train", "climate", *small, "--data.steps", "90", "--out", "runs/long"]) == 1
    assert "has 71 steps" in capsys.readouterr().err
    assert main(["train", "climate", *small, "--model.channels", "-1"]) == 1
    assert "--model.channels is -1; it must be at least 0" in capsys.readouterr().err
    path.write_text(table([*rows(), "2013-03-01,broken"]))
    assert main(["prepare", "csv", str(path), "--out", "data/none"]) == 1
    assert capsys.readouterr().err.endswith("or --skip-bad takes such cells for missing\n")


def test_it_is_a_format_of_prepare() -> None:
    assert FORMATS["csv"] == SeriesCsv()


@pytest.mark.skipif(not DELHI.exists(), reason="no ../shared/data/series")
def test_the_climate_of_delhi(tmp_path: Path) -> None:
    store = SeriesCsv(path=str(DELHI), time=("date",), values=("meantemp", "meanpressure"), low=-50, high=1100).record(
        tmp_path / "store"
    )
    lines = [line.split(",") for line in DELHI.read_text().splitlines()[1:]]
    clock, values = everything(store)
    assert clock.tolist() == [86_400.0 * i for i in range(len(lines))]
    np.testing.assert_array_equal(values[:, 0], np.array([float(line[1]) for line in lines], np.float32))
    assert values[:, 1].max() < 1100  # it has a day of 7679 hPa
    assert store.entries[0].meta["start"] == "2013-01-01T00:00:00"
    assert json.dumps(store.entries[0].meta)


@pytest.mark.skipif(not MELBOURNE.exists(), reason="no ../shared/data/series")
def test_the_temperatures_of_melbourne(tmp_path: Path) -> None:
    """Ten years, of which two days are missing (31 December of leap years)."""
    store = SeriesCsv(path=str(MELBOURNE)).record(tmp_path / "store")
    lines = [line.split(",") for line in MELBOURNE.read_text().splitlines()[1:]]
    clock, values = everything(store)
    assert [entry.split for entry in store.entries] == ["train", "validation", "test"]
    np.testing.assert_array_equal(values, np.array([[float(a), float(b)] for _, a, b in lines], np.float32))
    assert clock[-1] == 86_400.0 * (len(lines) + 1)
    assert "2 holes of 5 periods at most" in handled(store)
