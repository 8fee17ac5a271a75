"""Networks trained in EIPL compute here what they computed there, and no checkpoint runs code or is half believed."""

import json
import pickle
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import eipl_networks as eipl
import numpy as np
import pytest
import torch
from eipl_networks import Payload, Tensors
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from sakiyomi.__main__ import main
from sakiyomi.along_recordings import evaluate_recordings, explain_recordings, trial_along
from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.formats.eipl import Eipl
from sakiyomi.data.formats.eipl_model import EiplModel, import_eipl_model
from sakiyomi.data.formats.eipl_networks import Untold, network
from sakiyomi.data.formats.pth import state_dict
from sakiyomi.data.normalize import Normalizer
from sakiyomi.data.windows import Windows
from sakiyomi.draw import Drawing, rollout_draws
from sakiyomi.errors import SakiyomiError
from sakiyomi.evaluate import validation_windows
from sakiyomi.explain import explain
from sakiyomi.job import build, load_job, save_job
from sakiyomi.models import SARNN, EiplCAE, EiplSARNN, SequenceModel, Streams
from sakiyomi.rollout import Policy, along_recording, load, open_loop
from sakiyomi.run import read_metrics
from sakiyomi.schedules import LearningRate

T, J, SIDE = 6, 8, 64
RGB = Untold(colours="rgb")


def doubled(tensors: Tensors) -> Tensors:
    return {name: t.double() if t.is_floating_point() else t for name, t in tensors.items()}


def seen(height: int = SIDE, width: int = SIDE, joints: int = 5) -> tuple[Tensor, Tensor]:
    """Pictures [T, 3, H, W] and joints [T, J], float64, with some structure in them."""
    random = torch.Generator().manual_seed(3)
    images = torch.rand(T, 3, height, width, generator=random, dtype=torch.float64)
    return torch.nn.functional.avg_pool2d(images, 5, 1, 2), torch.rand(T, joints, generator=random, dtype=torch.float64)


def imported(tensors: Tensors, untold: Untold = RGB) -> SequenceModel:
    """In float64, so that what differs is the arithmetic and not its rounding."""
    found = network(tensors, untold, "checkpoint")
    model = build(found.config)
    model.load_state_dict(found.tensors)
    return model.eval().double()


@torch.no_grad()
def said(model: SequenceModel, streams: Streams) -> Streams:
    """Predictions [T, ...], step by step, as a policy asks for them."""
    state, out = model.initial(1), []
    for t in range(T):
        prediction, state = model.step({name: value[None, t] for name, value in streams.items()}, state)
        out.append(prediction)
    return {name: torch.cat([p[name] for p in out]) for name in out[0]}


def assert_same(ours: Streams, theirs: Streams, atol: float = 1e-9) -> None:
    for name, value in theirs.items():
        assert value.std() > 1e-3, f"{name} says nothing"
        torch.testing.assert_close(ours[name], value, atol=atol, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (30, 44)])
def test_sarnn_computes_the_same(height: int, width: int) -> None:
    """Grids are float32 in both. A temperature of 1e-4 magnifies what they are rounded by."""
    tensors, (images, joints) = eipl.sarnn(height, width), seen(height, width)
    model = imported(tensors)
    assert isinstance(model, SARNN)
    theirs = eipl.run_sarnn(doubled(tensors), images, joints)
    assert_same(said(model, {"image": images, "joints": joints}), theirs, 1e-6)


@pytest.mark.parametrize(
    ("untold", "how"),
    [
        (replace(RGB, slope=0.01), {"slope": 0.01}),
        (replace(RGB, cold_points=True), {"cold": True}),
        (replace(RGB, temperature=0.5, heatmap_size=0.3), {"temperature": 0.5, "spread": 0.3}),
    ],
)
def test_sarnn_of_other_versions_computes_the_same(untold: Untold, how: dict[str, Any]) -> None:
    tensors, (images, joints) = eipl.sarnn(32, 32), seen(32, 32)
    theirs = eipl.run_sarnn(doubled(tensors), images, joints, **how)
    usual = eipl.run_sarnn(doubled(tensors), images, joints)
    assert (theirs["image"] - usual["image"]).abs().max() > 1e-3, "it makes a difference"
    assert_same(said(imported(tensors, untold), {"image": images, "joints": joints}), theirs, 1e-6)


