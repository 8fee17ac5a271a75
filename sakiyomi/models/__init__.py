"""The models, by the name that runs and checkpoints know them by."""

from sakiyomi.models.ae import AE
from sakiyomi.models.base import SequenceModel, State, Streams
from sakiyomi.models.bert import BERT
from sakiyomi.models.cnn_rnn import CNNRNN
from sakiyomi.models.cvae import CVAE
from sakiyomi.models.eipl_cae import EiplCAE
from sakiyomi.models.eipl_cnn_rnn import EiplCNNRNN
from sakiyomi.models.eipl_rnn import EiplLSTM, EiplMTRNN
from sakiyomi.models.eipl_sarnn import EiplSARNN
from sakiyomi.models.forecaster import Forecaster
from sakiyomi.models.gpt import GPT
from sakiyomi.models.joint_rnn import JointRNN
from sakiyomi.models.lstm_ae import LSTMAE
from sakiyomi.models.lstm_vae import LSTMVAE
from sakiyomi.models.mtrnn import MTRNN
from sakiyomi.models.mvae import MVAE
from sakiyomi.models.recognizer import BLSTMRecognizer, ConvRecognizer
from sakiyomi.models.sarnn import SARNN
from sakiyomi.models.seq2seq import Seq2Seq
from sakiyomi.models.svg import SVG
from sakiyomi.models.transformer import Transformer
from sakiyomi.models.vae import VAE
from sakiyomi.models.wavenet import WaveNet
from sakiyomi.models.window_ae import WindowAE

MODELS = {
    "SARNN": SARNN,
    "CNNRNN": CNNRNN,
    "MTRNN": MTRNN,
    "JointRNN": JointRNN,
    "SVG": SVG,
    "MVAE": MVAE,
    "AE": AE,
    "VAE": VAE,
    "CVAE": CVAE,
    "WindowAE": WindowAE,
    "LSTMAE": LSTMAE,
    "LSTMVAE": LSTMVAE,
    "Forecaster": Forecaster,
    "Seq2Seq": Seq2Seq,
    "Transformer": Transformer,
    "GPT": GPT,
    "BERT": BERT,
    "WaveNet": WaveNet,
    "ConvRecognizer": ConvRecognizer,
    "BLSTMRecognizer": BLSTMRecognizer,
    "EiplSARNN": EiplSARNN,
    "EiplCNNRNN": EiplCNNRNN,
    "EiplLSTM": EiplLSTM,
    "EiplMTRNN": EiplMTRNN,
    "EiplCAE": EiplCAE,
}

__all__ = [
    "AE",
    "BERT",
    "CNNRNN",
    "CVAE",
    "GPT",
    "LSTMAE",
    "LSTMVAE",
    "MODELS",
    "MTRNN",
    "MVAE",
    "SARNN",
    "SVG",
    "VAE",
    "BLSTMRecognizer",
    "ConvRecognizer",
    "EiplCAE",
    "EiplCNNRNN",
    "EiplLSTM",
    "EiplMTRNN",
    "EiplSARNN",
    "Forecaster",
    "JointRNN",
    "Seq2Seq",
    "SequenceModel",
    "State",
    "Streams",
    "Transformer",
    "WaveNet",
    "WindowAE",
]
