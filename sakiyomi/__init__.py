"""Sakiyomi: learns from recordings what comes next, and puts the prediction to work.

What is listed here is public; the rest may change.
"""

from sakiyomi.data.episodes import EpisodeStore, EpisodeWriter, Stream
from sakiyomi.data.normalize import Normalizer
from sakiyomi.errors import SakiyomiError
from sakiyomi.guard import Guard, Limits
from sakiyomi.job import Job
from sakiyomi.models import MODELS, SequenceModel
from sakiyomi.online import OnlineSurprise
from sakiyomi.rollout import Policy, load
from sakiyomi.schedules import curve
from sakiyomi.surprise import Surprise

__all__ = [
    "MODELS",
    "EpisodeStore",
    "EpisodeWriter",
    "Guard",
    "Job",
    "Limits",
    "Normalizer",
    "OnlineSurprise",
    "Policy",
    "SakiyomiError",
    "SequenceModel",
    "Stream",
    "Surprise",
    "curve",
    "load",
]
