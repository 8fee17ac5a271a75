"""EiplSARNN: a SARNN trained in EIPL with other numbers than ours, so that it runs here: pictures of another range than
0..1 inside the network, or one of the older versions of EIPL, whose activations had another slope, or whose heat was
cold at the points. With 0..1, 0.3 and heat at the points it is SARNN itself, and is imported as such.

    sakiyomi prepare eipl-model SARNN.pth --store data/grasp --out runs/grasp
    sakiyomi rollout grasp --recording test-00000
"""

from dataclasses import dataclass, replace

from torch import Tensor, nn

from sakiyomi.data.windows import Batch
from sakiyomi.layers.eipl import check_range, from_network, to_network
from sakiyomi.models.base import SequenceModel, State, Streams, expect, one_step
from sakiyomi.models.sarnn import SARNN
from sakiyomi.schedules import Progress


class EiplSARNN(SequenceModel):
    """Streams and predictions are those of SARNN."""

    inputs = outputs = ("image", "joints")

    @dataclass(frozen=True)
    class Config:
        joints: int = 8
        """Number of joints, J."""
        height: int = 128
        """Height of the pictures."""
        width: int = 128
        """Width of the pictures."""
        points: int = 5
        """Attention points, K."""
        hidden: int = 50
        """Units of the LSTM."""
        temperature: float | None = 1e-4
        """Of the spatial softmax; None learns it, starting at 1."""
        heatmap_size: float = 0.1
        """Spread of the heat around a predicted point, in squared picture widths."""
        slope: float = 0.3
        """Of LeakyReLU below 0; 0.01 in EIPL's first version."""
        cold_points: bool = False
        """Heat everywhere but at the points, as in some of EIPL's versions."""
        image_low: float = 0.0
        """What black is inside the network."""
        image_high: float = 1.0
        """What white is."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        check_range(config.image_low, config.image_high)
        c = self.config = config
        plain = SARNN.Config(c.joints, c.height, c.width, c.points, c.hidden, c.temperature, c.heatmap_size)
        self.network = SARNN(plain)
        self.shapes = self.network.shapes
        for module in self.network.modules():
            if isinstance(module, nn.LeakyReLU):
                module.negative_slope = config.slope
        if config.cold_points:
            self.network.heatmap = Cold(self.network.heatmap)  # pyright: ignore[reportAttributeAccessIssue]

    def initial(self, batch_size: int) -> State:
        return self.network.initial(batch_size)

    def step(self, observation: Streams, state: State) -> tuple[Streams, State]:
        return one_step(self, observation, state)

    def unroll(self, observations: Streams, state: State | None = None) -> tuple[Streams, State]:
        predictions, state = self.network.unroll(self._scaled(observations), state)
        c = self.config
        return {**predictions, "image": from_network(predictions["image"], c.image_low, c.image_high)}, state

    def loss(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """The losses of SARNN; that of the picture in the network's range."""
        scaled = replace(batch, inputs=self._scaled(batch.inputs), targets=self._scaled(batch.targets))
        return self.network.loss(scaled, progress)

    def to_picture(self, points: Tensor) -> Tensor:
        """Points in 0..1 of the maps -> 0..1 of the picture."""
        return self.network.to_picture(points)

    def _scaled(self, streams: Streams) -> Streams:
        expect(streams, self.shapes)
        return {**streams, "image": to_network(streams["image"], self.config.image_low, self.config.image_high)}


class Cold(nn.Module):
    """1 - heat."""

    def __init__(self, heat: nn.Module) -> None:
        super().__init__()
        self.heat = heat

    def forward(self, points: Tensor) -> Tensor:
        return 1 - self.heat(points)
