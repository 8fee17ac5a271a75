"""A LeRobot data set written here, opened by the `lerobot` package itself: every frame's numbers and pictures compared.

`lerobot` pins older versions of what this package stands on, so it has an environment of its own, and this file two
parts. The first runs here, and needs sakiyomi; the second runs there, and needs lerobot and numpy:

    .venv/bin/python benchmarks/check_lerobot.py write data/pick /tmp/pick-lerobot /tmp/expected.npz
    python3 -m venv /tmp/lerobot && /tmp/lerobot/bin/pip install lerobot==0.4.4
    HF_HUB_OFFLINE=1 /tmp/lerobot/bin/python benchmarks/check_lerobot.py check /tmp/pick-lerobot /tmp/expected.npz

`write ... png` writes pictures without loss. `check` prints one line, and ends with status 1 when numbers differ, when
stamps are not n / fps, or when pictures are under 40 dB of the store's (with png: differ at all).
"""

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np

LEAST = 40.0  # dB


def write(store: str, folder: str, expected: str, pictures: str = "h264") -> None:
    """Export a store, and put what must come out of it into `expected`: numbers and pictures [frames, ...] by feature,
    the task of each frame, and the last frame + 1 of each episode."""
    from sakiyomi.data.episodes import EpisodeStore
    from sakiyomi.data.formats.lerobot_write import clock_of, held, plan, write_lerobot

    source = EpisodeStore(store)
    if pictures not in ("h264", "av1", "png"):
        raise SystemExit(f"pictures are h264, av1 or png, not {pictures}")
    write_lerobot(source, Path(folder), pictures=pictures)
    splits = dict.fromkeys(["train", "validation", *(e.split for e in source.entries)])
    order = [e for split in splits for e in source.entries if e.split == split]
    clock = clock_of(source)
    arrays: dict[str, Any] = {
        "ends": np.cumsum([e.lengths[clock] for e in order]),
        "tasks": np.array([str(e.meta.get("task", "")) for e in order]),
        "exact": pictures == "png",
    }
    for column in plan(source, pictures):
        parts = [held(source, e, column.stream, source.times(e.id, clock)) for e in order]
        # LeRobot has no shape of no dimension, and gives lists of one number as a number.
        shape = source.streams[column.stream].shape
        arrays[f"/{column.feature}"] = np.concatenate(parts).reshape(-1, *(() if shape in ((), (1,)) else shape))
    np.savez(expected, **arrays)


def check(folder: str, expected: str) -> None:
    """Open the folder with lerobot and compare all of it."""
    version = importlib.import_module("lerobot").__version__  # not here, where types are checked
    module = importlib.import_module("lerobot.datasets.lerobot_dataset")
    told = np.load(expected, allow_pickle=False)
    data = module.LeRobotDataset("local/check", root=folder, video_backend="pyav")
    ends, exact = told["ends"], bool(told["exact"])
    assert (len(data), data.num_episodes) == (ends[-1], len(ends)), (len(data), data.num_episodes, ends)
    names = [name[1:] for name in told.files if name.startswith("/")]
    assert {*names} <= {*data.features}, (names, list(data.features))
    assert {*data.meta.stats} == {*data.features}, "stats.json tells of other features"
    values = {name: told[f"/{name}"] for name in names}
    plain = data.hf_dataset.with_format(None)
    for name in {*names} - {*data.meta.camera_keys}:
        column = np.array(list(plain[name]), values[name].dtype).reshape(values[name].shape)
        assert column.tobytes() == values[name].tobytes(), f"{name} differs in the table"
    worst, compared = np.inf, 0
    for index in range(len(data)):
        frame = data[index]
        episode = int(np.searchsorted(ends, index, side="right"))
        step = index - (ends[episode - 1] if episode else 0)
        assert (int(frame["episode_index"]), int(frame["frame_index"])) == (episode, step), (index, frame)
        assert float(frame["timestamp"]) == np.float32(step / data.fps), (index, frame["timestamp"])
        assert told["tasks"][episode] in ("", frame["task"]), (index, frame["task"])
        for name in names:
            found, wanted = frame[name].numpy(), values[name][index]
            if name in data.meta.camera_keys:
                found = np.rint(found.transpose(1, 2, 0) * 255).astype(np.uint8)
                error = float(np.mean((found.astype(np.float64) - wanted) ** 2))
                worst = min(worst, 10 * np.log10(255**2 / error) if error else np.inf)
            else:
                assert found.shape == wanted.shape, (name, found, wanted)
                # What lerobot gives is float32 and int64, whatever is in the table.
                assert np.array_equal(found, wanted.astype(found.dtype)), (index, name, found, wanted)
            compared += 1
    assert worst == np.inf if exact else worst >= LEAST, f"a picture has {worst:.1f} dB"
    print(
        f"lerobot {version}: {len(data)} frames of {data.num_episodes} episodes, {compared} values of "
        f"{len(names)} features: numbers bit-equal, worst picture {worst:.1f} dB"
    )


if __name__ == "__main__":
    parts = {"write": write, "check": check}
    if len(sys.argv) < 4 or sys.argv[1] not in parts:
        raise SystemExit(__doc__)
    parts[sys.argv[1]](*sys.argv[2:])
