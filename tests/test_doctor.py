"""The doctor: planted defects are named where they are, nothing is said of clean recordings, repairs mend."""

import dataclasses
import hashlib
import html.parser
import os
from pathlib import Path

import numpy as np
import pytest
import synthetic
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.defects import DEFECTS
from benchmarks.doctor import named, plant
from benchmarks.recordings import Episode, Made, clean, write
from sakiyomi.check import Check, Checked, Unhealthy, Unreadable, check, unless_healthy
from sakiyomi.commands_recordings import do_check
from sakiyomi.data.doctor import ADVICE, KINDS, examine
from sakiyomi.data.doctor.channels import channels
from sakiyomi.data.doctor.findings import Tolerances
from sakiyomi.data.doctor.repair import repair
from sakiyomi.data.episodes import EpisodeStore, Stream
from sakiyomi.errors import SakiyomiError

SEED = 50  # neither one that tolerances were chosen on, nor one that is reported


@pytest.mark.parametrize("name", DEFECTS)
def test_a_planted_defect_is_named_where_it_is(tmp_path: Path, name: str) -> None:
    diagnosis, expected = plant(name, SEED, tmp_path / "store")
    assert named(diagnosis, expected), (expected, diagnosis.findings)


@pytest.mark.parametrize("seed", range(SEED, SEED + 6))
def test_nothing_is_said_of_clean_recordings(tmp_path: Path, seed: int) -> None:
    assert examine(write(tmp_path / "store", clean(seed))).findings == ()


def test_simulated_demonstrations_are_clean(pick_store: EpisodeStore, push_store: EpisodeStore) -> None:
    for store in (pick_store, push_store):
        assert examine(store).problems == ()


def test_walks_and_sensors_are_not_judged_as_joints(walk_store: EpisodeStore) -> None:
    assert examine(walk_store).problems == ()


def test_every_kind_has_an_advice() -> None:
    assert set(ADVICE) == set(KINDS)


def test_every_kind_is_planted() -> None:
    """What the doctor can say is what the defects ask for."""
    small = (clean(SEED, episodes=11) for _ in DEFECTS)
    asked = {kind for plant in DEFECTS.values() for kind in plant(next(small), np.random.default_rng(SEED)).kinds}
    assert set(KINDS) == asked


def test_it_only_reads(tmp_path: Path) -> None:
    store = write(tmp_path / "store", clean(SEED, episodes=10))
    before = contents(store.folder)
    checked = run(tmp_path, store)
    assert contents(store.folder) == before
    assert checked.diagnosis.frames == sum(max(entry.lengths.values()) for entry in store.entries)


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def run(tmp_path: Path, store: EpisodeStore, repaired: str = "") -> Checked:
    return check(Check(str(store.folder), str(tmp_path / "page.html"), repaired))


@settings(max_examples=8)
@given(missing=st.integers(1, 6), at=st.integers(5, 30))
def test_a_gap_of_n_periods_is_n_missing_frames(
    tmp_path_factory: pytest.TempPathFactory, missing: int, at: int
) -> None:
    made = clean(SEED, episodes=9)
    episode = made.episodes[2]
    for name in ("joints", "command"):
        episode.values[name] = np.delete(episode.values[name], np.s_[at : at + missing], 0)
        episode.times[name] = np.delete(episode.times[name], np.s_[at : at + missing])
    diagnosis = examine(write(tmp_path_factory.mktemp("gap") / "store", made))
    found = next(f for f in diagnosis.problems if f.kind == "dropped" and f.stream == "joints")
    assert (found.amount, found.episodes, found.frames) == (missing, (episode.id,), (at,))


def test_the_true_rate_and_the_delay_are_told(tmp_path: Path) -> None:
    made = clean(SEED, episodes=14)
    for episode in made.episodes:
        for name in ("image", "joints", "command"):
            episode.times[name] = episode.times[name] * 1.2
    found = next(f for f in examine(write(tmp_path / "store", made)).problems if f.kind == "rate")
    assert found.amount == pytest.approx(100 * (1 - 1 / 1.2), abs=0.5)


REPAIRED = (
    "repeated rows",
    "every picture twice",
    "wrong rate",
    "padding",
    "not a number",
    "outliers",
    "degrees in some episodes",
    "degrees in a channel",
    "leakage",
    "copies",
    "damaged files",
    "broken off",
    "camera ends early",
)


