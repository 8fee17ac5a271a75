"""What models of the last W values of a series share: the state that holds them, the windows they are cut into for
training, and the LSTMs that read and write a window.

Letters: B series, T steps, C channels, W values of a window, N windows of a series, Z numbers of a code.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

State = dict[str, Tensor]


def beginning(batch_size: int, window: int, channels: int, like: Tensor) -> State:
    """The state before the first value: `window` [B, W, C], of which `seen` [B, 1] were values (W at most)."""
    return {"window": like.new_zeros(batch_size, window, channels), "seen": like.new_zeros(batch_size, 1)}


def slide(values: Tensor, state: State) -> tuple[Tensor, State]:
    """Values [B, T, C] after those of the state: for each the window that ends with it, [B, T, W, C], and the state
    after them. Before the first value the series is taken to have stood at it."""
    before = torch.where(state["seen"][..., None] > 0, state["window"], values[:, :1])
    window = before.shape[1]
    line = torch.cat((before, values), 1)
    windows = line[:, 1:].unfold(1, window, 1).transpose(2, 3)  # a view
    return windows, {"window": line[:, -window:], "seen": (state["seen"] + values.shape[1]).clamp_max(window)}


@dataclass(frozen=True)
class Tiles:
    """A sequence cut into windows side by side, the last of which ends where the sequence does."""

    windows: Tensor
    """[B, N, W, C]."""
    tile: Tensor
    """The window each step counts in, int64 [B, T]."""
    place: Tensor
    """Its place in that window, int64 [B, T]."""

    def steps(self, of_values: Tensor) -> Tensor:
        """What is known of each value of the windows, [B, N, W], of each step [B, T]."""
        return of_values.flatten(1).gather(1, self.tile * of_values.shape[2] + self.place)

    def whole(self, of_windows: Tensor) -> Tensor:
        """What is known of each window, [B, N, Z], of each step [B, T, Z]: that of the window it counts in."""
        return of_windows.gather(1, self.tile[..., None].expand(-1, -1, of_windows.shape[2]))


def tiles(values: Tensor, mask: Tensor, window: int) -> Tiles:
    """Values [B, T, C], the first of which are real by `mask` [B, T]: the fewest windows that hold every real step.

    A sequence as long as the window is one window, and nothing is computed twice. Where the length is no multiple, two
    windows overlap at the beginning, and each step counts once. A sequence shorter than the window is filled up as
    `slide` does. Padding is in no window.
    """
    steps = mask.shape[1]
    length = mask.sum(1, keepdim=True).long().clamp_min(1)  # [B, 1]
    number = torch.arange(-(-steps // window), device=values.device)  # [N], from the end
    first = torch.maximum(length - window * (number + 1), (length - window).clamp_max(0))  # [B, N]
    within = torch.arange(window, device=values.device)
    places = (first[..., None] + within).clamp_min(0)  # [B, N, W]
    rows = torch.arange(len(values), device=values.device)[:, None, None]
    step = torch.arange(steps, device=values.device)
    tile = ((length - 1 - step).clamp_min(0)) // window  # [B, T]; padding counts nowhere, but has to point somewhere
    place = (step - first.gather(1, tile)).clamp_max(window - 1)
    return Tiles(values[rows, places], tile, place)


class WindowReader(nn.Module):
    """Windows [..., W, C] -> [..., out]: an LSTM, and a linear layer on what it remembers in the end."""

    def __init__(self, channels: int, hidden: int, out: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, hidden, batch_first=True)
        self.out = nn.Linear(hidden, out)

    def forward(self, windows: Tensor) -> Tensor:
        _, (h, _) = self.lstm(windows.flatten(0, -3))
        return self.out(h[0]).unflatten(0, windows.shape[:-2])


class WindowWriter(nn.Module):
    """Codes [..., Z] -> windows [..., W, C]: an LSTM that reads the code at every step and writes the last value first
    (Srivastava et al. 2015), when it has the least to remember."""

    def __init__(self, latent: int, hidden: int, channels: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(latent, hidden, batch_first=True)
        self.out = nn.Linear(hidden, channels)

    def forward(self, codes: Tensor, window: int) -> Tensor:
        """The last `window` values; of one value alone it takes one step."""
        read = codes.flatten(0, -2)[:, None].expand(-1, window, -1)
        hidden, _ = self.lstm(read)
        return self.out(hidden).flip(1).unflatten(0, codes.shape[:-1])
