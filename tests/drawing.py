"""Small models that draw: runs that have learned a little of scikit-learn's digits."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from sakiyomi.data.episodes import EpisodeStore
from sakiyomi.data.sources.pictures import Pictures
from sakiyomi.job import Job
from sakiyomi.models import AE, CVAE, VAE
from sakiyomi.presets import preset
from sakiyomi.rollout import Trained, load
from sakiyomi.train import train

MODELS: dict[str, Any] = {
    "AE": AE.Config(layers=(64,), latent=2),
    "VAE": VAE.Config(layers=(64,), latent=2),
    "CVAE": CVAE.Config(layers=(96,), latent=6, activation="silu"),
}


def digit_store(folder: Path) -> EpisodeStore:
    """All 1,797 digits at 28 x 28."""
    return Pictures().record(folder)


def digit_job(store: EpisodeStore, kind: str, steps: int = 400) -> Job:
    base = preset("digits-ae" if kind == "AE" else "digits-vae").job
    rate = replace(base.train.learning_rate, peak=3e-3, warmup=20)
    cfg = replace(base.train, steps=steps, learning_rate=rate, validate_every=steps // 2, precision="float32")
    return replace(base, model=MODELS[kind], data=replace(base.data, store=str(store.folder)), train=cfg)


def digit_run(store: EpisodeStore, kind: str, folder: Path) -> Trained:
    train(digit_job(store, kind), folder)
    return load(folder)
