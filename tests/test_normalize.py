"""Out of the recording's units and back again without loss."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sakiyomi.audio.spectrum import Frames, Mel
from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.normalize import STILL, Normalizer, Scale
from sakiyomi.data.windows import covered_streams
from sakiyomi.errors import SakiyomiError


@pytest.fixture(scope="module")
def normalizer(store: EpisodeStore) -> Normalizer:
    return Normalizer.fit(store, covered_streams(store, ("image", "joints")))


def of_training(store: EpisodeStore, stream: str) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([store.values(entry.id, stream) for entry in store.split("train")]))


def test_joints_round_trip(store: EpisodeStore, normalizer: Normalizer) -> None:
    for stream in ("joints", "command"):
        values = of_training(store, stream)
        back = normalizer.decode("joints", normalizer.encode("joints", values))
        torch.testing.assert_close(back, values.double(), atol=1e-6, rtol=0)
    far = torch.tensor([[50.0, -30.0, 20.0]])  # outside of what was seen: still no clipping
    torch.testing.assert_close(normalizer.decode("joints", normalizer.encode("joints", far)), far.double())


def test_gradients_go_through_what_was_first_used_without(store: EpisodeStore) -> None:
    normalizer = Normalizer.fit(store, covered_streams(store, ("joints",)))
    with torch.inference_mode():
        normalizer.encode("joints", torch.zeros(1, 3))
    values = torch.zeros(1, 3, requires_grad=True)
    normalizer.decode("joints", values).sum().backward()
    assert values.grad is not None
    assert (values.grad > 0).all()


def test_training_data_fills_the_range(store: EpisodeStore, normalizer: Normalizer) -> None:
    """Commands are in the joints' unit and share their scale: the two together reach 0.1 and 0.9."""
    both = torch.cat([normalizer.encode("joints", of_training(store, s)) for s in ("joints", "command")])
    torch.testing.assert_close(both.amin(0)[:2], torch.full((2,), 0.1))
    torch.testing.assert_close(both.amax(0)[:2], torch.full((2,), 0.9))


def test_the_validation_split_is_not_asked(store: EpisodeStore, normalizer: Normalizer) -> None:
    far = normalizer.encode("joints", torch.from_numpy(store.values("validation", "joints")))
    assert (far - 0.5).abs().max() > 0.5


def test_a_joint_that_never_moves(store: EpisodeStore, normalizer: Normalizer) -> None:
    still = of_training(store, "joints")
    assert len(still[:, 2].unique()) == 1
    encoded = normalizer.encode("joints", still)
    torch.testing.assert_close(encoded[:, 2], torch.full_like(encoded[:, 2], 0.5))
    torch.testing.assert_close(normalizer.decode("joints", encoded)[:, 2], still[:, 2].double())


def test_every_byte_of_a_picture_round_trips(normalizer: Normalizer) -> None:
    pictures = torch.arange(256, dtype=torch.uint8).reshape(2, 1, 8, 16).expand(2, 3, 8, 16).movedim(1, -1)
    encoded = normalizer.encode("image", pictures)
    assert encoded.shape == (2, 3, 8, 16)
    assert (encoded.min(), encoded.max()) == (0, 1)
    back = normalizer.decode("image", encoded)
    assert back.dtype == torch.uint8
    assert torch.equal(back, pictures)
    wild = normalizer.decode("image", torch.tensor([-3.0, 7.0]).reshape(2, 1, 1))
    assert wild.flatten().tolist() == [0, 255]


def test_axes_before_the_last_are_free(normalizer: Normalizer) -> None:
    values = torch.rand(2, 5, 3)
    whole = normalizer.encode("joints", values)
    assert torch.equal(whole[1, 2], normalizer.encode("joints", values[1, 2]))


def test_json_round_trip(tmp_path: Path, normalizer: Normalizer) -> None:
    normalizer.save(tmp_path / "normalizer.json")
    assert Normalizer.load(tmp_path / "normalizer.json").scales == normalizer.scales


@pytest.mark.parametrize("content", [None, b"", b"[1]", b'{"joints": {"kind": "smell"}}'])
def test_an_unreadable_file_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "normalizer.json").write_bytes(content)
    with pytest.raises(SakiyomiError, match=r"normalizer\.json"):
        Normalizer.load(tmp_path / "normalizer.json")


def test_wrong_channels_and_names_are_refused() -> None:
    normalizer = Normalizer({"joints": Scale("joints", (0.0, 0.0), (1.0, 1.0))})
    for call in (normalizer.encode, normalizer.decode):
        with pytest.raises(SakiyomiError, match=r"'joints' has 2 channels, got values of shape \[5, 3\]"):
            call("joints", torch.zeros(5, 3))
        with pytest.raises(SakiyomiError, match="did you mean 'joints'"):
            call("joint", torch.zeros(5, 2))


