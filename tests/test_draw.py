"""Models that draw: labels are kept, morphs begin and end where they should, maps are maps, and slips are told."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawing import MODELS, digit_run, digit_store
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.sources.pictures import Pictures
from sakiyomi.draw import (
    Drawing,
    Generating,
    Mapping,
    as_bytes,
    decoded,
    drawn_z,
    explain_draws,
    generate,
    generate_sheet,
    label_number,
    latent_grid,
    morph,
    names_of,
    on_plane,
    one,
    pile,
    plane_of,
    projections,
    rollout_draws,
    spread_of,
)
from sakiyomi.errors import SakiyomiError
from sakiyomi.evaluate_draws import HowDrawn, evaluate_draws, save_draws
from sakiyomi.job import build
from sakiyomi.models import JointRNN
from sakiyomi.rollout import Trained, load
from sakiyomi.scores.protocol import compare, load_scores

Runs = dict[str, Trained]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> EpisodeStore:
    return digit_store(tmp_path_factory.mktemp("digits") / "store")


@pytest.fixture(scope="module")
def folders(digits: EpisodeStore, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run folder a kind, each with a little learned."""
    out = {kind: tmp_path_factory.mktemp(kind) / "run" for kind in MODELS}
    for kind, folder in out.items():
        digit_run(digits, kind, folder)
    return out


@pytest.fixture(scope="module")
def runs(folders: dict[str, Path]) -> Runs:
    return {kind: load(folder) for kind, folder in folders.items()}


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        return image.size


# --- what is read of a store


@pytest.mark.parametrize("kind", MODELS)
def test_a_pile_is_every_picture_with_its_code(kind: str, runs: Runs, digits: EpisodeStore) -> None:
    trained = runs[kind]
    found = pile(trained, "test")
    images = np.concatenate([digits.values(e.id, "image") for e in digits.split("test")])
    labels = np.concatenate([digits.values(e.id, "label") for e in digits.split("test")])
    np.testing.assert_array_equal(as_bytes(found.streams["image"]), images)
    np.testing.assert_array_equal(found.labels.numpy(), labels.argmax(1))
    assert found.names == tuple("0123456789")
    seen = {name: found.streams[name] for name in trained.model.inputs}
    with torch.inference_mode():
        torch.testing.assert_close(found.codes, trained.model.encode(seen))  # pyright: ignore[reportCallIssue]
    few = pile(trained, "test", 7)
    assert torch.equal(few.streams["image"], found.streams["image"][:7])
    assert few.codes.shape == (7, trained.model.latent)


# --- drawing


def test_what_is_asked_for_is_drawn(runs: Runs) -> None:
    """Read by the nearest real digits; a little training is enough for the usual ones."""
    learned = pile(runs["CVAE"], "train")
    reader = KNeighborsClassifier(3).fit(learned.streams["image"].flatten(1), learned.labels)
    right = [
        (reader.predict(generate(runs["CVAE"], digit, 20, 1, 0.4).reshape(20, -1) / 255.0) == digit).mean()
        for digit in range(10)
    ]
    assert np.mean(right) > 0.8


@pytest.mark.parametrize("kind", MODELS)
def test_drawing_follows_from_its_seed(kind: str, runs: Runs) -> None:
    label = 3 if kind == "CVAE" else None
    first, again, other = (generate(runs[kind], label, 4, seed) for seed in (0, 0, 1))
    assert first.shape == (4, 28, 28, 1)
    assert first.dtype == np.uint8
    assert (first == again).all()
    assert (first != other).any((1, 2, 3)).all()


def test_a_style_is_kept_from_label_to_label_and_cold_z_is_usual(runs: Runs) -> None:
    """One z for all labels; without temperature, the mean of each."""
    assert torch.equal(drawn_z(runs["CVAE"], 5, 2, 1.0) * 0.5, drawn_z(runs["CVAE"], 5, 2, 0.5))
    cold = generate(runs["CVAE"], 4, 3, temperature=0.0)
    assert (cold == cold[:1]).all()
    warm = [generate(runs["CVAE"], 4, 30, temperature=t).astype(float).std(0).mean() for t in (0.3, 1.0)]
    assert warm[0] < warm[1]


def test_a_plain_autoencoder_draws_where_its_codes_are(runs: Runs) -> None:
    codes = pile(runs["AE"], "train").codes
    z = drawn_z(runs["AE"], 20_000, 0)
    torch.testing.assert_close(z.mean(0), codes.mean(0), atol=0.05 * float(codes.std()), rtol=0)
    torch.testing.assert_close(torch.cov(z.T), torch.cov(codes.T), rtol=0.1, atol=0.1 * float(codes.var()))


