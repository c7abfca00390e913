-- What a registration had handed in, and what was due, by the end of each day, as far as it was
-- known then. One row per registration and described day.

with

days as (

    select * from {{ ref('int_registration_days') }}

),

changes as (

    select * from {{ ref('int_assessment_changes') }}

),

due_days as (

    select * from {{ ref('int_due_days') }}

),

running as (

    select
        days.registration_id,
        days.presentation_id,
        days.presentation_day,
        days.feature_time,
        days.is_described,
        greatest(
            days.state_received_at,
            coalesce(max(changes.received_at) over so_far, days.state_received_at)
        ) as known_at,
        coalesce(sum(changes.num_submitted) over so_far, 0) as num_submitted,
        coalesce(sum(changes.num_banked) over so_far, 0) as num_banked,
        coalesce(sum(changes.num_late) over so_far, 0) as num_late,
        coalesce(sum(changes.num_planned) over so_far, 0) as num_planned,
        coalesce(sum(changes.num_settled) over so_far, 0) as num_settled,
        coalesce(sum(changes.settled_weight) over so_far, 0) as settled_weight,
        sum(changes.num_scored) over so_far as num_scored,
        sum(changes.sum_score) over so_far as sum_score,
        min(changes.min_score) over so_far as min_score,
        last_value(changes.last_score ignore nulls) over so_far as last_score,
        sum(changes.num_timed) over so_far as num_timed,
        sum(changes.sum_days_early) over so_far as sum_days_early,
        max(changes.submitted_day) over so_far as submitted_day,
        max(changes.settled_due_day) over so_far as settled_due_day

    from days

    left join changes
        on
            days.registration_id = changes.registration_id
            and days.presentation_day = changes.change_day

    window so_far as (
        partition by days.registration_id
        order by days.presentation_day
        rows between unbounded preceding and current row
    )

)

select
    ---------- ids
    running.registration_id,

    ---------- timestamps (UTC)
    running.feature_time,
    running.known_at,

    ---------- attributes
    running.presentation_day,

    ---------- features
    cast(running.num_submitted as bigint) as num_submitted,
    cast(running.sum_score / nullif(running.num_scored, 0) as double) as mean_score,
    running.last_score,
    running.min_score,
    cast(due_days.num_due as bigint) as num_due,
    cast(due_days.num_due - running.num_settled as bigint) as num_missing,
    cast(due_days.due_weight - running.settled_weight as double) as missing_weight,
    cast(running.sum_days_early / nullif(running.num_timed, 0) as double) as mean_days_early,
    running.presentation_day - due_days.last_due_day as days_since_last_due,
    due_days.next_due_day - running.presentation_day as days_to_next_due,
    due_days.next_due_weight,
    running.presentation_day - running.submitted_day as days_since_last_submission,
    cast(running.num_banked as bigint) as num_banked,
    cast(running.num_late as bigint) as num_late,
    cast(running.num_planned - running.num_settled as bigint) as num_submitted_ahead,
    coalesce(running.settled_due_day, -10000) < due_days.last_due_day as is_last_due_missing

from running

inner join due_days
    on
        running.presentation_id = due_days.presentation_id
        and running.presentation_day = due_days.presentation_day

where running.is_described
