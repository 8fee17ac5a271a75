"""Figures of a latent hold what they are given, and TensorBoard reads the projector's folder."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from PIL import Image
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig  # pyright: ignore[reportMissingModuleSource, reportAttributeAccessIssue]

from sakiyomi.errors import SakiyomiError
from sakiyomi.views.latent import map_by_class, picture_sheet, spread_plot, squared, write_projector


def opened(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def pictures(count: int, height: int = 5, width: int = 7, colours: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, colours), np.uint8)


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("tight", [False, True])
def test_a_sheet_holds_every_picture_in_its_place(colours: int, tight: bool) -> None:
    shown = pictures(6, colours=colours).reshape(2, 3, 5, 7, colours)
    sheet = opened(picture_sheet(shown, tight=tight))
    gap, scale = (0, 4) if tight else (6, 4)
    assert sheet.shape == (2 * (5 * scale + gap) + gap, 3 * (7 * scale + gap) + gap, 3)
    for row in range(2):
        for column in range(3):
            top, left = gap + row * (5 * scale + gap), gap + column * (7 * scale + gap)
            found = sheet[top : top + 5 * scale : scale, left : left + 7 * scale : scale]
            np.testing.assert_array_equal(found, np.broadcast_to(shown[row, column], (5, 7, 3)))


def test_words_of_rows_take_room_on_the_left() -> None:
    shown = pictures(4, 28, 28).reshape(2, 2, 28, 28, 1)
    plain, told = opened(picture_sheet(shown)), opened(picture_sheet(shown, ("one", "two")))
    assert told.shape[0] == plain.shape[0]
    np.testing.assert_array_equal(told[:, -plain.shape[1] :], plain)
    words = told[:, : -plain.shape[1]]
    assert (words.max(-1) > 100).any()


def test_large_sheets_are_not_enlarged() -> None:
    assert opened(picture_sheet(np.zeros((60, 60, 28, 28, 1), np.uint8), tight=True)).shape == (1680, 1680, 3)


@pytest.mark.parametrize(("count", "shape"), [(1, (1, 1)), (2, (1, 2)), (5, (2, 3)), (25, (5, 5)), (26, (5, 6))])
def test_pictures_are_laid_in_a_square(count: int, shape: tuple[int, int]) -> None:
    shown = pictures(count)
    laid = squared(shown)
    assert laid.shape[:2] == shape
    np.testing.assert_array_equal(laid.reshape(-1, *shown.shape[1:])[:count], shown)
    assert not laid.reshape(-1, *shown.shape[1:])[count:].any()


def test_maps_show_classes_in_their_colours() -> None:
    """Two heaps of points, far apart, each half of the picture in its colour."""
    random = np.random.default_rng(0)
    points = np.concatenate([random.normal(-5, 0.5, (300, 2)), random.normal(5, 0.5, (300, 2))])
    labels = np.repeat([0, 1], 300)
    image = opened(map_by_class({"z": points}, labels, ("left", "right"))).astype(int)
    half = image.shape[1] // 2
    blue = (image[..., 2] - image[..., 0] > 60).sum(0)
    orange = (image[..., 0] - image[..., 2] > 60).sum(0)
    assert blue[:half].sum() > 10 * max(1, blue[half:].sum())
    assert orange[half:].sum() > 10 * max(1, orange[:half].sum())
    several = opened(map_by_class({"a": points, "b": points, "c": points}, labels, ("left", "right")))
    assert several.shape == image.shape
    assert (several != image).any()


def test_spreads_are_drawn_for_each_model() -> None:
    random = np.random.default_rng(0)
    one = opened(spread_plot({"AE": random.normal(0, 20, (100, 2))}))
    two = opened(spread_plot({"AE": random.normal(0, 20, (100, 2)), "VAE": random.normal(0, 1, (100, 2))}))
    assert two.shape[0] > one.shape[0]


def test_tensorboard_reads_the_projector(tmp_path: Path) -> None:
    """By its own messages: the files the configuration names are there, and hold what was given."""
    random = np.random.default_rng(0)
    codes, shown = random.normal(size=(10, 4)).astype(np.float32), pictures(10, 6, 6)
    labels = [f"label {number % 3}" for number in range(10)]
    folder = write_projector(tmp_path / "projector", codes, labels, shown)
    config = text_format.Parse((folder / "projector_config.pbtxt").read_text(), ProjectorConfig())
    (embedding,) = config.embeddings
    rows = (folder / embedding.tensor_path).read_text().splitlines()
    found = np.array([[float(cell) for cell in row.split("\t")] for row in rows])
    np.testing.assert_allclose(found, codes, rtol=1e-5)
    assert (folder / embedding.metadata_path).read_text().splitlines() == labels
    assert tuple(embedding.sprite.single_image_dim) == (6, 6)
    with Image.open(folder / embedding.sprite.image_path) as sprite:
        tiles = np.asarray(sprite.convert("L"))
    assert tiles.shape == (24, 24)  # four times four, of which ten are filled
    for number in range(10):
        row, column = divmod(number, 4)
        tile = tiles[row * 6 : row * 6 + 6, column * 6 : column * 6 + 6].astype(int)
        assert np.abs(tile - shown[number, :, :, 0]).max() <= 1
    again = write_projector(tmp_path / "projector", codes[:5], labels[:5], shown[:5])
    assert len(re.findall("tensor_path", (again / "projector_config.pbtxt").read_text())) == 1


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    with pytest.raises(SakiyomiError, match="3 codes, 2 labels, 3 pictures"):
        write_projector(tmp_path / "p", np.zeros((3, 2)), ["a", "b"], pictures(3))
    with pytest.raises(SakiyomiError, match=r"expected \[R, K, H, W, C\]"):
        picture_sheet(pictures(3))
    with pytest.raises(SakiyomiError, match="with 1 words"):
        picture_sheet(pictures(4).reshape(2, 2, 5, 7, 1), ("one",))
    for points in (np.zeros((3, 3)), np.full((3, 2), np.nan), np.zeros((2, 2))):
        with pytest.raises(SakiyomiError, match=r"z: points .* for 3 labels"):
            map_by_class({"z": points}, np.zeros(3, int), ("a",))