@pytest.mark.parametrize("name", REPAIRED)
def test_a_repair_mends_it_in_a_new_store(tmp_path: Path, name: str) -> None:
    """Of that kind nothing is left, the old store is untouched, and the new one says what was done."""
    made = clean(SEED, episodes=16)
    expected = DEFECTS[name](made, np.random.default_rng((SEED, 2)))
    store = write(tmp_path / "store", made)
    before = contents(store.folder)
    repaired = repair(store, examine(store), tmp_path / "mended")
    assert contents(store.folder) == before
    left = [f for f in examine(repaired.store).problems if f.kind in expected.kinds and f.stream == expected.stream]
    assert left == []
    assert repaired.done or repaired.left_out or repaired.everywhere
    assert repaired.store.origin["repaired"]["left_out"] == repaired.left_out
    for id, done in repaired.done.items():
        assert repaired.store.entry(id).meta["repaired"] == list(done)


def test_a_repair_of_degrees_gives_the_radians_back(tmp_path: Path) -> None:
    made = clean(SEED, episodes=14)
    whole = {episode.id: episode.values["joints"].copy() for episode in made.episodes}
    DEFECTS["degrees in some episodes"](made, np.random.default_rng(1))
    store = write(tmp_path / "store", made)
    mended = repair(store, examine(store), tmp_path / "mended").store
    for id, values in whole.items():
        np.testing.assert_allclose(mended.values(id, "joints"), values, rtol=1e-5, atol=1e-6)


def test_a_repair_of_spikes_changes_nothing_else(tmp_path: Path) -> None:
    made = clean(SEED, episodes=14)
    whole = made.episodes[4].values["joints"].copy()
    made.episodes[4].values["joints"][20, 2] += 2.0
    store = write(tmp_path / "store", made)
    mended = repair(store, examine(store), tmp_path / "mended").store.values("004", "joints")
    changed = np.argwhere(mended != whole)
    assert changed.tolist() == [[20, 2]]
    assert mended[20, 2] == pytest.approx((whole[19, 2] + whole[21, 2]) / 2, abs=1e-5)


def test_infinities_are_named_and_mended(tmp_path: Path) -> None:
    made = clean(SEED, episodes=10)
    made.episodes[1].values["joints"][10, 0] = np.inf
    made.episodes[2].values["joints"][20, 1] = -np.inf
    store = write(tmp_path / "store", made)
    diagnosis = examine(store)
    assert [(finding.kind, finding.amount) for finding in diagnosis.problems] == [("not finite", 2)]
    assert examine(repair(store, diagnosis, tmp_path / "mended").store).problems == ()


def test_long_gaps_are_not_made_up(tmp_path: Path) -> None:
    made = clean(SEED, episodes=14)
    made.episodes[1].values["joints"][10:30, 0] = np.nan
    store = write(tmp_path / "store", made)
    repaired = repair(store, examine(store), tmp_path / "mended")
    assert list(repaired.left_out) == ["001"]
    assert "missing over 20 frames" in repaired.left_out["001"]


def test_a_clean_store_is_copied_as_it_is(tmp_path: Path) -> None:
    store = write(tmp_path / "store", clean(SEED, episodes=10))
    repaired = repair(store, examine(store), tmp_path / "mended")
    assert (repaired.done, repaired.left_out, repaired.everywhere) == ({}, {}, ())
    assert [entry.sha256 for entry in repaired.store.entries] == [entry.sha256 for entry in store.entries]


def test_exit_status_tells_a_script(tmp_path: Path) -> None:
    good, bad = write(tmp_path / "good", clean(SEED, episodes=10)), clean(SEED, episodes=10)
    DEFECTS["copies"](bad, np.random.default_rng(0))
    ill = write(tmp_path / "bad", bad)
    assert run(tmp_path, good).status == 0
    checked = run(tmp_path, ill)
    assert checked.status == 1
    with pytest.raises(Unhealthy, match="1 problem and 0 notes") as caught:
        unless_healthy(checked, Check(str(ill.folder)))
    assert caught.value.status == 1
    mended = check(Check(str(ill.folder), str(tmp_path / "p.html"), str(tmp_path / "mended")))
    assert mended.status == 0
    (tmp_path / "none").mkdir()
    for folder in ("", str(tmp_path / "none"), str(tmp_path / "nowhere")):
        with pytest.raises(Unreadable) as unreadable:
            check(Check(folder))
        assert unreadable.value.status == 2


