"""A store that does not fit into what a process may hold trains all the same."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.larger_than_memory import build, job_of
from sakiyomi.job import save_job
from sakiyomi.models import CNNRNN
from sakiyomi.presets import preset

BYTES = 4 * 10**8  # of pictures
ROOM = 3 * 10**8  # bytes the process may take once torch is there

WITHIN = """
import resource, sys
from pathlib import Path
from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.job import load_job
from sakiyomi.measuring import resident
from sakiyomi.train import train

limit = resident("VmData") + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
job = load_job(Path(sys.argv[1]))
store = EpisodeStore(job.data.store)
held = []
try:
    for entry in store.entries:
        held.append(store.values(entry.id, "image"))
except MemoryError:
    print("cannot hold")
held.clear()
train(job, Path(sys.argv[1]) / "run")
"""


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small network's job on a store of 400 MB."""
    folder = tmp_path_factory.mktemp("large")
    build(folder / "store", BYTES, 200)
    large = job_of(folder / "store", 4, 1)
    cnn = preset("pick-cnn").job
    train = replace(large.train, batch_size=2, losses=cnn.train.losses)
    data = replace(large.data, steps=5, stride=40)
    save_job(replace(large, model=CNNRNN.Config(hidden=8, features=4), data=data, train=train), folder)
    return folder


def test_it_trains_where_its_pictures_would_not_fit(job: Path) -> None:
    command = [sys.executable, "-c", WITHIN, str(job), str(ROOM)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "cannot hold" in done.stdout  # or this could not fail
    lines = [json.loads(line) for line in (job / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 1, 2, 3, 4]  # the last one is of the validation
