"""One view on the prediction networks of both ESPnet2 transducer tasks."""

from dataclasses import dataclass

import torch

RecurrentState = tuple[torch.Tensor, torch.Tensor | None] | None


@dataclass
class Prediction:
    """What the prediction network says after some labels, for B hypotheses.

    Attributes:
        out: output, already projected into the joint space ``(B, J)``.
        state: recurrent state ``((N, B, D), (N, B, D) or None)``, or ``None`` for a stateless network.
    """

    out: torch.Tensor
    state: RecurrentState

    def select(self, rows: torch.Tensor) -> "Prediction":
        """Return the hypotheses ``rows`` ``(K,)``."""
        return Prediction(self.out[rows], _map_state(lambda x: x.index_select(1, rows), self.state))

    def put(self, rows: torch.Tensor, other: "Prediction") -> "Prediction":
        """Return a copy whose hypotheses ``rows`` ``(K,)`` are those of ``other`` (K of them)."""
        state = self.state
        if state is not None:
            state = tuple(
                None if mine is None else mine.index_copy(1, rows, theirs) for mine, theirs in zip(state, other.state)
            )
        return Prediction(self.out.index_copy(0, rows, other.out), state)

    @staticmethod
    def stack(predictions: "list[Prediction]") -> "Prediction":
        """Join hypotheses of several predictions into one batch."""
        state = predictions[0].state
        if state is not None:
            state = tuple(
                None if part is None else torch.cat([p.state[i] for p in predictions], dim=1)
                for i, part in enumerate(state)
            )
        return Prediction(torch.cat([p.out for p in predictions]), state)


def _map_state(function, state: RecurrentState) -> RecurrentState:
    return None if state is None else tuple(None if part is None else function(part) for part in state)


class Predictor:
    """Prediction and joint network of a transducer, step by step.

    Works with ``TransducerDecoder``, ``RNNDecoder`` and ``StatelessDecoder`` and with any joint network made of
    ``lin_enc``, ``lin_dec`` and a call with ``no_projection`` (ESPnet2's ``JointNetwork``).

    Args:
        decoder: prediction network.
        joint_network: joint network.
        blank: index of the blank symbol, which also starts every label sequence.

    Raises:
        TypeError: the prediction network is neither stateless nor recurrent.
    """

    def __init__(self, decoder: torch.nn.Module, joint_network: torch.nn.Module, blank: int = 0) -> None:
        self.layers = _recurrent_layers(decoder)
        self.decoder = decoder
        self.joint_network = joint_network
        self.blank = blank

    @property
    def device(self) -> torch.device:
        return self.joint_network.lin_enc.weight.device

    def project(self, enc: torch.Tensor) -> torch.Tensor:
        """Map encoder frames ``(..., D)`` into the joint space ``(..., J)``."""
        return self.joint_network.lin_enc(enc.to(self.device))

    def start(self, batch_size: int) -> Prediction:
        """Return the predictions before the first label."""
        self.decoder.set_device(self.device)
        state = self.decoder.init_state(batch_size) if self.layers else None
        return self.step([self.blank] * batch_size, state)

    def step(self, labels: list[int], state: RecurrentState) -> Prediction:
        """Return the predictions after one more label for each of B hypotheses."""
        out = self.decoder.embed(torch.tensor(labels, device=self.device))
        if state is not None:
            out, state = _step_layers(self.layers, out, state)
        return Prediction(self.joint_network.lin_dec(out), state)

    def log_probs(self, enc: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """Return label log-probabilities ``(..., V)`` in float32 from projected ``enc`` and ``out`` ``(..., J)``."""
        return self.joint_network(enc, out, no_projection=True).float().log_softmax(-1)


def _recurrent_layers(decoder: torch.nn.Module) -> "list[torch.nn.LSTM | torch.nn.GRU]":
    """Return the layers of a recurrent prediction network, none for a stateless one."""
    if type(decoder).__name__ == "StatelessDecoder":
        return []
    for name in ("decoder", "rnn"):
        layers = getattr(decoder, name, None)
        if isinstance(layers, torch.nn.ModuleList) and all(
            isinstance(x, (torch.nn.LSTM, torch.nn.GRU)) for x in layers
        ):
            return list(layers)
    raise TypeError(
        f"{type(decoder).__name__} is not a transducer prediction network that this search can step: "
        "use an LSTM, GRU or stateless one"
    )


def _step_layers(
    layers: "list[torch.nn.LSTM | torch.nn.GRU]", x: torch.Tensor, state: RecurrentState
) -> tuple[torch.Tensor, RecurrentState]:
    """Run one step ``(B, D)`` of single-layer recurrent networks and return its output and the new state."""
    # nn.LSTM on a CPU rearranges its weights at every call, which for one step costs 10 to 20 times the step itself.
    hidden, cells = [], []
    for n, layer in enumerate(layers):
        weights = (layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0)
        if isinstance(layer, torch.nn.LSTM):
            x, cell = torch.lstm_cell(x, (state[0][n], state[1][n]), *weights)
            cells.append(cell)
        else:
            x = torch.gru_cell(x, state[0][n], *weights)
        hidden.append(x)
    return x, (torch.stack(hidden), torch.stack(cells) if cells else None)
