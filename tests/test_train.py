"""The loop: a step follows from (seed, step) alone, and nothing already good is lost."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import walking
from imagining import push_job

from sakiyomi.data.augment import Augment
from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter, Stream
from sakiyomi.data.normalize import Normalizer
from sakiyomi.data.sources.generated_pairs import GeneratedPairs
from sakiyomi.data.windows import Batch, Data, Windows
from sakiyomi.distributed import Replica
from sakiyomi.errors import SakiyomiError
from sakiyomi.job import Job, Train, build, load_job, save_job
from sakiyomi.models import MVAE, SARNN, JointRNN, Seq2Seq
from sakiyomi.rollout import limits_of, load
from sakiyomi.run import Interrupted, Log, read_metrics, read_tensors
from sakiyomi.schedules import LearningRate, TeacherForcing, Weight, progress_at
from sakiyomi.step import Parts, Shard, averages, draw, gradient_norm, gradients, portions, weigh
from sakiyomi.train import fitted, train
from sakiyomi.validation import ACTIVE, validate
from sakiyomi.watchdog import Watch


@pytest.fixture
def job(store: EpisodeStore) -> Job:
    """Thirty small steps with every source of randomness on."""
    return Job(
        model=SARNN.Config(joints=3, height=16, width=16, points=2, hidden=8, image_loss_fraction=0.5),
        data=Data(str(store.folder)),
        augment=Augment(light=0.2, flicker=0.1, colour=0.1, shift=1, patch=0.5),
        train=Train(
            steps=30,
            batch_size=3,
            learning_rate=LearningRate(1e-2, 5, "cosine"),
            losses={"image": Weight(0.1), "joints": Weight(1.0), "points": Weight(0.1, "s", 20)},
            validate_every=10,
            save_every=10,
            log_every=1,
        ),
    )


def same_run(a: Path, b: Path) -> bool:
    (_, left), (_, right) = read_tensors(a / "last.safetensors"), read_tensors(b / "last.safetensors")
    assert left.keys() == right.keys()
    return read_metrics(a) == read_metrics(b) and all(torch.equal(left[k], right[k]) for k in left)


def press_ctrl_c_at(line: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real SIGINT while the so-many-th line is being logged."""
    write, lines = Log.write, []

    def write_and_press(self: Log, step: int, values: dict[str, float]) -> None:
        write(self, step, values)
        lines.append(step)
        if len(lines) == line:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Log, "write", write_and_press)


def test_two_runs_of_a_seed_are_identical_and_another_seed_differs(job: Job, tmp_path: Path) -> None:
    train(job, tmp_path / "a")
    train(job, tmp_path / "b")
    train(replace(job, train=replace(job.train, seed=1)), tmp_path / "c")
    assert same_run(tmp_path / "a", tmp_path / "b")
    assert not same_run(tmp_path / "a", tmp_path / "c")


@pytest.mark.parametrize("line", [7, 11, 12])  # 11 and 12: around a validation
def test_ctrl_c_and_resume_is_no_stop(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: int) -> None:
    train(job, tmp_path / "whole")
    with monkeypatch.context() as pressing:
        press_ctrl_c_at(line, pressing)
        with pytest.raises(Interrupted, match="--resume"):
            train(job, tmp_path / "stopped")
    train(job, tmp_path / "stopped", resume=True)
    assert same_run(tmp_path / "whole", tmp_path / "stopped")
    header, _ = read_tensors(tmp_path / "stopped/weights.safetensors")
    assert header == read_tensors(tmp_path / "whole/weights.safetensors")[0]


def test_looking_at_the_validation_split_changes_nothing(job: Job, tmp_path: Path) -> None:
    train(job, tmp_path / "often")
    train(replace(job, train=replace(job.train, validate_every=1000)), tmp_path / "never")
    _, often = read_tensors(tmp_path / "often/last.safetensors")
    _, never = read_tensors(tmp_path / "never/last.safetensors")
    assert all(torch.equal(often[k], never[k]) for k in often)


def test_it_learns(job: Job, tmp_path: Path) -> None:
    steps = replace(job.train, steps=150)
    train(replace(job, augment=Augment(), train=steps), tmp_path)
    joints = [r["joints"] for r in read_metrics(tmp_path) if "joints" in r]
    assert joints[-1] < joints[0] / 10