def test_a_learned_temperature_is_taken_over() -> None:
    tensors, (images, joints) = eipl.sarnn(32, 32), seen(32, 32)
    tensors["pos_encoder.6.temperature"] = torch.tensor([0.03])
    theirs = eipl.run_sarnn(doubled(tensors), images, joints, temperature=float(torch.tensor(0.03)))
    assert_same(said(imported(tensors), {"image": images, "joints": joints}), theirs, 1e-6)


@pytest.mark.parametrize("kind", ["none", "layer"])
def test_cnn_rnn_computes_the_same(kind: str) -> None:
    tensors, (images, joints) = eipl.cnn_rnn(kind), seen()
    theirs = eipl.run_cnn_rnn(doubled(tensors), images, joints, kind)
    assert_same(said(imported(tensors), {"image": images, "joints": joints}), theirs)


@pytest.mark.parametrize(
    ("size", "kind"), [("basic", "none"), ("basic", "batch"), ("large", "none"), ("large", "batch")]
)
def test_autoencoders_compute_the_same(size: str, kind: str) -> None:
    side = SIDE if size == "basic" else 32
    tensors, (images, _) = eipl.cae(size, kind, side), seen(side, side)
    model = imported(tensors)
    assert isinstance(model, EiplCAE)
    assert_same(said(model, {"image": images}), eipl.run_cae(doubled(tensors), images, size, kind))


def test_published_sizes_are_128() -> None:
    """The large one's dense layer reads 128 * 14 * 14, the basic one's 8 * 4 * 4."""
    for size, cells in (("basic", 8 * 4 * 4), ("large", 128 * 14 * 14)):
        with torch.device("meta"):
            model = EiplCAE(EiplCAE.Config(size=size))  # pyright: ignore[reportArgumentType]
            picture = model.decoder(torch.empty(1, 10))
        assert next(layer for layer in model.encoder if isinstance(layer, torch.nn.Linear)).in_features == cells
        assert picture.shape == (1, 3, 128, 128)


@pytest.mark.parametrize("features", [0, 6])
def test_recurrent_networks_compute_the_same(features: int) -> None:
    x = torch.rand(T, features + 5, dtype=torch.float64)
    streams = {"features": x[:, :features], "joints": x[:, features:]} if features else {"joints": x}
    untold = replace(RGB, joints=5, features=features, fast_tau=3.0, slow_tau=20.0)
    for tensors, theirs in (
        (eipl.lstm(features + 5), eipl.run_lstm),
        (eipl.mtrnn(features + 5), lambda w, x: eipl.run_mtrnn(w, x, 3.0, 20.0)),
    ):
        ours = said(imported(tensors, untold), streams)
        torch.testing.assert_close(torch.cat([*ours.values()], -1), theirs(doubled(tensors), x), atol=1e-9, rtol=0)


def test_a_network_trained_on_bgr_reads_rgb() -> None:
    images, joints = seen()
    small = (images[..., :32, :32], joints)
    for tensors, theirs, (pictures, angles) in (
        (eipl.sarnn(32, 32), lambda w, i, j: eipl.run_sarnn(w, i, j, 0.05), small),
        (eipl.cnn_rnn(), lambda w, i, j: eipl.run_cnn_rnn(w, i, j, "none"), (images, joints)),
        (eipl.cae("basic", "batch"), lambda w, i, j: eipl.run_cae(w, i, "basic", "batch"), (images, joints)),
    ):
        model = imported(tensors, replace(RGB, colours="bgr", temperature=0.05))
        there = theirs(doubled(tensors), pictures.flip(1), angles)
        ours = said(model, {"image": pictures, "joints": angles})
        assert_same(ours, {**there, "image": there["image"].flip(1)}, 1e-6)