def test_only_what_is_wrong_with_recordings_ends_with_status_1(tmp_path: Path) -> None:
    """A script must be able to tell a bad store from a wrong argument."""
    store = str(write(tmp_path / "store", clean(SEED, episodes=9)).folder)
    for rest in ([store, "--tolerances.rate", "-1"], [store, "--nonsense"], [store, "--out", str(tmp_path)]):
        with pytest.raises(Unreadable) as caught:
            do_check(rest)
        assert caught.value.status == 2


def test_rot_that_leaves_no_trace_is_damage(tmp_path: Path) -> None:
    """A byte that changed on the disk, though size and time of the file are as they were."""
    store = write(tmp_path / "store", clean(SEED, episodes=9))
    path = store.folder / store.entries[3].file
    examine(store)
    stamp = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert list(examine(EpisodeStore(store.folder)).damaged) == ["003"]


def test_a_repair_never_writes_over_anything(tmp_path: Path) -> None:
    store = write(tmp_path / "store", clean(SEED, episodes=9))
    before = contents(store.folder)
    with pytest.raises(SakiyomiError, match="a repair writes a new store"):
        run(tmp_path, store, str(store.folder))
    with pytest.raises(SakiyomiError, match="a repair writes a new store"):
        repair(store, examine(store), store.folder)
    assert contents(store.folder) == before


