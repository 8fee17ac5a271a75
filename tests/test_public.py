"""Public sets are fetched whole or not at all, from a real server on this machine."""

import hashlib
import threading
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sakiyomi.data import public
from sakiyomi.data.public import PublicSet, fetch, fetch_set, located, public_sets
from sakiyomi.errors import SakiyomiError
from sakiyomi.run import console

REAL = Path(__file__).parents[1].parent / "shared" / "data" / "motion"
NOBODY = "http://127.0.0.1:9/"  # the port of a service that nothing runs any more
FILES = {f"clip_{number}.bvh": bytes([number]) * (1000 + number) for number in range(4)}


class Server(ThreadingHTTPServer):
    """Serves `files` by path, from /some/data/; counts what is asked for. `failing` paths fail so many times first,
    `torn` ones break off in the middle so many times."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.asked = dict(files), Counter[str]()
        self.failing: Counter[str] = Counter()
        self.torn: Counter[str] = Counter()
        self.base = f"http://127.0.0.1:{self.server_port}/some/data/"


class Handler(BaseHTTPRequestHandler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        name = self.path.removeprefix("/some/data/")
        self.server.asked[name] += 1
        content = self.server.files.get(name)
        if content is None or self.server.failing[name]:
            self.server.failing[name] -= 1
            self.send_error(404 if content is None else 503)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        torn = self.server.torn[name] > 0
        self.server.torn[name] -= 1
        self.wfile.write(content[: len(content) // 2] if torn else content)

    def log_message(self, format: str, *args: object) -> None:
        """Not on the terminal."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(public, "PAUSE", 0.0)
    with Server(FILES) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def made(server: Server) -> PublicSet:
    """The set of FILES at the server."""
    return PublicSet("Four clips", "free for all", server.base, listed(FILES))


def listed(files: dict[str, bytes]) -> tuple[tuple[str, int, str], ...]:
    return tuple((name, len(content), hashlib.sha256(content).hexdigest()) for name, content in files.items())


def there(out: Path) -> dict[str, bytes]:
    """All that is in a folder, hidden files too."""
    return {path.name: path.read_bytes() for path in out.iterdir()} if out.exists() else {}


def test_all_files_come_with_their_source(made: PublicSet, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    out = fetch_set(made, tmp_path / "set", progress=lambda done, total: told.append((done, total)))
    found = there(out)
    source = found.pop("SOURCE.md").decode()
    assert found == FILES
    for word in (made.title, made.licence, made.base):
        assert word in source
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_what_is_there_and_whole_is_not_fetched_again(made: PublicSet, server: Server, tmp_path: Path) -> None:
    """What is there and damaged is, even with the right length."""
    out = fetch_set(made, tmp_path / "set")
    (out / "clip_1.bvh").write_bytes(b"x" * 1001)
    (out / "clip_2.bvh").write_bytes(b"short")
    (out / "clip_3.bvh").unlink()
    server.asked.clear()
    assert fetch_set(made, out) == out
    assert server.asked == {"clip_1.bvh": 1, "clip_2.bvh": 1, "clip_3.bvh": 1}
    assert {name: content for name, content in there(out).items() if name != "SOURCE.md"} == FILES


@pytest.mark.parametrize("content", [b"y" * 1002, FILES["clip_2.bvh"] + b"more"])
def test_a_file_that_is_another_is_not_kept(made: PublicSet, server: Server, tmp_path: Path, content: bytes) -> None:
    """What came before it is, and the same call goes on there."""
    server.files["clip_2.bvh"] = content
    with pytest.raises(SakiyomiError, match=r"clip_2\.bvh is not the file it should be.*1002 bytes.*nothing of it"):
        fetch_set(made, tmp_path / "set")
    assert set(there(tmp_path / "set")) == {"clip_0.bvh", "clip_1.bvh"}
    server.files["clip_2.bvh"] = FILES["clip_2.bvh"]
    server.asked.clear()
    fetch_set(made, tmp_path / "set")
    assert server.asked == {"clip_2.bvh": 1, "clip_3.bvh": 1}


def test_what_passes_is_tried_three_times(made: PublicSet, server: Server, tmp_path: Path) -> None:
    server.failing["clip_0.bvh"] = server.torn["clip_1.bvh"] = 2
    fetch_set(made, tmp_path / "set")
    assert server.asked == {"clip_0.bvh": 3, "clip_1.bvh": 3, "clip_2.bvh": 1, "clip_3.bvh": 1}
    server.failing["clip_0.bvh"] = 3
    with pytest.raises(SakiyomiError, match=r"clip_0\.bvh cannot be fetched: 503 .*what is fetched already is kept"):
        fetch_set(made, tmp_path / "again")
    server.torn["clip_1.bvh"] = 3
    with pytest.raises(SakiyomiError, match=r"clip_1\.bvh cannot be fetched: only 500 of 1001 bytes came"):
        fetch_set(made, tmp_path / "again")
    assert set(there(tmp_path / "again")) == {"clip_0.bvh"}


def test_what_is_not_there_is_not_asked_for_twice(made: PublicSet, server: Server, tmp_path: Path) -> None:
    del server.files["clip_0.bvh"]
    with pytest.raises(SakiyomiError, match=r"/some/data/clip_0\.bvh cannot be fetched: 404"):
        fetch_set(made, tmp_path / "set")
    assert server.asked == {"clip_0.bvh": 1}
    assert there(tmp_path / "set") == {}


def test_without_a_network_it_says_so(made: PublicSet, tmp_path: Path) -> None:
    with pytest.raises(SakiyomiError, match=r"127\.0\.0\.1:9/clip_0\.bvh cannot be fetched: .*refused"):
        fetch_set(made, tmp_path / "set", base=NOBODY)
    with pytest.raises(SakiyomiError, match="file:///etc is no address of the web"):
        fetch_set(made, tmp_path / "set", base="file:///etc")


def test_a_mirror_may_serve_instead(made: PublicSet, server: Server, tmp_path: Path) -> None:
    elsewhere = replace(made, base=NOBODY)
    fetch_set(elsewhere, tmp_path / "set", base=server.base.rstrip("/"))
    assert set(there(tmp_path / "set")) == {*FILES, "SOURCE.md"}


# Files of the sets that are not folders of clips.
LEAST = {"mnist": 4, "fashion-mnist": 4, "small-parallel-enja": 4, "tiny-shakespeare": 1, "kokoro": 1}


def test_the_list_of_sets_is_sound() -> None:
    sets = public_sets()
    assert set(sets) == {
        *("bandai-namco-1", "bandai-namco-2", "deepmimic", "mnist", "fashion-mnist"),
        *("small-parallel-enja", "tiny-shakespeare", "kokoro"),
    }
    for name, one in sets.items():
        assert one.base.startswith("https://")
        assert one.base.endswith("/")
        names = [file for file, _, _ in one.files]
        assert len(set(names)) == len(names) >= LEAST.get(name, 20)
        for file, size, sha256 in one.files:
            assert Path(file).name == file  # nothing is written outside the set's folder
            assert file.endswith((".bvh", ".txt", ".gz", ".en", ".ja"))
            assert size > 0
            assert len(bytes.fromhex(sha256)) == 32
        assert ("not for commercial use" in one.licence) == name.startswith("bandai")


def test_a_name_that_is_no_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SakiyomiError, match=r"unknown public set 'bandai-namco': did you mean 'bandai-namco-[12]'"):
        fetch("bandai-namco", tmp_path)