def test_a_sheet_of_one_label_and_of_all(runs: Runs, tmp_path: Path) -> None:
    (path,) = generate_sheet(runs["CVAE"], Generating(label="7", count=25), tmp_path)
    assert path.name == "generated-7.png"
    assert size_of(path)[0] == size_of(path)[1]
    drawn = generate(runs["CVAE"], 7, 25, 0)
    with Image.open(path) as image:
        sheet = np.asarray(image)
    scale = 4
    found = sheet[6 : 6 + 28 * scale : scale, 6 : 6 + 28 * scale : scale, 0]
    np.testing.assert_array_equal(found, drawn[0, :, :, 0])
    (path,) = generate_sheet(runs["CVAE"], Generating(count=3), tmp_path)
    assert path.name == "generated.png"
    (path,) = generate_sheet(runs["VAE"], Generating(count=5), tmp_path)
    assert size_of(path)[0] > size_of(path)[1]  # three in a row, and two


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("CVAE", {"label": "10"}, r"unknown label '10'.*known: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"),
        ("CVAE", {"label": "-1"}, "unknown label '-1'"),
        ("CVAE", {"label": "seven"}, "unknown label 'seven'"),
        ("VAE", {"label": "7"}, "VAE is told no label, and cannot be asked for '7'"),
        ("CVAE", {"label": "7", "count": 0}, "--count is 0"),
        ("CVAE", {"label": "7", "count": 10_001}, "--count is 10001; it must be at most 10000"),
        ("CVAE", {"count": 1001}, "--count times 10 labels is 10010"),
        ("CVAE", {"seed": -1}, "--seed is -1"),
        ("CVAE", {"seed": 2**63}, "--seed is"),
        ("CVAE", {"temperature": -1.0}, "--temperature is -1.0"),
        ("CVAE", {"temperature": math.nan}, "--temperature is nan"),
    ],
)
def test_what_cannot_be_drawn_is_told(
    kind: str, options: dict[str, Any], words: str, runs: Runs, tmp_path: Path
) -> None:
    with pytest.raises(SakiyomiError, match=words):
        generate_sheet(runs[kind], Generating(**options), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_model_of_something_else_is_told(runs: Runs, tmp_path: Path) -> None:
    other = replace(runs["AE"], model=build(JointRNN.Config()))
    for call in (
        lambda: generate_sheet(other, Generating(), tmp_path),
        lambda: rollout_draws(other, Drawing(), tmp_path),
        lambda: explain_draws(other, Mapping(), tmp_path),
        lambda: evaluate_draws(other, HowDrawn()),
    ):
        with pytest.raises(SakiyomiError, match="JointRNN draws no pictures"):
            call()


def test_labels_go_by_name_and_by_number(tmp_path: Path, runs: Runs) -> None:
    trained = runs["CVAE"]
    assert (label_number(trained, "7"), label_number(trained, "")) == (7, None)
    for name in ("left", "right"):
        (tmp_path / "in" / name).mkdir(parents=True)
        for number in range(4):
            Image.new("L", (28, 28), 60 * number).save(tmp_path / "in" / name / f"{number}.png")
    Pictures("digits", str(tmp_path / "in")).record(tmp_path / "s")
    model = replace(MODELS["CVAE"], labels=2)
    job = replace(trained.job, model=model, data=replace(trained.job.data, store=str(tmp_path / "s")))
    named = Trained(job, build(model), trained.normalizer, None)
    assert names_of(named) == ("left", "right")
    assert (label_number(named, "right"), label_number(named, "0")) == (1, 0)
    with pytest.raises(SakiyomiError, match="did you mean 'right'"):
        label_number(named, "rigth")
    gone = replace(named, job=replace(job, data=replace(job.data, store=str(tmp_path / "gone"))))
    assert names_of(gone) == ("0", "1")  # without its recordings a model still draws


# --- from one picture to another


@pytest.mark.parametrize("kind", MODELS)
def test_a_morph_goes_from_one_to_the_other_evenly(kind: str, runs: Runs) -> None:
    found = pile(runs[kind], "test", 50)
    way = morph(runs[kind], one(found, 3), one(found, 8), 9)
    assert way.shape == (9, 1, 28, 28)
    ends = decoded(runs[kind], found.codes[[3, 8]], found.streams["label"][[3, 8]])
    torch.testing.assert_close(way[[0, -1]], ends, atol=1e-5, rtol=1e-5)
    middle = decoded(runs[kind], found.codes[[3, 8]].mean(0)[None], found.streams["label"][[3, 8]].mean(0)[None])
    torch.testing.assert_close(way[4:5], middle, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(morph(runs[kind], one(found, 8), one(found, 3), 9), way.flip(0), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", MODELS)
def test_a_rollout_leaves_samples_and_morphs(kind: str, runs: Runs, tmp_path: Path) -> None:
    paths = rollout_draws(runs[kind], Drawing(count=3, morphs=2, steps=4), tmp_path)
    assert [path.name for path in paths] == ["samples.png", "morph.png"]
    assert all(min(size_of(path)) > 28 for path in paths)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"count": 0}, "--count is 0"),
        ({"count": 2000}, "--count times labels is 20000"),
        ({"morphs": 0}, "--morphs is 0"),
        ({"steps": 1}, "--steps is 1"),
        ({"morphs": 5000, "steps": 3}, "--morphs times --steps is 15000"),
    ],
)
def test_what_cannot_be_rolled_out_is_told(options: dict[str, Any], words: str, runs: Runs, tmp_path: Path) -> None:
    with pytest.raises(SakiyomiError, match=words):
        rollout_draws(runs["CVAE"], Drawing(**options), tmp_path)


