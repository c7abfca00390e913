"""Simulates one presentation of the synthetic world, day by day, all students at once."""

from dataclasses import dataclass

import numpy as np

from scale_assets.replay import world_model as model

NEVER = np.iinfo(np.int64).max
HAZARD_EVERY_DAYS = 7  # how often the true hazard is recorded


@dataclass
class Students:
    """One entry per registration of the presentation."""

    student_id: np.ndarray
    registered_day: np.ndarray
    unregistered_day: np.ndarray  # NEVER where not cancelled
    earlier_attempts: np.ndarray
    taste_group: np.ndarray
    trait: np.ndarray

    def __len__(self) -> int:
        return len(self.student_id)


@dataclass(frozen=True)
class Sites:
    """One entry per site; weeks are NaN for sites without a season."""

    site_id: np.ndarray
    activity_type: np.ndarray  # index into ACTIVITY_TYPES
    popularity: np.ndarray
    week_from: np.ndarray
    week_to: np.ndarray


@dataclass(frozen=True)
class History:
    """What happened: columns of click records, and of the true hazards."""

    clicks: dict[str, np.ndarray]
    hazards: dict[str, np.ndarray]


def draw_students(rng: np.random.Generator, student_id: np.ndarray) -> Students:
    """Registrations before anything happened, some already cancelled before day 0."""
    count = len(student_id)
    early = -np.ceil(rng.gamma(2.0, 30.0, count)).astype(np.int64)
    late = rng.integers(0, 11, count)
    registered = np.where(rng.random(count) < 0.04, late, np.maximum(early, -250))
    leaves_early = (rng.random(count) < model.CANCELLED_BEFORE_START) & (registered < -1)
    leaving_day = np.ceil(registered * rng.random(count)).astype(np.int64) - 1
    return Students(
        student_id=student_id,
        registered_day=registered,
        unregistered_day=np.where(leaves_early, np.maximum(leaving_day, registered), NEVER),
        earlier_attempts=rng.poisson(0.2, count),
        taste_group=rng.integers(0, len(model.TASTES), count),
        trait=rng.standard_normal(count),
    )


def draw_sites(rng: np.random.Generator, site_id: np.ndarray, *, num_weeks: int) -> Sites:
    """A home page, sites open all the time, and as many again with a season."""
    count = len(site_id)
    activity_type = rng.integers(1, len(model.ACTIVITY_TYPES), count)
    popularity = rng.gamma(0.7, 1.0, count) + 0.01
    activity_type[0], popularity[0] = 0, model.HOMEPAGE_POPULARITY
    has_season = rng.random(count) < 0.5
    has_season[0] = False
    week_from = np.where(has_season, rng.integers(0, num_weeks, count), np.nan)
    return Sites(site_id, activity_type, popularity, week_from, week_from + 1)


def simulate(
    rng: np.random.Generator, students: Students, sites: Sites, *, length_days: int
) -> History:
    """Live through the presentation; sets ``unregistered_day`` of those who cancel."""
    mood = rng.standard_normal(len(students))
    last_active = students.registered_day.copy()
    was_active = np.zeros((7, len(students)), bool)  # a ring of the last seven days
    clicks: list[dict[str, np.ndarray]] = []
    hazards: list[dict[str, np.ndarray]] = []
    for day in range(model.OPENING_DAY, length_days):
        if day >= 0:
            hazards += _cancel(rng, students, day, last_active, was_active)
        present = (students.registered_day <= day) & (day < students.unregistered_day)
        mood = model.MOOD_MEMORY * mood
        mood += np.sqrt(1 - model.MOOD_MEMORY**2) * rng.standard_normal(len(students))
        logit = model.ACTIVITY_INTERCEPT + model.TRAIT_WEIGHT * students.trait
        logit += model.MOOD_WEIGHT * mood + model.WEEKEND_WEIGHT * (day % 7 >= 5)
        active = present & (rng.random(len(students)) < model.sigmoid(logit))
        last_active[active] = day
        was_active[day % 7] = active
        clicks.append(_visits(rng, students, sites, np.flatnonzero(active), day))
    return History(clicks=_stack(clicks), hazards=_stack(hazards))


def _cancel(
    rng: np.random.Generator,
    students: Students,
    day: int,
    last_active: np.ndarray,
    was_active: np.ndarray,
) -> list[dict[str, np.ndarray]]:
    """Decide who cancels today, from what was known at the end of yesterday."""
    at_risk = (students.registered_day < day) & (students.unregistered_day == NEVER)
    hazard = model.daily_hazard(
        silent_days=np.maximum(day - last_active, 0),  # negative before the registration
        active_days_7d=was_active.sum(axis=0),
        earlier_attempts=students.earlier_attempts,
    )
    cancels = at_risk & (rng.random(len(students)) < hazard)
    students.unregistered_day[cancels] = day
    if day % HAZARD_EVERY_DAYS:
        return []
    who = np.flatnonzero(at_risk)
    return [
        {
            "student_id": students.student_id[who],
            "presentation_day": np.full(len(who), day),
            "hazard": hazard[who],
        }
    ]


def _visits(
    rng: np.random.Generator, students: Students, sites: Sites, active: np.ndarray, day: int
) -> dict[str, np.ndarray]:
    """Each active student opens some sites, after the taste of their group."""
    visits = np.repeat(active, 1 + rng.poisson(model.MEAN_EXTRA_VISITS, len(active)))
    opened = np.empty(len(visits), np.int64)
    draws = rng.random(len(visits))
    for group in range(len(model.TASTES)):
        weights = model.site_weights(
            group=group,
            presentation_day=day,
            popularity=sites.popularity,
            activity_type=sites.activity_type,
            week_from=sites.week_from,
            week_to=sites.week_to,
        )
        mine = students.taste_group[visits] == group
        upper = np.cumsum(weights)
        opened[mine] = np.searchsorted(upper / upper[-1], draws[mine], side="right")
    return {
        "id_student": students.student_id[visits],
        "id_site": sites.site_id[opened],
        "date": np.full(len(visits), day),
        "sum_click": rng.geometric(0.4, len(visits)),
    }


def _stack(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