def test_a_path_is_located_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        SakiyomiError, match=r"0 of 24 files are in data/public/deepmimic; fetch it: sakiyomi fetch deep"
    ):
        located("deepmimic", "some clips")
    Path("deepmimic").mkdir()
    assert located("deepmimic", "some clips") == Path("deepmimic")
    assert located(str(tmp_path), "some clips") == tmp_path
    with pytest.raises(
        SakiyomiError, match=r"nowhere does not exist; name some clips; or a public set, .*bandai-namco-1"
    ):
        located("nowhere", "some clips")
    with pytest.raises(SakiyomiError, match="no path given: name some clips; or a public set"):
        located("", "some clips")


def packed(archive: str, folder: str, step: int = 1) -> dict[str, bytes]:
    """Every `step`th motion file of an archive, by its name."""
    with zipfile.ZipFile(REAL / archive) as file:
        names = [name for name in file.namelist() if name.startswith(folder) and not name.endswith(".json")]
        return {name.removeprefix(folder): file.read(name) for name in names[::step]}


@pytest.mark.skipif(not REAL.exists(), reason="needs ../shared/data/motion")
def test_a_whole_set_is_the_files_we_know(server: Server, tmp_path: Path) -> None:
    server.files = packed("deepmimic_clips.zip", "motions/")
    with console.capture() as captured:
        out = fetch("deepmimic", tmp_path, server.base)
    assert "licence: MIT" in captured.get()
    assert set(there(out)) == {*server.files, "SOURCE.md"}
    assert located("deepmimic", "clips", tmp_path) == out
    (out / "dog3d_trot.txt").unlink()
    with pytest.raises(SakiyomiError, match="23 of 24 files"):
        located("deepmimic", "clips", tmp_path)


@pytest.mark.parametrize("archive", ["bandai_namco_1.zip", "bandai_namco_2_walk_run.zip"])
@pytest.mark.skipif(not REAL.exists(), reason="needs ../shared/data/motion")
def test_files_of_the_large_sets_are_those_we_know(archive: str, server: Server, tmp_path: Path) -> None:
    """30 MB each: some files stand for all."""
    server.files = packed(archive, "data/", 20)
    whole = public_sets()[f"bandai-namco-{archive[13]}"]
    some = replace(whole, files=tuple(entry for entry in whole.files if entry[0] in server.files))
    assert len(some.files) == len(server.files) > 5
    assert set(there(fetch_set(some, tmp_path / "set", server.base))) == {*server.files, "SOURCE.md"}
