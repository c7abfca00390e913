"""The laws of the synthetic world, known and so testable: who cancels, is active, opens what."""

import numpy as np

# Hazard of cancelling on a day from 0 on: the logit is the sum of weight x state. The state is
# what a feature could know at the end of the day before.
HAZARD = {
    "intercept": -7.8,
    "log1p_silent_days": 0.9,  # days since the last active day, or since registration; at most 28
    "active_days_7d": -0.4,  # active days among the last 7
    "earlier_attempts": 0.5,
}
MAX_SILENT_DAYS = 28
CANCELLED_BEFORE_START = 0.10  # share of registrations made early enough

# Activity: logit of being active on a day, from day OPENING_DAY on.
OPENING_DAY = -10
ACTIVITY_INTERCEPT = -0.7
TRAIT_WEIGHT = 1.2  # standard deviation of what sets students apart for good
MOOD_WEIGHT = 1.0  # standard deviation of what drifts
MOOD_MEMORY = 0.96  # autocorrelation of the drift from day to day
WEEKEND_WEIGHT = -0.5
MEAN_EXTRA_VISITS = 4.0

ACTIVITY_TYPES = ("homepage", "forumng", "oucontent", "quiz", "resource", "subpage", "url")
# How much more (or less) each group of students opens a type than the others do.
TASTES = np.array(
    [
        [1.0, 4.0, 1.0, 0.5, 0.5, 1.0, 0.5],  # talkers
        [1.0, 0.3, 4.0, 1.0, 1.0, 1.5, 0.5],  # readers
        [1.0, 0.5, 0.7, 5.0, 2.5, 1.0, 2.0],  # solvers
    ]
)
HOMEPAGE_POPULARITY = 12.0  # times an average site
IN_SEASON = 8.0  # times as likely while the site's weeks run


def daily_hazard(
    *, silent_days: np.ndarray, active_days_7d: np.ndarray, earlier_attempts: np.ndarray
) -> np.ndarray:
    """Probability of cancelling today, one per registration."""
    return sigmoid(
        HAZARD["intercept"]
        + HAZARD["log1p_silent_days"] * np.log1p(np.minimum(silent_days, MAX_SILENT_DAYS))
        + HAZARD["active_days_7d"] * active_days_7d
        + HAZARD["earlier_attempts"] * earlier_attempts
    )


def site_weights(
    *,
    group: int,
    presentation_day: int,
    popularity: np.ndarray,
    activity_type: np.ndarray,
    week_from: np.ndarray,
    week_to: np.ndarray,
) -> np.ndarray:
    """Probability that a visit of this group on this day opens each site; sums to 1.

    ``activity_type`` indexes ACTIVITY_TYPES; weeks are NaN for sites without a season.
    """
    week = presentation_day // 7
    in_season = (week_from <= week) & (week <= week_to)  # false for NaN
    weights = popularity * TASTES[group, activity_type] * np.where(in_season, IN_SEASON, 1.0)
    shares: np.ndarray = weights / weights.sum()
    return shares


def sigmoid(logits: np.ndarray) -> np.ndarray:
    probabilities: np.ndarray = 1.0 / (1.0 + np.exp(-logits))
    return probabilities