def test_pictures_of_another_range_are_0_to_1_outside() -> None:
    images, joints = seen()
    for tensors, theirs in (
        (eipl.sarnn(SIDE, SIDE), lambda w, i, j: eipl.run_sarnn(w, i, j, 0.05)),
        (eipl.cnn_rnn(), lambda w, i, j: eipl.run_cnn_rnn(w, i, j, "none")),
        (eipl.cae("basic"), lambda w, i, j: eipl.run_cae(w, i, "basic", "none")),
    ):
        there = theirs(doubled(tensors), 0.1 + 0.8 * images, joints)
        model = imported(tensors, replace(RGB, image_low=0.1, image_high=0.9, temperature=0.05))
        ours = said(model, {"image": images, "joints": joints})
        assert_same(ours, {**there, "image": (there["image"] - 0.1) / 0.8}, 1e-6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings as EIPL has them: BGR, bounds over train and test; and codes beside joints that are scaled already."""
    root, random = tmp_path_factory.mktemp("eipl"), np.random.default_rng(0)
    joints = np.cumsum(random.normal(size=(6, 12, J)), 1).astype(np.float32)
    low, high = joints.min((0, 1)), joints.max((0, 1))
    images = random.integers(0, 256, (6, 12, SIDE, SIDE, 3), dtype=np.uint8)
    features = random.random((6, 12, 10), dtype=np.float32)
    for name, arrays in {
        "data": {"images": images, "joints": joints},
        "codes": {"features": features, "joints": 0.1 + 0.8 * (joints - low) / (high - low)},
    }.items():
        for split, rows in (("train", slice(4)), ("test", slice(4, 6))):
            (root / name / split).mkdir(parents=True)
            for array, values in arrays.items():
                np.save(root / name / split / f"{array}.npy", values[rows])
        np.save(root / name / "joint_bounds.npy", np.stack([low, high]))
    np.save(root / "codes" / "feat_bounds.npy", np.array([features.min(), features.max()]))
    for name in ("data", "codes"):
        Eipl(str(root / name)).record(root / f"{name}-store")
    return root


ARGS = {"vmin": 0.1, "vmax": 0.9, "temperature": 0.05, "heatmap_size": 0.2, "img_loss": 0.3, "tag": "x", "device": -1}


def checkpoint(folder: Path, tensors: Tensors, args: dict | None = None, prefix: str = "") -> Path:
    path = eipl.save(folder / "log" / "model.pth", tensors, prefix)
    if args is not None:
        (folder / "log" / "args.json").write_text(json.dumps(args))
    return path


@pytest.mark.parametrize("prefix", ["", "_orig_mod.", "module.", "module._orig_mod."])
def test_an_imported_sarnn_drives_as_it_did_there(tmp_path: Path, folder: Path, prefix: str) -> None:
    """From what the robot has, bytes and radians, to what it is told: with EIPL's scaling done as EIPL does it."""
    tensors = eipl.sarnn(SIDE, SIDE, J)
    how = EiplModel(store=str(folder / "data-store"))
    import_eipl_model(checkpoint(tmp_path, tensors, ARGS, prefix), tmp_path / "run", how)
    trained = load(tmp_path / "run")
    assert isinstance(trained.model, EiplSARNN)
    raw = np.load(folder / "data/test/images.npy")[0, :T], np.load(folder / "data/test/joints.npy")[0, :T]
    low, high = np.load(folder / "data/joint_bounds.npy")
    images = torch.from_numpy(raw[0].transpose(0, 3, 1, 2)).double() / 255 * 0.8 + 0.1
    joints = torch.from_numpy((raw[1].astype(np.float64) - low) / (high - low) * 0.8 + 0.1)
    there = eipl.run_sarnn(doubled(tensors), images, joints, 0.05, 0.2)
    policy = Policy(trained)
    policy.reset(raw[1][0])
    for t in range(T):
        decision = policy.act({"image": raw[0][t, ..., ::-1].copy(), "joints": raw[1][t]}, t / 10)
        picture = (decision.prediction["image"][0].flip(0).double() * 0.8 + 0.1) - there["image"][t]
        assert picture.abs().max() < 1e-5
        apart = decision.prediction["joints"][0].double() - there["joints"][t]
        assert apart.abs().max() < 1e-5
        wanted = (there["joints"][t].numpy() - 0.1) / 0.8 * (high - low) + low
        ours = trained.normalizer.decode("joints", decision.prediction["joints"][0]).numpy()
        np.testing.assert_allclose(ours, wanted, atol=1e-5 * (high - low).max() / 0.8, rtol=0)
        assert np.isfinite(decision.command).all()


def test_a_run_goes_along_recordings_and_is_explained(tmp_path: Path, folder: Path) -> None:
    how = EiplModel(store=str(folder / "data-store"))
    for number, tensors in enumerate(
        (eipl.sarnn(SIDE, SIDE, J), eipl.cnn_rnn(joints=J), eipl.cnn_rnn("layer", joints=J))
    ):
        run = tmp_path / f"run{number}"
        import_eipl_model(checkpoint(tmp_path / f"{number}", tensors), run, how)
        trained = load(run)
        assert trained.limits is not None
        assert trained.limits.period == pytest.approx(0.1)
        trial, errors = open_loop(trained, "test-00000")
        assert set(errors) == {"joints", "image"}
        assert (trial.attention is not None) == (number == 0)
    run = tmp_path / "run0"
    assert along_recording(load(run), "test-00000", run) == open_loop(load(run), "test-00000")[1]
    assert all(path.stat().st_size for path in explain(load(run), [trial_along(load(run), "test-00000")], run))
    assert isinstance(load(tmp_path / "run0").model, SARNN), "0..1 is SARNN itself"
    with pytest.raises(SakiyomiError, match="holds a run already"):
        import_eipl_model(tmp_path / "0/log/model.pth", tmp_path / "run0", how)


def test_an_import_that_was_cut_off_can_be_made_again(folder: Path, tmp_path: Path) -> None:
    """Where the weights could not be written there is no run, so nothing stands in the way of the next call."""
    path, how = checkpoint(tmp_path, eipl.lstm(J)), EiplModel(store=str(folder / "data-store"))
    (tmp_path / "run/weights.safetensors").mkdir(parents=True)
    with pytest.raises(SakiyomiError, match="could not write"):
        import_eipl_model(path, tmp_path / "run", how)
    assert not (tmp_path / "run/job.json").exists()
    (tmp_path / "run/weights.safetensors").rmdir()
    import_eipl_model(path, tmp_path / "run", how)
    assert load(tmp_path / "run").model is not None


def test_an_autoencoder_draws(tmp_path: Path, folder: Path) -> None:
    path = checkpoint(tmp_path, eipl.cae("basic", "batch"), {"vmin": 0.1, "vmax": 0.9})
    import_eipl_model(path, tmp_path / "run", EiplModel(store=str(folder / "data-store")))
    trained = load(tmp_path / "run")
    assert trained.limits is None
    assert all(path.stat().st_size for path in rollout_draws(trained, Drawing(2, 2, 3, device="cpu"), tmp_path / "run"))


def test_a_robot_that_is_not_here_is_measured_and_explained_by_its_recordings(tmp_path: Path) -> None:
    """Five joints fit no world of ours."""
    joints = np.cumsum(np.random.default_rng(0).normal(size=(3, 9, 5)), 1).astype(np.float32)
    (tmp_path / "data/train").mkdir(parents=True)
    np.save(tmp_path / "data/train/joints.npy", joints)
    np.save(tmp_path / "data/train/images.npy", np.random.default_rng(1).integers(0, 256, (3, 9, 20, 20, 3), np.uint8))
    store = Eipl(str(tmp_path / "data")).record(tmp_path / "store")
    import_eipl_model(checkpoint(tmp_path, eipl.sarnn(20, 20)), tmp_path / "run", EiplModel(store=str(store.folder)))
    trained = load(tmp_path / "run")
    scores = evaluate_recordings(trained)
    apart = np.diff(joints[2], axis=0)
    # The last step has no successor, and the first eight of nine are counted.
    assert scores["standing_still/joints"].value == pytest.approx(np.sqrt(np.square(apart[:7]).mean()), rel=1e-5)
    assert {"drift_one_step/image", "drift_one_step/joints", "one_step/joints"} <= scores.keys()
    # To the network the bounds are 0 and 1: what it errs by is a share of the range as it is.
    batch = validation_windows(trained, store)
    wrong = trained.model.unroll(batch.inputs)[0]["joints"] - batch.targets["joints"]
    each = wrong.square().mean((0, 2)).sqrt()
    assert scores["drift_one_step/joints"].value == pytest.approx(each.mean().item(), rel=1e-4)
    trial = trial_along(trained, "train-00002")
    assert trial.hidden.shape == (8, 2 * 12)
    _, state = trained.model.unroll(
        Windows(store, "validation", trained.job.data, trained.model.inputs, trained.normalizer).batch([0]).inputs
    )
    np.testing.assert_allclose(trial.hidden[-1], torch.cat([v.flatten() for v in state.values()]).detach(), atol=1e-5)
    assert {path.name for path in explain_recordings(trained, tmp_path / "run")} == {
        "attention.gif",
        "attention.png",
        "hidden.png",
        "commands.png",
    }


@pytest.mark.parametrize(("tensors", "rate"), [(eipl.sarnn(SIDE, SIDE, J), 0.0), (eipl.cnn_rnn(joints=J), 1e-3)])
def test_training_goes_on_from_what_was_learned_there(
    tmp_path: Path, folder: Path, tensors: Tensors, rate: float
) -> None:
    run = tmp_path / "run"
    import_eipl_model(checkpoint(tmp_path, tensors), run, EiplModel(store=str(folder / "data-store")))
    before, job = load(run).model.state_dict(), load_job(run)
    few = replace(job.train, steps=2, batch_size=2, threads=1, device="cpu", learning_rate=LearningRate(rate))
    job = replace(job, train=few, data=replace(job.data, steps=4))
    save_job(job, run)
    assert main(["train", "theirs", "--resume", "--out", str(run)]) == 0  # no preset is called so
    assert [one["step"] for one in read_metrics(run)][-1] == 2
    after = load(run).model.state_dict()
    furthest = max(float((after[name] - value).abs().max()) for name, value in before.items())
    assert furthest <= 4 * rate, "two steps of Adam go no further"
    assert (furthest > 0) == (rate > 0)


def test_a_network_that_predicts_worse_than_standing_still_is_told(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import_eipl_model(checkpoint(tmp_path, eipl.lstm(J)), tmp_path / "run", EiplModel(store=str(folder / "data-store")))
    assert "worse than that. Was it trained with other colours" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("make", [eipl.lstm, eipl.mtrnn])
def test_networks_on_codes_go_along_recordings(tmp_path: Path, folder: Path, make: Any) -> None:
    """Beside codes, joints are scaled already while their bounds are not: taken as they are."""
    store = EpisodeStore(folder / "codes-store")
    path = checkpoint(tmp_path, make(10 + J), {"vmin": 0.0, "vmax": 1.0})
    import_eipl_model(path, tmp_path / "run", EiplModel(store=str(store.folder)))
    trained = load(tmp_path / "run")
    low, high = store.origin["bounds"]["feat"]
    for name, (least, most) in {"features": (low[0], high[0]), "joints": (0.0, 1.0)}.items():
        values = store.values("test-00000", name)
        inside = trained.normalizer.encode(name, torch.from_numpy(values)).numpy()
        np.testing.assert_allclose(inside, (values - least) / (most - least), atol=1e-6)
    assert set(along_recording(trained, "test-00000", tmp_path / "run")) == {"joints"}
    assert {path.name for path in explain_recordings(trained, tmp_path / "run")} == {"hidden.png", "commands.png"}


@given(
    ends=st.tuples(st.floats(-10, 10), st.floats(0.01, 10)),
    to=st.sampled_from([(0.0, 1.0), (0.1, 0.9), (-0.9, 0.9)]),
    value=st.floats(-20, 20),
)
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_bounds_alone_make_scale_and_limits(
    tmp_path_factory: pytest.TempPathFactory, ends: tuple[float, float], to: tuple[float, float], value: float
) -> None:
    """EIPL's normalisation, whatever its range; the guard may be told the speed."""
    tmp_path = tmp_path_factory.mktemp("bounds")
    low, high = ends[0], ends[0] + ends[1]
    np.save(tmp_path / "joint_bounds.npy", np.array([[low] * 2, [high] * 2]))
    how = EiplModel(bounds=str(tmp_path / "joint_bounds.npy"), across=5.0, rate=20.0)
    args = {"vmin": to[0], "vmax": to[1]}
    import_eipl_model(checkpoint(tmp_path, eipl.sarnn(14, 14, 2, 2, 4), args), tmp_path / "run", how)
    normalizer = Normalizer.load(tmp_path / "run/normalizer.json")
    encoded = normalizer.encode("joints", torch.tensor([value, low], dtype=torch.float64))
    wanted = to[0] + (value - low) / (high - low) * (to[1] - to[0])
    assert encoded[0].item() == pytest.approx(wanted, abs=1e-5, rel=1e-6)
    assert normalizer.span("joints") == pytest.approx(to[1] - to[0])
    back = normalizer.decode("joints", encoded.double())
    assert back[0].item() == pytest.approx(value, abs=1e-5 * (high - low) * max(1, abs(wanted)) / (to[1] - to[0]))
    limits = load(tmp_path / "run").limits
    assert limits is not None
    assert limits.velocity[0] == pytest.approx((high - low) / 5)
    assert limits.period == pytest.approx(0.05)
    Policy(load(tmp_path / "run")).reset(np.array([low, high]))


@pytest.mark.parametrize("how", ["checkpoint", "pickle", "legacy"])
def test_code_in_a_checkpoint_is_never_run(tmp_path: Path, how: str) -> None:
    mark, path = tmp_path / "owned", tmp_path / "SARNN.pth"
    content = {"model_state_dict": eipl.sarnn(14, 14), "more": Payload(mark)}
    if how == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "checkpoint")
    with pytest.raises(SakiyomiError, match="run code"):
        state_dict(path)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Payload(mark)))  # the payload does work
    assert mark.exists()