# --- motion


@pytest.fixture(scope="module")
def of_motion(walk_store: EpisodeStore) -> Normalizer:
    return Normalizer.fit(walk_store, covered_streams(walk_store, ("pose",)))


def test_motion_has_mean_0_and_deviation_1_over_the_training_split(
    walk_store: EpisodeStore, of_motion: Normalizer
) -> None:
    values = of_training(walk_store, "pose")
    encoded = of_motion.encode("pose", values).double()
    moves = values.double().std(0, correction=0) > STILL
    assert moves.float().mean() > 0.9
    torch.testing.assert_close(encoded.mean(0), torch.zeros(values.shape[1]).double(), atol=1e-3, rtol=0)
    torch.testing.assert_close(
        encoded.std(0, correction=0)[moves], torch.ones(int(moves.sum())).double(), atol=1e-3, rtol=0
    )
    # The other splits are not asked.
    of_test = torch.from_numpy(walk_store.values(walk_store.split("test")[0].id, "pose"))
    assert of_motion.encode("pose", of_test).mean(0).abs().max() > 0.1


def test_motion_round_trips(walk_store: EpisodeStore, of_motion: Normalizer, tmp_path: Path) -> None:
    values = torch.cat((of_training(walk_store, "pose"), 100 * torch.randn(3, walk_store.streams["pose"].shape[0])))
    encoded = of_motion.encode("pose", values)
    assert encoded.dtype == torch.float32
    torch.testing.assert_close(of_motion.decode("pose", encoded), values.double(), atol=1e-5, rtol=1e-5)
    of_motion.save(tmp_path / "normalizer.json")
    again = Normalizer.load(tmp_path / "normalizer.json")
    assert again.scales == of_motion.scales
    assert torch.equal(again.encode("pose", values), encoded)


def test_what_stands_still_in_motion_stays_still() -> None:
    """Its deviation is rounding: divided by it, rounding would be what a network learns."""
    normalizer = Normalizer({"pose": Scale("motion", mean=(0.7, 0.0), std=(1e-9, 2.0))})
    encoded = normalizer.encode("pose", torch.tensor([[0.7 + 1e-6, 4.0]]))
    assert encoded[0].tolist() == pytest.approx([1e-6 / STILL, 2.0], abs=1e-4)
    back = normalizer.decode("pose", torch.tensor([[0.0, 0.0], [1.0, -1.0]]))
    torch.testing.assert_close(back, torch.tensor([[0.7, 0.0], [0.7 + STILL, -2.0]]).double())
    with pytest.raises(SakiyomiError, match=r"'pose' has 2 channels, got values of shape \[1, 3\]"):
        normalizer.encode("pose", torch.zeros(1, 3))


def test_few_clips_of_motion_are_all_that_is_known(walk_store: EpisodeStore) -> None:
    entries = walk_store.split("train")[:1]
    few = Normalizer.fit(walk_store, {"pose": ("pose",)}, entries)
    values = torch.from_numpy(walk_store.values(entries[0].id, "pose")).double()
    torch.testing.assert_close(torch.tensor(few.scales["pose"].mean).double(), values.mean(0), atol=1e-6, rtol=1e-5)
    assert few.scales["pose"].low == ()


def test_samples_are_ids_of_mu_law() -> None:
    """There and back, each is as near as 256 values let it be: within a half step, which is wider where it is loud."""
    normalizer = Normalizer({"sample": Scale("audio")})
    samples = torch.tensor([0, 1, -1, 100, -100, 5000, -20000, 32767, -32768], dtype=torch.int16)
    ids = normalizer.encode("sample", samples)
    assert ids.dtype == torch.int64
    assert ids[0] == 128
    assert ((ids >= 0) & (ids < 256)).all()
    back = normalizer.decode("sample", ids)
    assert back.dtype == torch.int16
    torch.testing.assert_close(normalizer.encode("sample", back), ids, atol=0, rtol=0)
    apart = (back.double() - samples.double()).abs()
    assert (apart <= 4 + 0.025 * samples.double().abs()).all()
    with pytest.raises(SakiyomiError, match="as int16"):
        normalizer.encode("sample", samples.float())


def test_how_frames_are_made_of_sound_is_kept(tmp_path: Path) -> None:
    mel = Mel(rate=8000, frames=Frames(size=320, hop=160), bands=26)
    normalizer = Normalizer(
        {"feature": Scale("scalar", mean=(0.0,) * 26, std=(1.0,) * 26, sound=mel), "value": Scale("scalar")}
    )
    normalizer.save(tmp_path / "normalizer.json")
    again = Normalizer.load(tmp_path / "normalizer.json")
    assert again.sound("feature") == mel
    with pytest.raises(SakiyomiError, match="nothing says how stream 'value' is made of sound"):
        again.sound("value")