def test_early_stopping_stops(job: Job, tmp_path: Path) -> None:
    still = replace(job.train, learning_rate=LearningRate(0.0), patience=2, steps=1000)
    ended = train(replace(job, train=still), tmp_path)
    assert ended.stopped_early
    assert ended.steps == 30  # the best at 10, worse at 20 and 30
    assert ended.best_step == 10


def test_a_loss_that_is_no_number_says_what_where_and_which_checkpoint(job: Job, tmp_path: Path) -> None:
    wild = replace(job.train, learning_rate=LearningRate(1e30), clip=0.0)
    with pytest.raises(SakiyomiError, match=r"became (nan|inf) at step \d+; none was written yet") as raised:
        train(replace(job, train=wild), tmp_path / "wild")
    assert "\n" not in str(raised.value)


def test_a_good_checkpoint_survives_a_later_explosion(job: Job, tmp_path: Path) -> None:
    train(replace(job, train=replace(job.train, steps=20)), tmp_path)
    last = tmp_path / "last.safetensors"
    _, before = read_tensors(last)
    wild = replace(job, train=replace(job.train, steps=40, learning_rate=LearningRate(1e30), clip=0.0))
    save_job(wild, tmp_path)  # somebody edits the job and goes on
    with pytest.raises(SakiyomiError, match=f"the last good checkpoint is {last}"):
        train(wild, tmp_path, resume=True)
    header, after = read_tensors(last)
    assert '"step": 20' in header["state"]
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_run_is_not_overwritten(job: Job, tmp_path: Path) -> None:
    train(job, tmp_path)
    with pytest.raises(SakiyomiError, match=r"holds a run already.*--resume"):
        train(job, tmp_path)


def test_resume_refuses_another_job_and_another_model(job: Job, tmp_path: Path) -> None:
    train(job, tmp_path)
    with pytest.raises(SakiyomiError, match=r"it differs: train.batch_size 3 there, 2 asked"):
        train(replace(job, train=replace(job.train, batch_size=2)), tmp_path, resume=True)
    other = replace(job, model=JointRNN.Config(joints=3), train=replace(job.train, losses={"joints": Weight()}))
    train(other, tmp_path / "other")
    (tmp_path / "weights.safetensors").write_bytes((tmp_path / "other/weights.safetensors").read_bytes())
    with pytest.raises(SakiyomiError, match="holds a JointRNN, not a SARNN"):
        load(tmp_path)


def test_a_checkpoint_of_other_sizes_is_refused_by_name(job: Job, tmp_path: Path) -> None:
    train(job, tmp_path / "a")
    train(replace(job, model=replace(job.model, hidden=9)), tmp_path / "b")  # pyright: ignore
    (tmp_path / "a/weights.safetensors").write_bytes((tmp_path / "b/weights.safetensors").read_bytes())
    with pytest.raises(SakiyomiError, match="hidden: 9 there, 8 asked"):
        load(tmp_path / "a")