def without(tensors: Tensors, name: str) -> Tensors:
    return {n: t for n, t in tensors.items() if n != name}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"epoch": 3}, "expected model_state_dict"),
        ({"model_state_dict": {}}, "expected model_state_dict"),
        ([1, 2], "expected model_state_dict"),
        (torch.zeros(3), "expected model_state_dict"),
        ({"model_state_dict": {"layer.weight": torch.zeros(3)}}, "none of SARNN"),
        (without(eipl.sarnn(14, 14), "rec.weight_hh"), "no rec.weight_hh"),
        (without(eipl.sarnn(14, 14), "rec.bias_hh"), "missing: lstm.bias_hh_l0"),
        (without(eipl.sarnn(14, 14), "issm.pos_xy"), "no issm.pos_xy"),
        ({**eipl.sarnn(14, 14), "extra.weight": torch.zeros(2)}, "unknown: extra.weight"),
        ({**eipl.sarnn(14, 14), "rec.weight_ih": torch.zeros(48, 7)}, r"shape \[48, 7\]; .* be \[48, 11\]"),
        ({**eipl.sarnn(14, 14), "rec.weight_hh": torch.zeros(48)}, "expected 2 dimensions"),
        ({**eipl.sarnn(14, 14), "rec.bias_hh": torch.full((48,), torch.nan)}, "not finite"),
        ({**eipl.sarnn(14, 14), "rec.bias_hh": torch.zeros(48).bool()}, "torch.bool"),
        ({**eipl.sarnn(14, 14), "rec.weight_hh": torch.zeros(1, 1).expand(4 * 10**6, 10**6)}, "repeats a few numbers"),
        ({**eipl.sarnn(14, 14), "module.rec.bias_hh": torch.zeros(48)}, "twice"),
        ({n: t for n, t in eipl.cae("basic").items() if "encoder" in n and t.ndim == 4}, "0 dense layers in encoder"),
        (without(eipl.cnn_rnn(), "encoder_image.13.weight"), "1 dense layers in encoder_image"),
    ],
)
def test_wrong_checkpoints_are_told_apart(tmp_path: Path, content: Any, told: str) -> None:
    path = tmp_path / "model.pth"
    torch.save(content, path)
    with pytest.raises(SakiyomiError, match=told):
        network(state_dict(path), RGB, str(path))