def test_a_repair_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    """Ctrl-C in the midst of it leaves nothing that looks like a store, and the same call can be made again."""
    store = write(tmp_path / "store", clean(SEED, episodes=9))

    def stop(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        repair(store, examine(store), tmp_path / "mended", stop)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    mended = repair(store, examine(store), tmp_path / "mended").store
    assert len(mended.entries) == 9
    assert mended.statistics.keys() == store.streams.keys()


def test_tolerances_decide(tmp_path: Path) -> None:
    diagnosis, _ = plant("wrong rate", SEED, tmp_path / "store")
    loose = examine(EpisodeStore(tmp_path / "store"), Tolerances(rate=0.9))
    assert "rate" in {f.kind for f in diagnosis.problems}
    assert "rate" not in {f.kind for f in loose.problems}
    with pytest.raises(SakiyomiError, match=r"--tolerances\.rate is -1"):
        Tolerances(rate=-1)


def test_a_clean_simulator_that_rests_at_both_ends_is_not_padded(tmp_path: Path) -> None:
    """What rests before it moves rests after it; what only rests after it was filled up."""
    path = np.cumsum(np.concatenate([np.zeros(8), np.sin(np.linspace(0.05, 3.1, 92)), np.zeros(8)]))
    streams = {"joints": Stream("joints", (1,), "float32", 20.0)}
    for name, values, expected in (("rests", path, set()), ("filled", path[7:], {"padding"})):
        made = Made(streams, [])
        for number in range(4):
            measured = {"joints": (values * (1 + number / 9))[:, None].astype(np.float32)}
            made.episodes.append(Episode(f"{number}", "train", measured, {"joints": np.arange(len(values)) / 20}))
        found = examine(write(tmp_path / name, made)).problems
        assert {finding.kind for finding in found if finding.kind == "padding"} == expected


def test_rows_that_are_caught_up_were_repeated(tmp_path: Path) -> None:
    """From rest, three rows are missed as the arm starts, and come at once."""
    steps = np.concatenate([np.full(6, 1e-4), np.linspace(0.05, 0.3, 6), np.full(20, 0.3), np.linspace(0.3, 0, 12)])
    path = np.cumsum(np.tile(steps[:, None], 6), axis=0).astype(np.float32)
    path[6:10] = path[5]
    whole = channels(path.astype(float), 8, Tolerances(), pushed=False)
    assert whole.repeats == (6, 7, 8, 9)
    assert channels(path.astype(float), 8, Tolerances(), pushed=True).repeats == ()


UNNAMED = (
    (Stream("scalar", (), "float32", 10.0), "value never changes in the whole store"),
    (Stream("scalar", (2,), "float32", 10.0), "channels 0, 1 of value never change in the whole store"),
    (Stream("scalar", (1,), "float32", 10.0, names=("heat",)), "heat of value never changes in the whole store"),
)


@pytest.mark.parametrize(("stream", "told"), UNNAMED)
def test_channels_without_a_name_are_told_by_number(tmp_path: Path, stream: Stream, told: str) -> None:
    made = Made({"value": stream}, [])
    values = {"value": np.ones((9, *stream.shape), stream.dtype)}
    made.episodes.append(only(values, {"value": np.arange(9) / stream.rate}))
    (found,) = examine(write(tmp_path / "store", made)).findings
    assert found.told == told


def test_a_store_of_one_short_episode_of_any_streams(tmp_path: Path) -> None:
    """No statistics need more than there is."""
    streams = {
        "image": Stream("image", (4, 4, 1), "uint8", 1.0),
        "joints": Stream("joints", (2,), "float32", 1.0),
        "value": Stream("scalar", (), "float64", 1.0),
        "token": Stream("token", (), "int32", 1.0),
        "sample": Stream("audio", (), "int16", 8000.0),
        "label": Stream("label", (2,), "float32", 1.0),
    }
    for length in (1, 2, 3, 40):
        made = Made(streams, [])
        values = {name: np.ones((length, *stream.shape), stream.dtype) for name, stream in streams.items()}
        times = dict.fromkeys(streams, np.arange(length) / 1.0)
        made.episodes.append(only(values, times))
        found = examine(write(tmp_path / f"{length}", made)).findings
        assert ("short" in {f.kind for f in found}) == (length < 4)


def only(values: dict[str, np.ndarray], times: dict[str, np.ndarray]) -> Episode:
    return Episode("only", "train", values, times)


def test_a_store_of_random_pictures_is_no_film(tmp_path: Path) -> None:
    """Noise has no frames that follow one another: nothing is said of repeats or light."""
    kinds = {finding.kind for finding in examine(synthetic.write(tmp_path / "store")).problems}
    assert kinds <= {"frozen"}  # the made-up robot's last joint is dead, and said to be


def test_sound_that_is_cut_off(tmp_path: Path) -> None:
    streams = {"sample": Stream("audio", (), "int16", 8000.0)}
    wave = 30_000 * np.sin(np.arange(8000) / 9)
    for gain, expected in ((1.0, set()), (1.5, {"saturation"})):
        values = {"sample": np.clip(gain * wave, -32768, 32767).astype(np.int16)}
        made = Made(streams, [only(values, {"sample": np.arange(8000) / 8000})])
        diagnosis = examine(write(tmp_path / f"{gain}", made))
        assert {finding.kind for finding in diagnosis.problems} == expected


class Page(html.parser.HTMLParser):
    """What a page would load from elsewhere, and what is on it."""

    def __init__(self) -> None:
        super().__init__()
        self.pictures, self.foreign, self.headings, self.scripts = 0, [], [], 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.scripts += tag == "script"
        source = values.get("src") or (values.get("href") if tag == "link" else None)
        if source and not source.startswith("data:"):
            self.foreign.append(source)
        self.pictures += tag == "img"


def test_the_page_holds_all_it_shows(tmp_path: Path) -> None:
    made = clean(SEED)
    random = np.random.default_rng(0)
    for name in ("dropped frames", "repeated pictures", "outliers", "leakage", "white balance", "damaged files"):
        DEFECTS[name](made, random)
    checked = run(tmp_path, write(tmp_path / "store", made))
    text = checked.page.read_text()
    page = Page()
    page.feed(text)
    assert (page.foreign, page.scripts) == ([], 0)
    assert page.pictures >= len(checked.diagnosis.problems)
    for finding in checked.diagnosis.findings:
        assert finding.advice in text
    assert "prefers-color-scheme: dark" in text


def test_every_tolerance_is_explained() -> None:
    """The string under each field is its help."""
    source = Path(examine.__code__.co_filename).with_name("findings.py").read_text()
    for field in dataclasses.fields(Tolerances):
        after = source.split(f"    {field.name}: ")[1].splitlines()
        assert after[1].strip().startswith('"""'), field.name