# --- maps


def test_a_plane_is_the_first_two_principal_directions() -> None:
    torch.manual_seed(0)
    codes = torch.randn(500, 5) * torch.tensor([0.5, 3.0, 0.1, 1.0, 0.2]) + 4
    _, directions = plane_of(codes)
    torch.testing.assert_close(directions @ directions.T, torch.eye(2), atol=1e-5, rtol=0)
    assert directions.abs().argmax(1).tolist() == [1, 3]
    assert (directions.gather(1, directions.abs().argmax(1, keepdim=True)) > 0).all()
    places = on_plane(codes)
    torch.testing.assert_close(places.mean(0), torch.zeros(2), atol=1e-4, rtol=0)
    values = torch.linalg.eigvalsh(torch.cov(codes.T)).flip(0)
    torch.testing.assert_close(places.var(0), values[:2], rtol=1e-3, atol=0)
    flat = torch.randn(9, 2)
    assert torch.equal(on_plane(flat), flat)  # two numbers are the map themselves
    assert torch.equal(on_plane(flat[:, :1]), torch.cat((flat[:, :1], torch.zeros(9, 1)), 1))


@pytest.mark.parametrize("kind", MODELS)
def test_a_grid_is_drawn_where_the_codes_are(kind: str, runs: Runs) -> None:
    trained = runs[kind]
    codes = pile(trained, "test").codes
    grid = latent_grid(trained, codes, 5, 2 if kind == "CVAE" else None)
    assert grid.shape == (5, 5, 1, 28, 28)
    middle, directions = plane_of(codes)
    low, high = torch.quantile(on_plane(codes), torch.tensor([0.01, 0.99]), dim=0)
    corner = torch.stack((low[0], high[1]))  # the second direction points upwards
    wanted = decoded(trained, (middle + corner @ directions)[None], 2)
    torch.testing.assert_close(grid[0, 0], wanted[0], atol=1e-5, rtol=1e-5)
    corner = torch.stack((high[0], low[1]))
    torch.testing.assert_close(
        grid[4, 4], decoded(trained, (middle + corner @ directions)[None], 2)[0], atol=1e-5, rtol=0
    )


