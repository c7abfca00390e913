"""Assessments, submissions and profiles of a simulated presentation."""

import numpy as np

from scale_assets.replay.world_model import sigmoid
from scale_assets.replay.world_simulation import NEVER, Students

BANKED_DAY = -1  # results carried over from an earlier attempt come the day before the start
EXAM_WEIGHT = 100.0

REGIONS = ("East Anglian Region", "London Region", "Scotland", "South Region", "Wales")
EDUCATION = ("No Formal quals", "Lower Than A Level", "A Level or Equivalent", "HE Qualification")
DEPRIVATION = np.array([*(f"{low}-{low + 10}%" for low in range(0, 100, 10)), None], object)
AGES = ("0-35", "35-55", "55<=")


def assessments_of(*, first_id: int, count: int, length_days: int) -> dict[str, np.ndarray]:
    """Equal assignments, due at equal distances, and an exam without a date."""
    due = np.linspace(length_days / (count + 1), length_days - 7, count).round()
    return {
        "id_assessment": first_id + np.arange(count + 1),
        "assessment_type": np.array(["TMA"] * count + ["Exam"]),
        "date": np.append(due, np.nan),
        "weight": np.append(np.full(count, 100.0 / count), EXAM_WEIGHT),
    }


def submissions_of(
    rng: np.random.Generator, students: Students, assessments: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Engaged students hand in more often and score higher; some days early, a few late."""
    dated = np.flatnonzero(~np.isnan(assessments["date"]))
    who, what = (grid.ravel() for grid in np.meshgrid(np.arange(len(students)), dated))
    trait = students.trait[who]
    day = assessments["date"][what].astype(np.int64) + 2 - rng.geometric(0.25, len(who))
    score = np.clip(np.round(68 + 10 * trait + rng.normal(0, 10, len(who))), 0, 100)
    score[rng.random(len(who)) < 0.005] = np.nan
    is_banked = (students.earlier_attempts[who] > 0) & (rng.random(len(who)) < 0.1)
    day = np.where(is_banked, BANKED_DAY, np.maximum(day, 0))
    submits = is_banked | (rng.random(len(who)) < sigmoid(1.5 + trait))
    submits &= (students.registered_day[who] <= day) & (day < students.unregistered_day[who])
    return {
        "id_assessment": assessments["id_assessment"][what[submits]],
        "id_student": students.student_id[who[submits]],
        "date_submitted": day[submits],
        "is_banked": is_banked[submits],
        "score": score[submits],
    }


def profiles_of(
    rng: np.random.Generator, students: Students, submissions: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Attributes that say nothing about the outcome, but for the earlier attempts."""
    count = len(students)
    return {
        "id_student": students.student_id,
        "gender": rng.choice(["F", "M"], count),
        "region": rng.choice(REGIONS, count),
        "highest_education": rng.choice(EDUCATION, count),
        "imd_band": rng.choice(DEPRIVATION, count),
        "age_band": rng.choice(AGES, count, p=[0.7, 0.28, 0.02]),
        "num_of_prev_attempts": students.earlier_attempts,
        "studied_credits": rng.choice([30, 60, 90, 120], count),
        "disability": rng.choice(["N", "Y"], count, p=[0.9, 0.1]),
        "final_result": _results(students, submissions),
    }


def _results(students: Students, submissions: dict[str, np.ndarray]) -> np.ndarray:
    """Withdrawn for whoever cancelled, else by the mean score."""
    order = np.argsort(students.student_id)
    who = order[np.searchsorted(students.student_id[order], submissions["id_student"])]
    scores = np.nan_to_num(submissions["score"])
    total = np.bincount(who, scores, minlength=len(students))
    mean = total / np.maximum(np.bincount(who, minlength=len(students)), 1)
    passed = np.where(mean >= 80, "Distinction", np.where(mean >= 45, "Pass", "Fail"))
    return np.where(students.unregistered_day != NEVER, "Withdrawn", passed)
