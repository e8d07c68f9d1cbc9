# SPDX-License-Identifier: Apache-2.0
"""Encode live scores: LiveScore and a diagnostic status."""

from collections.abc import Mapping

from diagnostic_msgs.msg import DiagnosticStatus

from motion_predictor_ros.msg import Coverage as CoverageMessage
from motion_predictor_ros.msg import LiveScore as LiveScoreMessage
from motion_predictor_ros.ros.diagnostics import encode_status
from motion_predictor_ros.ros.encode import encode_header, float32s
from motion_predictor_ros.scoring.live_score import Coverage, LiveScore
from motion_predictor_ros.scoring.metrics import report_frames


def score_to_ros(score: LiveScore, memory_s: float) -> LiveScoreMessage:
    """Encode a score, with the stamp and frame of the newest observation."""
    coverages = [_coverage('volume', end_s, coverage) for end_s, coverage in score.volumes]
    if score.covariances is not None:
        coverages.append(_coverage('covariance', 0.0, score.covariances))
    return LiveScoreMessage(
        header=encode_header(score.stamp_ns, score.frame_id),
        memory=memory_s,
        coverages=coverages,
        horizons=float32s(score.horizons_s),
        mpjpe=float32s(score.mpjpe_m),
        future_horizons=float32s(score.future_horizons_s),
        log_densities=float32s(score.log_density),
        predictions=score.predictions,
        futures=score.futures,
        unscored=score.unscored.total(),
        fallbacks=score.fallbacks,
        warning_text=score.warning_text,
    )


def score_to_status(score: LiveScore, name: str, dropped: Mapping[str, int]) -> DiagnosticStatus:
    """Encode a status: WARN if coverage is lower than chance explains, or nothing is scored.

    Args:
        dropped: Messages that could not be decoded, by reason.
    """
    scored = bool(score.predictions or score.futures or score.volumes)
    message = score.warning_text or ('coverage as expected' if scored else 'nothing scored yet')
    values = {
        'predictions': str(score.predictions),
        'futures': str(score.futures),
        'fallbacks': f'{score.fallbacks:.3f}',
    }
    for end_s, coverage in score.volumes:
        values |= _figures(f'volume.{end_s:g}s.{100 * coverage.level:g}', coverage)
    if score.covariances is not None:
        values |= _figures(f'covariance.{100 * score.covariances.level:g}', score.covariances)
    for ms, frame in report_frames(score.horizons_s).items() if score.predictions else ():
        values[f'mpjpe_mm.{ms}'] = f'{1000 * score.mpjpe_m[frame]:.1f}'
    for end_s, density in zip(score.future_horizons_s, score.log_density, strict=True):
        values[f'log_density.{1000 * end_s:.0f}'] = f'{density:.2f}'
    values |= {
        f'unscored.{reason}': str(count) for reason, count in sorted(score.unscored.items())
    }
    values |= {f'drops.{reason}': str(count) for reason, count in sorted(dropped.items())}
    is_ok = scored and not score.warning_text
    return encode_status(
        DiagnosticStatus.OK if is_ok else DiagnosticStatus.WARN, name, message, values
    )


def _coverage(kind: str, horizon_s: float, coverage: Coverage) -> CoverageMessage:
    return CoverageMessage(
        of=kind,
        horizon=horizon_s,
        level=coverage.level,
        share=coverage.share,
        windows=coverage.windows,
        independent=coverage.independent,
        alarm_at=coverage.alarm_at,
        low=coverage.is_low,
    )


def _figures(name: str, coverage: Coverage) -> dict[str, str]:
    return {
        f'{name}.share': f'{coverage.share:.3f}',
        f'{name}.windows': str(coverage.windows),
        f'{name}.independent': str(coverage.independent),
        f'{name}.alarm_at': f'{coverage.alarm_at:.3f}',
    }