def test_checkpoints_that_were_tampered_with_are_refused(tmp_path: Path) -> None:
    path = eipl.save(tmp_path / "a.pth", eipl.sarnn(14, 14))
    records = zipfile.ZipFile(path)
    largest = max(records.infolist(), key=lambda info: info.file_size).filename
    for name, method, cut in (("packed", zipfile.ZIP_DEFLATED, 0), ("short", zipfile.ZIP_STORED, 64)):
        with zipfile.ZipFile(tmp_path / name, "w", method) as made:
            for info in records.infolist():
                content = records.read(info)
                made.writestr(info.filename, content[: len(content) - cut] if info.filename == largest else content)
    with pytest.raises(SakiyomiError, match="compressed"):
        state_dict(tmp_path / "packed")
    with pytest.raises(SakiyomiError, match=r"damaged|cannot be read"):
        state_dict(tmp_path / "short")


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_checkpoints_raise_nothing_but_our_error(tmp_path: Path, data: st.DataObject) -> None:
    whole = tmp_path / "whole.pth"
    if not whole.exists():
        eipl.save(whole, eipl.mtrnn(4, 3, 2))
    content = bytearray(whole.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
    path = tmp_path / "damaged.pth"
    path.write_bytes(content)
    try:
        found = network(state_dict(path), replace(RGB, joints=4), str(path))
    except SakiyomiError:
        return
    assert found.name == "MTRNN"


def test_bounds_of_another_robot_are_refused(tmp_path: Path, folder: Path) -> None:
    for name, tensors in {"data": eipl.sarnn(SIDE, SIDE, J), "codes": eipl.lstm(10 + J)}.items():
        root = tmp_path / name
        shutil.copytree(folder / name, root)
        np.save(root / "joint_bounds.npy", np.array([[-9.0] * 3, [9.0] * 3]))
        Eipl(str(root)).record(tmp_path / f"{name}-store")
        with pytest.raises(SakiyomiError, match=r"bounds of joints are \[2, 3\], the network has 8"):
            import_eipl_model(
                checkpoint(root, tensors), tmp_path / "run", EiplModel(store=str(tmp_path / f"{name}-store"))
            )


def test_what_nothing_tells_is_asked_for(tmp_path: Path, folder: Path) -> None:
    path = checkpoint(tmp_path, eipl.sarnn(SIDE, SIDE, J))
    with pytest.raises(SakiyomiError, match=r"--store .*--bounds"):
        import_eipl_model(path, tmp_path / "run", EiplModel())
    with pytest.raises(SakiyomiError, match="no path given"):
        import_eipl_model(Path(), tmp_path / "run", EiplModel())
    np.save(tmp_path / "b.npy", np.array([[0.0] * J, [1.0] * (J - 1) + [0.0]]))
    with pytest.raises(SakiyomiError, match="channel 7 goes from 0 to 0"):
        import_eipl_model(path, tmp_path / "run", EiplModel(bounds=str(tmp_path / "b.npy")))
    small = checkpoint(tmp_path / "small", eipl.sarnn(32, 32, J))
    with pytest.raises(SakiyomiError, match=r"reads image \[32, 32, 3\]"):
        import_eipl_model(small, tmp_path / "run", EiplModel(store=str(folder / "data-store")))
    codes = checkpoint(tmp_path / "codes", eipl.lstm(18))
    with pytest.raises(SakiyomiError, match="nothing tells how many are which"):
        import_eipl_model(codes, tmp_path / "run", EiplModel())
    assert not (tmp_path / "run").exists(), "nothing is begun in vain"


@pytest.mark.parametrize("content", ["", "[1]", '{"vmin": "zero"}', '{"temperature": true}'])
def test_wrong_args_are_refused(tmp_path: Path, folder: Path, content: str) -> None:
    path = checkpoint(tmp_path, eipl.sarnn(SIDE, SIDE, J), {})
    (path.parent / "args.json").write_text(content)
    with pytest.raises(SakiyomiError, match=r"args\.json"):
        import_eipl_model(path, tmp_path / "run", EiplModel(store=str(folder / "data-store")))
