"""The models, by the name that runs and checkpoints know them by."""

from sakiyomi.models.base import SequenceModel, State, Streams
from sakiyomi.models.cnn_rnn import CNNRNN
from sakiyomi.models.joint_rnn import JointRNN
from sakiyomi.models.mtrnn import MTRNN
from sakiyomi.models.mvae import MVAE
from sakiyomi.models.sarnn import SARNN
from sakiyomi.models.svg import SVG

MODELS = {
    "SARNN": SARNN,
    "CNNRNN": CNNRNN,
    "MTRNN": MTRNN,
    "JointRNN": JointRNN,
    "SVG": SVG,
    "MVAE": MVAE,
}

__all__ = ["CNNRNN", "MODELS", "MTRNN", "MVAE", "SARNN", "SVG", "JointRNN", "SequenceModel", "State", "Streams"]
