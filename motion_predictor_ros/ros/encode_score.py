# SPDX-License-Identifier: Apache-2.0
"""Write how predictions turned out: LiveScore and a diagnostic status."""

from array import array

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from jaxtyping import Float64

from motion_predictor_ros.msg import Coverage as CoverageMessage
from motion_predictor_ros.msg import LiveScore as LiveScoreMessage
from motion_predictor_ros.ros.encode import encode_header
from motion_predictor_ros.scoring.live_score import LiveScore
from motion_predictor_ros.scoring.metrics import report_frames
from motion_predictor_ros.scoring.tally import Coverage


def score_to_ros(score: LiveScore, memory_s: float) -> LiveScoreMessage:
    """Write a score; stamp and frame are those of the newest observation."""
    coverages = [_coverage('volume', end_s, each) for end_s, each in score.volumes]
    if score.covariances is not None:
        coverages.append(_coverage('covariance', 0.0, score.covariances))
    return LiveScoreMessage(
        header=encode_header(score.stamp_ns, score.frame_id),
        memory=memory_s,
        coverages=coverages,
        horizons=_floats(score.horizons_s),
        mpjpe=_floats(score.mpjpe_m),
        future_horizons=_floats(score.future_horizons_s),
        log_densities=_floats(score.log_density),
        predictions=score.predictions,
        futures=score.futures,
        unscored=score.unscored.total(),
        fallbacks=score.fallbacks,
        warning_text=score.warning_text,
    )


def score_to_status(score: LiveScore, name: str, dropped: dict[str, int]) -> DiagnosticStatus:
    """Write a status: WARN if a promise is kept less often than chance explains, or not judged.

    Args:
        dropped: Messages that could not be read, by reason.
    """
    scored = bool(score.predictions or score.futures or score.volumes)
    message = score.warning_text or ('as promised' if scored else 'nothing scored yet')
    values = {
        'predictions': str(score.predictions),
        'futures': str(score.futures),
        'fallbacks': f'{score.fallbacks:.3f}',
    }
    for end_s, each in score.volumes:
        values |= _figures(f'volume.{end_s:g}s.{100 * each.level:g}', each)
    if score.covariances is not None:
        values |= _figures(f'covariance.{100 * score.covariances.level:g}', score.covariances)
    for ms, frame in report_frames(score.horizons_s).items() if score.predictions else ():
        values[f'mpjpe_mm.{ms}'] = f'{1000 * score.mpjpe_m[frame]:.1f}'
    for end_s, density in zip(score.future_horizons_s, score.log_density, strict=True):
        values[f'log_density.{1000 * end_s:.0f}'] = f'{density:.2f}'
    values |= {f'unscored.{why}': str(count) for why, count in sorted(score.unscored.items())}
    values |= {f'drops.{why}': str(count) for why, count in sorted(dropped.items())}
    return DiagnosticStatus(
        level=DiagnosticStatus.OK if scored and not score.warning_text else DiagnosticStatus.WARN,
        name=name,
        message=message,
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )


def _coverage(what: str, horizon_s: float, found: Coverage) -> CoverageMessage:
    return CoverageMessage(
        of=what,
        horizon=horizon_s,
        level=found.level,
        share=found.share,
        windows=found.windows,
        independent=found.independent,
        alarm_at=found.alarm_at,
        low=found.is_low,
    )


def _figures(name: str, found: Coverage) -> dict[str, str]:
    return {
        f'{name}.share': f'{found.share:.3f}',
        f'{name}.windows': str(found.windows),
        f'{name}.independent': str(found.independent),
        f'{name}.alarm_at': f'{found.alarm_at:.3f}',
    }


def _floats(values: Float64[np.ndarray, ' some']) -> 'array[float]':
    return array('f', values.tolist())
