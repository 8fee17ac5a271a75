"""SARNN: spatial attention with a recurrent network (Ichiwara, Ito, Yamamoto, Mori, Ogata: "Contact-Rich
Manipulation of a Flexible Object based on Deep Predictive Learning using Vision and Tactility", ICRA 2022).

Reads the camera picture and the joints, predicts the next picture, the next joints and where to look next.
One branch finds K points in the picture and is remembered by an LSTM together with the joints; the other keeps what
the picture looks like, and the predicted points choose which of it the decoder may use. Only the LSTM has a memory:
the convolutions run over all B*T frames at once.

    sakiyomi train pick --model.points 5 --model.hidden 50
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from sakiyomi.data.windows import Batch
from sakiyomi.layers.chunks import convolved, in_chunks, in_parts
from sakiyomi.layers.spatial import InverseSpatialSoftmax, SpatialSoftmax
from sakiyomi.models.base import SequenceModel, State, Streams, expect, one_step, squared_error
from sakiyomi.schedules import Progress


class SARNN(SequenceModel):
    """Streams: `image` [.., 3, H, W] in 0..1 and `joints` [.., J]. Predictions add `points`, where it means to look
    at the next step, and `attention`, where it looks now: both [.., K, 2], x and y in 0..1 of the picture's inner
    (H - 6) x (W - 6) cells (`to_picture` converts)."""

    inputs = outputs = ("image", "joints")

    @dataclass(frozen=True)
    class Config:
        joints: int = 8
        """Number of joints, J."""
        height: int = 64
        """Height of the pictures."""
        width: int = 64
        """Width of the pictures."""
        points: int = 5
        """Attention points, K."""
        hidden: int = 50
        """Units of the LSTM."""
        temperature: float | None = 1e-4
        """Of the spatial softmax; None learns it, starting at 1."""
        heatmap_size: float = 0.1
        """Spread of the heat around a predicted point, in squared picture widths."""
        image_loss_fraction: float = 1.0
        """Share of the steps whose picture is decoded in training, drawn anew each step. The picture branch has no
        memory, so a share of it gives the same gradient on average."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.shapes = {"image": (3, config.height, config.width), "joints": (config.joints,)}
        height, width, k = config.height - 6, config.width - 6, config.points
        self.position_encoder = _encoder(k)
        self.image_encoder = _encoder(k)
        self.spatial_softmax = SpatialSoftmax(height, width, config.temperature)
        self.heatmap = InverseSpatialSoftmax(height, width, config.heatmap_size)
        self.lstm = nn.LSTM(2 * k + config.joints, config.hidden, batch_first=True)
        self.joint_head = nn.Sequential(nn.Linear(config.hidden, config.joints), nn.LeakyReLU(0.3))
        self.point_head = nn.Sequential(nn.Linear(config.hidden, 2 * k), nn.LeakyReLU(0.3))
        self.decoder = nn.Sequential(
            *(nn.ConvTranspose2d(k, 32, 3), nn.LeakyReLU(0.3, inplace=True)),
            *(nn.ConvTranspose2d(32, 16, 3), nn.LeakyReLU(0.3, inplace=True)),
            *(nn.ConvTranspose2d(16, 3, 3), nn.LeakyReLU(0.3, inplace=True)),
        )
        for name, parameter in self.named_parameters():
            if "weight_hh" in name:
                nn.init.orthogonal_(parameter)
            elif parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)
            elif "temperature" not in name:
                nn.init.zeros_(parameter)

    def initial(self, batch_size: int) -> State:
        zeros = next(self.parameters()).new_zeros(batch_size, self.config.hidden)
        return {"h": zeros, "c": zeros}

    def step(self, observation: Streams, state: State) -> tuple[Streams, State]:
        return one_step(self, observation, state)

    def unroll(self, observations: Streams, state: State | None = None) -> tuple[Streams, State]:
        predictions, state = self._look_ahead(observations, state)
        images = observations["image"]
        decoded = self._decode(images.flatten(0, 1), predictions["points"].flatten(0, 1))
        return {"image": decoded.unflatten(0, images.shape[:2]), **predictions}, state

    def loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """`image`, `joints`, and `points`: the points predicted at t against those found at t + 1. Both networks
        receive the gradient of `points`; the last step has no successor, and 0 there."""
        predictions, _ = self._look_ahead(batch.inputs, None)
        ahead = squared_error(predictions["points"][:, :-1], predictions["attention"][:, 1:])
        # A step whose successor is padding has nothing to be compared with either.
        points = functional.pad(ahead * batch.mask[:, 1:], (0, 1))
        return {
            "image": self._image_loss(batch, predictions["points"], progress),
            "joints": squared_error(predictions["joints"], batch.targets["joints"]),
            "points": points,
        }

    def to_picture(self, points: Tensor) -> Tensor:
        """Points in 0..1 of the maps -> 0..1 of the picture: a map's cell is the centre of a 7 x 7 patch."""
        size = points.new_tensor([self.config.width, self.config.height])
        return (points * (size - 7) + 3.5) / size

    def _look_ahead(self, observations: Streams, state: State | None) -> tuple[Streams, State]:
        """Everything but the pictures."""
        c = self.config
        expect(observations, self.shapes)
        images, joints = observations["image"], observations["joints"]
        b, t = images.shape[:2]
        state = self.initial(b) if state is None else state
        found = [self._find(frames) for frames in in_parts(images.flatten(0, 1))]
        attention = torch.cat(found).unflatten(0, (b, t))
        read = torch.cat((attention.flatten(2), joints), -1)
        hidden, (h, cell) = self.lstm(read, (state["h"][None], state["c"][None]))
        predictions = {
            "joints": self.joint_head(hidden),
            "points": self.point_head(hidden).unflatten(-1, (c.points, 2)),
            "attention": attention,
        }
        return predictions, {"h": h[0], "c": cell[0]}

    def _find(self, images: Tensor) -> Tensor:
        """Frames [N, 3, H, W] -> where it looks, [N, K, 2]."""
        images = images.contiguous(memory_format=torch.channels_last)  # twice as fast on a CPU
        return self.spatial_softmax(convolved(self.position_encoder, images, keep=False))

    def _decode(self, images: Tensor, points: Tensor) -> Tensor:
        """Frames [N, 3, H, W] and points [N, K, 2] -> next frames [N, 3, H, W]."""
        images = images.contiguous(memory_format=torch.channels_last)
        return convolved(self.decoder, convolved(self.image_encoder, images) * self.heatmap(points))

    def _errors(self, points: Tensor, images: Tensor, targets: Tensor) -> Tensor:
        """Mean squared error of each decoded frame, [N]."""
        return (self._decode(images, points) - targets).square().flatten(1).mean(1)

    def _image_loss(self, batch: Batch, points: Tensor, progress: Progress) -> Tensor:
        """[B, T]; with a fraction, 0 on the steps left out and scaled up on the others: the same on average."""
        b, t = batch.mask.shape
        branch = (self.image_encoder, self.decoder)
        codes, *given = (
            values.flatten(0, 1) for values in (points, batch.inputs["image"], batch.targets["image"], batch.mask)
        )
        chosen = max(1, round(b * t * self.config.image_loss_fraction))
        if not progress.training or chosen == b * t:
            *given, mask = given
            return in_chunks(self._errors, branch, codes, tuple(given), mask).unflatten(0, (b, t))
        picks = torch.randperm(b * t, generator=progress.generator, device=points.device)[:chosen]
        *given, mask = (values[picks] for values in given)
        errors = in_chunks(self._errors, branch, codes[picks], tuple(given), mask)
        return errors.new_zeros(b * t).index_put((picks,), errors * (b * t / chosen)).unflatten(0, (b, t))


def _encoder(out: int) -> nn.Sequential:
    """Three 3x3 convolutions without padding: [N, 3, H, W] -> [N, out, H - 6, W - 6]."""
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3), nn.LeakyReLU(0.3, inplace=True)),
        *(nn.Conv2d(16, 32, 3), nn.LeakyReLU(0.3, inplace=True)),
        *(nn.Conv2d(32, out, 3), nn.LeakyReLU(0.3, inplace=True)),
    )
