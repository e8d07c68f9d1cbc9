# SPDX-License-Identifier: Apache-2.0
"""Networks that MotionDEQ is compared with: same features, layer, decoder, data; no fixed point.

Both are trained by ordinary backpropagation through everything they did.
    EqMotionStyle   four unshared layers, from G = X_G, H = X_H; as in EqMotion
                    there is neither injection nor norm
    ESL8            one cell for eight stages, from F_DL(last frame); MotionDEQ's own module
The last layer of EqMotionStyle has no pattern update, whose output would be unused.
[MotionDEQ] trains ESL's intermediate stages on progressively smoothed targets; here every stage
has the true motion as target, since smoothing would be a second difference of the methods.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from motion_predictor_ros.checkpoint import Model, load_model
from motion_predictor_ros.config import from_mapping
from motion_predictor_ros.prediction.motion_deq.cell import (
    ACTING,
    Condition,
    EquivariantLayer,
    State,
)
from motion_predictor_ros.prediction.motion_deq.features import (
    EdgeCategories,
    GeometricFeatures,
    PatternFeatures,
    dct_matrix,
)
from motion_predictor_ros.prediction.motion_deq.layers import (
    Future,
    Mask,
    PairLinear,
    Past,
    centred,
    mix_channels,
)
from motion_predictor_ros.prediction.motion_deq.model import MotionDEQ, MotionDEQConfig
from motion_predictor_ros.training.losses import joint_error
from motion_predictor_ros.training.motion_deq import Learner
from motion_predictor_ros.training.recipe import MotionDEQRecipe

LAYERS, STAGES = 4, 8


class GeometryLayer(EquivariantLayer):
    """The layer without its pattern update."""

    def __init__(self, channels: int, patterns: int) -> None:
        super().__init__(channels, patterns)
        del self.message_out, self.update
        self.pair_in = PairLinear(patterns, channels, ACTING * patterns)

    def forward(self, state: State, condition: Condition) -> State:
        """Return the state after one round, its patterns as they were."""
        of_weight = self.pair_in(state.pattern, self.edges(state.geometry))
        return State(self.move(state, of_weight, condition), state.pattern)


class EqMotionStyle(nn.Module):
    """A stack of unshared layers on MotionDEQ's features."""

    inverse_dct: Tensor

    def __init__(self, config: MotionDEQConfig) -> None:
        super().__init__()
        self.config = config
        channels, patterns = config.channels, config.patterns
        self.geometric = GeometricFeatures(config.past, config.future, channels)
        self.patterns = PatternFeatures(config.past, config.joints, patterns)
        self.categories = EdgeCategories(channels, patterns, config.categories)
        layers = [EquivariantLayer(channels, patterns) for _ in range(LAYERS - 1)]
        self.layers = nn.ModuleList([*layers, GeometryLayer(channels, patterns)])
        self.out = nn.Linear(channels, config.future, bias=False)
        nn.init.uniform_(self.out.weight, -1e-2, 1e-2)
        inverse = dct_matrix(config.future).T.to(torch.get_default_dtype())
        self.register_buffer('inverse_dct', inverse, persistent=False)

    def stages(self, positions: Past) -> list[Future]:
        """Return the one prediction there is [m]."""
        geometry, velocity = self.geometric(positions)
        pattern = self.patterns(positions)
        category = self.categories(geometry, velocity, pattern)[:, :ACTING]
        state = State(geometry, pattern)
        # A layer reads velocity and category; the rest belongs to the injection.
        unused = geometry.new_ones(len(geometry))
        condition = Condition(geometry, pattern, velocity, category, unused)
        for layer in self.layers:
            assert isinstance(layer, EquivariantLayer)
            mixed_velocity = mix_channels(layer.velocity.weight, velocity)
            state = layer(state, replace(condition, velocity=mixed_velocity))
        coefficients = mix_channels(self.out.weight, centred(state.geometry))
        return [positions[:, -1:] + mix_channels(self.inverse_dct, coefficients)]

    def forward(self, positions: Past) -> Future:
        """Predict future positions [m]."""
        return self.stages(positions)[-1]


class ESL8(nn.Module):
    """MotionDEQ's cell, applied eight times instead of solved."""

    def __init__(self, config: MotionDEQConfig) -> None:
        super().__init__()
        self.config = config
        # The adapter corrects a state carried over from the last window; there is none here.
        self.model = MotionDEQ(replace(config, correction=False))

    def stages(self, positions: Past) -> list[Future]:
        """Return the predictions of all stages [m]."""
        condition, state = self.model.encode(positions), self.model.lift(positions)
        predictions = []
        for _ in range(STAGES):
            state = self.model.cell(state, condition)
            predictions.append(self.model.decode(state, positions[:, -1]))
        return predictions

    def forward(self, positions: Past) -> Future:
        """Predict future positions [m]."""
        return self.stages(positions)[-1]


UNROLLED: Mapping[str, type[EqMotionStyle] | type[ESL8]] = {
    'eqmotion_style': EqMotionStyle,
    'esl8': ESL8,
}
"""By the kind of weight file."""


class UnrolledLearner(Learner[EqMotionStyle | ESL8]):
    """A baseline and its loss: that of the last stage, plus the mean of the earlier ones'.

    Of the recipe's equilibrium only `horizon_power` is used.
    """

    def __init__(self, kind: str, recipe: MotionDEQRecipe, device: torch.device) -> None:
        super().__init__(UNROLLED[kind], recipe, device)
        self.kind = kind

    def accumulate_gradients(
        self,
        past: Past,
        target: Future,
        visible: Mask | None,
        generator: torch.Generator,
        index: int,
    ) -> dict[str, float]:
        """Accumulate the gradients of one batch; the mask is ignored."""
        *earlier, last = [
            (joint_error(predicted, target).mean(dim=(0, 2)) * self._weights).mean()
            for predicted in self.module.stages(past)
        ]
        stages = torch.stack(earlier).mean() if earlier else torch.zeros_like(last)
        (last + stages).backward()
        return {'loss': float(last.detach()), 'stages': float(stages.detach())}

    def predict(self, past: Past) -> tuple[Future, dict[str, Float[Tensor, ' batch']]]:
        """Predict; there is no solver to report on."""
        return self.module(past), {}


TrainedUnrolled = Model[EqMotionStyle | ESL8]


def load_unrolled(weights: str, kind: str, device: torch.device) -> TrainedUnrolled:
    """Load a baseline that `loop.train` has saved.

    Raises:
        CheckpointError: The file is missing, damaged, or does not describe a model of this kind.
    """

    def build(config: Mapping[str, Any]) -> EqMotionStyle | ESL8:
        return UNROLLED[kind](from_mapping(MotionDEQConfig, config)).float()

    return load_model(weights, kind, build, device)