def test_explaining_leaves_maps_and_a_projector(runs: Runs, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    options = Mapping(pictures=60, grid=4)
    paths = explain_draws(runs["CVAE"], options, tmp_path, lambda done, total: told.append((done, total)))
    assert [path.name for path in paths] == ["latent-map.png", "latent-grid.png", "projector"]
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert size_of(paths[1])[0] == size_of(paths[1])[1]
    rows = next(paths[2].rglob("tensors.tsv")).read_text().splitlines()
    codes = np.array([[float(cell) for cell in row.split("\t")] for row in rows])
    np.testing.assert_allclose(codes, pile(runs["CVAE"], "test", 60).codes.numpy(), rtol=1e-4, atol=1e-5)


def test_neighbours_in_other_maps_are_of_one_label(runs: Runs) -> None:
    """t-SNE sorts digits, far better than the first two principal directions."""
    found = pile(runs["AE"], "train", 400)
    kept = {}
    for name, points in projections(found).items():
        apart = torch.cdist(torch.from_numpy(points), torch.from_numpy(points)).fill_diagonal_(math.inf)
        kept[name] = float((found.labels[apart.argmin(1)] == found.labels).float().mean())
        assert points.shape == (400, 2)
    assert kept["t-SNE of the pixels"] > 0.85 > kept["PCA of the pixels"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pictures": 9}, "--pictures is 9"),
        ({"pictures": 2001}, "--pictures is 2001"),
        ({"grid": 1}, "--grid is 1"),
        ({"grid": 200}, "--grid times --grid is 40000"),
        ({"label": "10"}, "unknown label '10'"),
        ({"seed": 2**32}, "--seed is"),
    ],
)
def test_what_cannot_be_mapped_is_told(options: dict[str, Any], words: str, runs: Runs, tmp_path: Path) -> None:
    with pytest.raises(SakiyomiError, match=words):
        explain_draws(runs["CVAE"], Mapping(**options), tmp_path)


def test_spread_is_the_deviation_of_each_number() -> None:
    codes = torch.tensor([[0.0, 10.0], [2.0, 10.0], [4.0, -2.0], [2.0, -2.0]])
    spread = spread_of(codes)
    assert spread.deviation == pytest.approx((math.sqrt(2) + 6) / 2)
    assert (spread.low, spread.high) == (-2, 10)
    assert set(spread.as_dict()) == {"deviation", "low", "high"}


def test_a_plain_latent_spreads_and_a_variational_one_does_not(runs: Runs) -> None:
    """What the course shows: tens against about 1."""
    spreads = {kind: spread_of(pile(runs[kind], "test").codes) for kind in ("AE", "VAE")}
    assert max(spreads["AE"].high, -spreads["AE"].low) > 1.5 * max(spreads["VAE"].high, -spreads["VAE"].low)
    assert 0.5 < spreads["VAE"].deviation < 1.5


# --- scores


@pytest.mark.parametrize("kind", MODELS)
def test_an_evaluation_leaves_scores_and_a_report(kind: str, folders: dict[str, Path], runs: Runs) -> None:
    found = evaluate_draws(runs[kind], HowDrawn(pictures=40, samples=20))
    likely = {"nll", "bound", "active"} if kind != "AE" else set()
    assert set(found.scores) == {"reconstruction", "spread", "reach", *likely}
    back = decoded(runs[kind], found.pile.codes, found.pile.streams["label"])
    error = (back - found.pile.streams["image"]).square().mean()
    assert found.scores["reconstruction"].value == pytest.approx(float(error), rel=1e-4)
    for score in found.scores.values():
        assert score.protocol.n == 40
        assert score.protocol.data.endswith(", test")
    if likely:
        assert found.scores["nll"].value < found.scores["bound"].value
        assert 0 < found.scores["nll"].value < 784 * math.log(2)  # better than coins
        assert found.usage is not None
        assert 0 < found.scores["active"].value <= 1
    page = save_draws(found, runs[kind], folders[kind])
    text = page.read_text()
    assert text.count("data:image/png") == 7 + (kind != "AE")
    assert "given back" in text.lower()
    assert load_scores(folders[kind] / "scores.json").keys() == found.scores.keys()


def test_scores_of_two_models_can_be_compared(runs: Runs) -> None:
    a, b = (evaluate_draws(runs[kind], HowDrawn(pictures=40, samples=5)).scores for kind in ("AE", "VAE"))
    assert {d.name for d in compare(a, b)} == {"reconstruction", "spread", "reach"}


@pytest.mark.parametrize(
    ("options", "words"),
    [({"pictures": 5}, "--pictures is 5"), ({"samples": 0}, "--samples is 0"), ({"seed": -1}, "--seed is -1")],
)
def test_what_cannot_be_scored_is_told(options: dict[str, Any], words: str, runs: Runs) -> None:
    with pytest.raises(SakiyomiError, match=words):
        evaluate_draws(runs["VAE"], HowDrawn(**options))


def test_pictures_go_to_bytes_and_back() -> None:
    pictures = torch.rand(3, 1, 4, 5)
    out = as_bytes(pictures)
    assert out.shape == (3, 4, 5, 1)
    np.testing.assert_allclose(out[..., 0] / 255, pictures[:, 0].numpy(), atol=0.5 / 255 + 1e-6)