def test_a_damaged_checkpoint_is_said(job: Job, tmp_path: Path) -> None:
    train(job, tmp_path)
    whole = (tmp_path / "weights.safetensors").read_bytes()
    (tmp_path / "weights.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SakiyomiError, match="no whole safetensors file"):
        load(tmp_path)


def test_the_job_comes_back_from_its_file(job: Job, tmp_path: Path) -> None:
    train(job, tmp_path)
    assert load_job(tmp_path) == job
    text = (tmp_path / "job.json").read_text()
    (tmp_path / "job.json").write_text(text.replace('"steps": 30', '"steps": "many"'))
    with pytest.raises(SakiyomiError, match=r"Expected `int`, got `str` - at `\$.steps`"):
        load_job(tmp_path)


def test_every_loss_needs_a_weight(job: Job, tmp_path: Path) -> None:
    with pytest.raises(SakiyomiError, match="losses"):
        train(replace(job, train=replace(job.train, losses={"joints": Weight()})), tmp_path)


def test_padding_counts_nothing_not_even_nan() -> None:
    config = Train(losses={"a": Weight(2.0), "b": Weight(1.0, "linear", 10)})
    mask = torch.tensor([[1.0, 1.0, 0.0]])
    losses = {"a": torch.tensor([[1.0, 3.0, float("nan")]]), "b": torch.tensor([[4.0, 4.0, 1e9]])}
    total, means = weigh(losses, mask, config, step=5)
    assert float(means["a"]) == 2.0
    assert float(total) == 2 * 2.0 + 0.5 * 4.0


def test_resuming_a_finished_run_changes_nothing(job: Job, tmp_path: Path) -> None:
    patient = replace(job, train=replace(job.train, patience=3))
    ended = train(patient, tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    assert train(patient, tmp_path, resume=True) == ended
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == before


def test_an_explosion_is_no_early_stop(job: Job, tmp_path: Path) -> None:
    wild = replace(job.train, learning_rate=LearningRate(1e38), patience=1, validate_every=5, log_every=100, clip=0.0)
    with pytest.raises(SakiyomiError, match="training stopped"):
        train(replace(job, train=wild), tmp_path)
    assert not (tmp_path / "last.safetensors").exists()


def test_the_guard_learns_speeds_not_steps(job: Job, store: EpisodeStore, tmp_path: Path) -> None:
    """The same recordings at half the rate: the arm may move as fast, not twice as fast."""
    train(job, tmp_path / "10")
    train(replace(job, data=replace(job.data, rate=5.0)), tmp_path / "5")
    fast, slow = (np.array(limits_of(load(tmp_path / name)).velocity) for name in ("10", "5"))
    assert (slow <= fast + 1e-9).all()
    assert (slow > fast / 4).all()


def test_few_episodes_mean_that_nothing_else_is_known(job: Job, store: EpisodeStore, tmp_path: Path) -> None:
    train(replace(job, data=replace(job.data, episodes=1)), tmp_path)
    first = store.split("train")[0].id
    both = np.concatenate([store.values(first, "joints"), store.values(first, "command")])
    np.testing.assert_allclose(load(tmp_path).normalizer.scales["joints"].low, both.min(0))
    np.testing.assert_allclose(load(tmp_path).normalizer.scales["joints"].high, both.max(0))


def test_bfloat16_trains_like_float32(job: Job, tmp_path: Path) -> None:
    train(job, tmp_path / "float32")
    train(replace(job, train=replace(job.train, precision="bfloat16")), tmp_path / "bfloat16")
    a, b = (read_metrics(tmp_path / name)[-1]["validation/total"] for name in ("float32", "bfloat16"))
    assert b == pytest.approx(a, rel=0.3)


@pytest.mark.parametrize(
    ("field", "value"),
    [("batch_size", 0), ("save_every", 0), ("seed", -1), ("threads", -1), ("clip", -1.0), ("steps", 0)],
)
def test_numbers_outside_their_range_are_named(job: Job, tmp_path: Path, field: str, value: float) -> None:
    with pytest.raises(SakiyomiError, match=f"--train.{field.replace('_', '-')} is {value}; it must be at least"):
        train(replace(job, train=replace(job.train, **{field: value})), tmp_path)


def test_a_model_that_reads_its_own_predictions_is_resumed_bit_for_bit(
    push_store: EpisodeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Teacher forcing that falls, a KL weight in cycles, statistics of BatchNorm: all of it follows from the step."""
    losses = {"image": Weight(1.0), "kl": Weight(1e-3, "linear", cycles=2)}
    forcing = TeacherForcing(0.8, start=0.5, step=0.1, floor=0.2)
    settings = {"steps": 16, "validate_every": 8, "save_every": 4, "losses": losses, "teacher_forcing": forcing}
    job = push_job(push_store, train=settings)
    train(job, tmp_path / "whole")
    with monkeypatch.context() as pressing:
        press_ctrl_c_at(7, pressing)
        with pytest.raises(Interrupted):
            train(job, tmp_path / "stopped")
    train(job, tmp_path / "stopped", resume=True)
    assert same_run(tmp_path / "whole", tmp_path / "stopped")
    lines = [line for line in read_metrics(tmp_path / "whole") if "lr" in line]
    epoch = 3 / 12  # batches of 3 of 4 recordings, each cut in 3 windows
    assert [line["teacher_forcing"] for line in lines] == [forcing.at(epoch * step) for step in range(16)]
    assert [line["weight/kl"] for line in lines] == [losses["kl"].at(step, 16) for step in range(16)]
    assert lines[-1]["teacher_forcing"] < lines[0]["teacher_forcing"]

    always = replace(job, train=replace(job.train, teacher_forcing=TeacherForcing()))
    train(always, tmp_path / "forced")
    assert not same_run(tmp_path / "whole", tmp_path / "forced")


@pytest.mark.parametrize("reads_itself", [False, True])
def test_a_translator_with_dropout_is_resumed_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads_itself: bool
) -> None:
    """Dropout draws from torch's own generator, and sentences are drawn by their length: both follow from the step."""
    GeneratedPairs(pairs=60, held_out=10).record(tmp_path / "pairs")
    forcing = TeacherForcing(0.5) if reads_itself else TeacherForcing()
    losses = {"target": Weight(0.9), "uniform": Weight(0.1)}
    settings = Train(12, 8, losses=losses, teacher_forcing=forcing, validate_every=6, save_every=4, log_every=1)
    model = Seq2Seq.Config(embedding=8, hidden=8, attention=True, dropout=0.3)
    job = Job(model, Data(str(tmp_path / "pairs"), clock="target"), Augment(joints=0, image=0), settings)
    train(job, tmp_path / "whole")
    with monkeypatch.context() as pressing:
        press_ctrl_c_at(5, pressing)
        with pytest.raises(Interrupted):
            train(job, tmp_path / "stopped")
    train(job, tmp_path / "stopped", resume=True)
    assert same_run(tmp_path / "whole", tmp_path / "stopped")
    without = replace(job, model=replace(model, dropout=0.0))
    train(without, tmp_path / "without")
    assert not same_run(tmp_path / "whole", tmp_path / "without")


def test_the_best_weights_are_those_of_the_measure_that_was_asked_for(push_store: EpisodeStore, tmp_path: Path) -> None:
    """Here the KL, of which nothing is learned, dwarfs the pictures in the total, and so the two disagree."""
    losses = {"image": Weight(1.0), "kl": Weight(1000.0, "linear", 10**18)}
    best = {}
    for keep in ("total", "imagined", "kl"):
        settings: dict = {"keep": keep, "losses": losses}
        settings |= {"validate_every": 2, "steps": 12, "learning_rate": LearningRate(5e-3)}
        ended = train(push_job(push_store, train=settings), tmp_path / keep)
        lines = [line for line in read_metrics(tmp_path / keep) if "validation/total" in line]
        least = min(lines, key=lambda line: line[f"validation/{keep}"])  # the first of equals
        assert (ended.best_step, ended.best) == (least["step"], least[f"validation/{keep}"])
        best[keep] = ended.best_step
    assert best["imagined"] != best["total"]


def test_an_unknown_measure_to_keep_is_named(job: Job, push_store: EpisodeStore, tmp_path: Path) -> None:
    with pytest.raises(SakiyomiError, match=r"--train.keep.*'imagine': did you mean 'imagined'"):
        train(push_job(push_store, train={"keep": "imagine"}), tmp_path / "svg")
    with pytest.raises(SakiyomiError, match=r"'imagined'.*known: image, joints, points, total"):
        train(replace(job, train=replace(job.train, keep="imagined")), tmp_path / "sarnn")


def test_pictures_that_are_no_numbers_are_a_training_that_stopped(push_store: EpisodeStore, tmp_path: Path) -> None:
    """Not an error of the score that was to be taken of them."""
    settings = {"learning_rate": LearningRate(1e38), "clip": 0.0, "validate_every": 1, "log_every": 100}
    with pytest.raises(SakiyomiError, match=r"training stopped: total, image.* of validation became nan at step 1"):
        train(push_job(push_store, train=settings), tmp_path)


# --- a model that is taught frame by frame

CPU = torch.device("cpu")
FALLING = TeacherForcing(start=0.02, step=8.0)  # epochs: of 20 steps the first ones are forced, the last ones not


def parts_of(job: Job, model: MVAE | SARNN) -> Parts:
    store = EpisodeStore(job.data.store)
    normalizer = Normalizer.fit(store, {name: (name,) for name in model.inputs})
    windows = [Windows(store, split, job.data, model.inputs, normalizer) for split in ("train", "validation")]
    optimizer = torch.optim.Adam(model.parameters())
    return Parts(CPU, model, optimizer, job.train.batch_size, windows[0], windows[1], Replica(model))


def test_a_model_taught_frame_by_frame_is_resumed_bit_for_bit(
    walk_store: EpisodeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = {"pose": Weight(1.0), "kl": Weight(0.2, "linear", 15)}
    settings = {"save_every": 6, "losses": losses, "teacher_forcing": FALLING}
    job = walking.walk_job(walk_store, train=settings)
    train(job, tmp_path / "whole")
    train(job, tmp_path / "again")
    with monkeypatch.context() as pressing:
        press_ctrl_c_at(9, pressing)
        with pytest.raises(Interrupted):
            train(job, tmp_path / "stopped")
    train(job, tmp_path / "stopped", resume=True)
    assert same_run(tmp_path / "whole", tmp_path / "again")
    assert same_run(tmp_path / "whole", tmp_path / "stopped")
    shares = [line["teacher_forcing"] for line in read_metrics(tmp_path / "whole") if "lr" in line]
    assert shares[0] == 1
    assert shares[-1] == 0
    assert any(0 < share < 1 for share in shares)
    for other in ({"seed": 1}, {"teacher_forcing": TeacherForcing()}):
        train(walking.walk_job(walk_store, train={**settings, **other}), tmp_path / next(iter(other)))
        assert not same_run(tmp_path / "whole", tmp_path / next(iter(other)))


def test_every_frame_has_a_gradient_step_of_its_own(walk_store: EpisodeStore, tmp_path: Path) -> None:
    train(walking.walk_job(walk_store, train={"steps": 3}), tmp_path)
    header, tensors = read_tensors(tmp_path / "last.safetensors")
    counts = {float(value) for name, value in tensors.items() if name.startswith("optimizer.") and "step" in name}
    assert counts == {3 * 4.0}
    assert '"step": 3' in header["state"]  # of the log and of the schedules a step is a batch


def test_what_is_logged_is_the_mean_over_the_frames(walk_store: EpisodeStore, tmp_path: Path) -> None:
    """With a learning rate of 0 all gradient steps of a batch see one model: the mean is that of the batch's losses."""
    job = walking.walk_job(walk_store, train={"steps": 2, "learning_rate": LearningRate(0.0)})
    train(job, tmp_path)
    job = load_job(tmp_path)
    torch.manual_seed(job.train.seed)
    model = build(job.model)
    assert isinstance(model, MVAE)
    parts = parts_of(job, model)
    for line in [line for line in read_metrics(tmp_path) if "lr" in line]:
        (shard,), _ = draw(parts, job, int(line["step"]))
        losses = list(model.frames(shard.batch, shard.progress))
        means = {name: torch.cat([frame[name] for frame in losses], 1).mean().item() for name in losses[0]}
        assert {name: line[name] for name in means} == pytest.approx(means, rel=1e-5)
        assert line["total"] == pytest.approx(means["pose"] + 0.2 * means["kl"], rel=1e-5)
        norms = []
        for frame in losses:  # each step's own gradient, nothing of the one before
            total = frame["pose"].mean() + 0.2 * frame["kl"].mean()
            gradients = torch.autograd.grad(total, list(model.parameters()))
            norms.append(torch.cat([gradient.flatten() for gradient in gradients]).norm().item())
        assert line["gradient_norm"] == pytest.approx(np.mean(norms), rel=1e-4)


def test_portions_are_frames_or_the_whole(walk_store: EpisodeStore, job: Job) -> None:
    walk = fitted(walking.walk_job(walk_store))
    torch.manual_seed(0)
    model = build(walk.model)
    assert isinstance(model, MVAE)
    parts = parts_of(walk, model)
    shard = Shard(parts.windows.batch([0, 5]), progress_at(0, 10, 0, CPU, forcing=0.5))
    found = [portion.parts[0] for portion in portions(parts, [shard], walk)]
    losses = [part.losses() for part in found]
    assert [tuple(part.mask.shape) for part in found] == [(2, 1)] * 4
    whole = model.loss(shard.batch, progress_at(0, 10, 0, CPU, forcing=0.5))
    for name, loss in whole.items():
        torch.testing.assert_close(torch.cat([frame[name] for frame in losses], 1), loss)
    arm = build(job.model)
    assert isinstance(arm, SARNN)
    parts = parts_of(job, arm)
    shard = Shard(parts.windows.batch([0, 1]), progress_at(0, 10, 0, CPU))
    (portion,) = portions(parts, [shard], job)
    assert portion.parts[0].mask is shard.batch.mask
    assert set(portion.parts[0].losses()) == {"image", "joints", "points"}


def test_nan_in_the_padding_of_a_frame_does_not_reach_the_total(walk_store: EpisodeStore) -> None:
    walk = fitted(walking.walk_job(walk_store))
    model = build(walk.model)
    assert isinstance(model, MVAE)
    parts = parts_of(walk, model)
    batch = parts.windows.batch([0, 5, 9])
    mask = torch.tensor([[1.0, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]])
    clean = Batch(batch.inputs, batch.targets, mask)
    targets = batch.targets["pose"].clone()
    targets[mask == 0] = torch.nan
    torn = Batch(batch.inputs, {"pose": targets}, mask)
    for forcing in (0.0, 1.0):
        totals = []
        for one in (clean, torn):
            shard = Shard(one, progress_at(0, 10, 0, CPU, forcing=forcing))
            found = portions(parts, [shard], walk)
            totals.append([gradients(parts, portion, walk.train, 0)["total"].item() for portion in found])
        assert totals[0] == totals[1]
        assert np.isfinite(totals[0]).all()


@pytest.fixture
def uneven(tmp_path: Path) -> Job:
    """A training on whole clips, of which each split has a short one and a long one."""
    writer = EpisodeWriter(tmp_path / "uneven", {"pose": Stream("motion", (3,), "float32", 10.0)})
    random = np.random.default_rng(0)
    for split in ("train", "validation"):
        for frames in (4, 9):
            values = {"pose": random.normal(size=(frames, 3)).astype(np.float32)}
            writer.add(f"{split}-{frames}", values, {"pose": np.arange(frames) / 10}, split)
    job = walking.walk_job(writer.finish(), train={"steps": 2, "batch_size": 1, "validate_every": 100})
    return replace(job, data=replace(job.data, steps=0))


def test_validation_counts_no_padding(uneven: Job) -> None:
    job = fitted(uneven)
    torch.manual_seed(0)
    model = build(job.model)
    assert isinstance(model, MVAE)
    said = torch.tensor([0.8, 0.8, 1.2, 0.0]) * ACTIVE  # nats of each number, whatever is seen
    with torch.no_grad():
        model.encoder.last.weight.zero_()
        model.encoder.last.bias.copy_(torch.cat(((2 * said).sqrt(), torch.zeros(4))))
    parts = parts_of(job, model)
    assert parts.validation.batch([0, 1]).mask.sum() == 3 + 8  # of 16 frames
    found = validate(parts, job.train)
    assert found["kl"] == pytest.approx(said.sum().item(), rel=1e-4)
    assert found["active"] == 0.25


def test_padding_alone_is_no_reason_for_a_gradient_step(uneven: Job, tmp_path: Path) -> None:
    """Adam goes on by its momentum where gradients are 0: after the shorter clip has ended, nothing may be learned."""
    train(uneven, tmp_path / "run")
    _, tensors = read_tensors(tmp_path / "run/last.safetensors")
    counts = {float(value) for name, value in tensors.items() if name.startswith("optimizer.") and "step" in name}
    assert counts == {3.0 + 8.0}


def test_gradients_are_scaled_down_to_the_norm_asked_for() -> None:
    model = JointRNN(JointRNN.Config(joints=2, hidden=3))
    gradients = [torch.randn_like(parameter) for parameter in model.parameters()]
    norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    for clip, kept in ((0.0, 1.0), (float(norm) * 2, 1.0), (float(norm) / 4, 0.25)):
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            parameter.grad = gradient.clone()
        torch.testing.assert_close(gradient_norm(model, clip), norm)
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            torch.testing.assert_close(parameter.grad, kept * gradient, atol=1e-5, rtol=1e-4)
    idle, *_ = model.parameters()
    idle.grad = None  # a weight that this step does not reach
    assert torch.isfinite(gradient_norm(model, 0.0))


def test_averages_are_of_each_name() -> None:
    seen = [{"a": torch.tensor(1.0), "b": torch.tensor(-2.0)}, {"a": torch.tensor(4.0), "b": torch.tensor(0.0)}]
    assert {name: float(value) for name, value in averages(seen).items()} == {"a": 2.5, "b": -1.0}


def test_what_a_config_leaves_open_is_written_down_and_resumed(walk_store: EpisodeStore, tmp_path: Path) -> None:
    job = walking.walk_job(walk_store, train={"steps": 2})
    wide = walk_store.streams["pose"].shape[0]
    ended = train(job, tmp_path)
    found = load_job(tmp_path)
    assert found == fitted(job)
    assert found.model == replace(job.model, pose=wide)  # pyright: ignore[reportArgumentType]
    assert train(job, tmp_path, resume=True) == ended  # asked for as before
    assert isinstance(load(tmp_path).model, MVAE)


def test_a_model_that_leaves_nothing_open_is_as_it_was(job: Job) -> None:
    assert fitted(job) is job


def test_validation_is_measured_as_the_training_ends(walk_store: EpisodeStore) -> None:
    """One measure from first to last: by the schedule's last value, not by that of the step."""
    free = fitted(walking.walk_job(walk_store, train={"teacher_forcing": FALLING}))
    torch.manual_seed(0)
    model = build(free.model)
    assert isinstance(model, MVAE)
    parts = parts_of(free, model)
    found = validate(parts, free.train)
    batch = parts.validation.batch(list(range(len(parts.validation))))
    with torch.no_grad():
        progress = progress_at(20, 20, 0, CPU, training=False, forcing=0.0)
        wanted = {name: float(loss.mean()) for name, loss in model.loss(batch, progress).items()}
        usage = model.usage(batch).mean((0, 1))
    # Batches of the split draw their noise one after the other: the same up to that.
    assert found["pose"] == pytest.approx(wanted["pose"], rel=0.05)
    assert found["total"] == pytest.approx(found["pose"] + 0.2 * found["kl"])
    assert found["active"] == float((usage > ACTIVE).float().mean())
    assert model.training
    forced = validate(parts, walking.walk_job(walk_store).train)
    assert forced["pose"] != found["pose"]
    assert forced["active"] == found["active"]  # whatever is fed back


def test_a_collapsed_latent_is_told_once_with_its_cure_and_a_healthy_one_is_not(
    walk_store: EpisodeStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"steps": 100, "validate_every": 20, "watch": Watch(validations=2)}
    for name, weight in (("healthy", 0.2), ("collapsed", 1e3)):
        losses = {"pose": Weight(1.0), "kl": Weight(weight)}
        settings |= {"losses": losses, "learning_rate": LearningRate(5e-3, decay="linear")}
        train(walking.walk_job(walk_store, train=settings), tmp_path / name)
    said = " ".join(capsys.readouterr().out.split())
    active = {
        name: [line["validation/active"] for line in read_metrics(tmp_path / name) if "validation/active" in line]
        for name in ("healthy", "collapsed")
    }
    assert active["healthy"] == [1.0] * 5
    assert active["collapsed"][-1] < 0.5
    assert not (tmp_path / "healthy/warnings.txt").exists()
    told = (tmp_path / "collapsed/warnings.txt").read_text()
    assert told.count("the latent has collapsed") == said.count("the latent has collapsed") == 1
    assert "smaller KL weight (--train.losses.kl.value)" in told


def test_teacher_forcing_that_would_fall_after_the_end_is_told(
    walk_store: EpisodeStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, start, told in (("late", 5.0, True), ("early", 0.02, False), ("never", 5.0, False)):
        forcing = TeacherForcing(start=start, step=0.0 if name == "never" else 0.1)
        train(walking.walk_job(walk_store, train={"steps": 2, "teacher_forcing": forcing}), tmp_path / name)
        assert ("teacher forcing never falls" in capsys.readouterr().out) == told


def test_a_job_that_does_not_fit_leaves_nothing_in_the_way(walk_store: EpisodeStore, tmp_path: Path) -> None:
    wrong = walking.walk_job(walk_store, mixture="vq", train={"steps": 1})  # a codebook has no loss `kl`
    with pytest.raises(SakiyomiError, match="the model has losses"):
        train(wrong, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    train(walking.walk_job(walk_store, train={"steps": 1}), tmp_path / "run")
