-- By how much each assessment sum moves on a day. A submission counts from when it is known; it
-- settles its due date then too, or on the due day if that is later.
-- One row per registration and change_day.

with

submissions as (

    select * from {{ ref('int_submissions') }}

),

first_days as (

    select
        registration_id,
        min(presentation_day) as first_day

    from {{ ref('int_registration_days') }}

    group by 1

),

-- Of the scores that become known together the one submitted last is the last score.
ranked as (

    select
        *,
        row_number() over (
            partition by registration_id, known_day, score is null
            order by submitted_day desc, due_day desc, assessment_id desc
        ) as newest

    from submissions

),

submitted as (

    select
        registration_id,
        known_day as change_day,
        count(*) as num_submitted,
        sum(case when is_banked then 1 else 0 end) as num_banked,
        sum(case when submitted_day > due_day then 1 else 0 end) as num_late,
        count(due_day) as num_planned,
        count(score) as num_scored,
        sum(score) as sum_score,
        min(score) as min_score,
        max(case when newest = 1 then score end) as last_score,
        count(case when not is_banked then due_day end) as num_timed,
        sum(case when not is_banked then due_day - submitted_day end) as sum_days_early,
        max(submitted_day) as submitted_day,
        0 as num_settled,
        cast(0 as double) as settled_weight,
        cast(null as integer) as settled_due_day,
        max(received_at) as received_at

    from ranked

    group by 1, 2

),

settled as (

    select
        registration_id,
        greatest(known_day, due_day) as change_day,
        0 as num_submitted,
        0 as num_banked,
        0 as num_late,
        0 as num_planned,
        0 as num_scored,
        cast(null as double) as sum_score,
        cast(null as double) as min_score,
        cast(null as double) as last_score,
        0 as num_timed,
        cast(null as integer) as sum_days_early,
        cast(null as integer) as submitted_day,
        count(*) as num_settled,
        sum(weight) as settled_weight,
        max(due_day) as settled_due_day,
        max(received_at) as received_at

    from submissions

    where due_day is not null

    group by 1, 2

),

moves as (

    select * from submitted
    union all
    select * from settled

)

select
    ---------- ids
    moves.registration_id,
    greatest(moves.change_day, first_days.first_day) as change_day,

    ---------- measures
    cast(sum(moves.num_submitted) as bigint) as num_submitted,
    cast(sum(moves.num_banked) as bigint) as num_banked,
    cast(sum(moves.num_late) as bigint) as num_late,
    cast(sum(moves.num_planned) as bigint) as num_planned,
    cast(sum(moves.num_scored) as bigint) as num_scored,
    sum(moves.sum_score) as sum_score,
    min(moves.min_score) as min_score,
    -- Only days before the first described one share a change_day: the highest stands for them.
    max(moves.last_score) as last_score,
    cast(sum(moves.num_timed) as bigint) as num_timed,
    cast(sum(moves.sum_days_early) as bigint) as sum_days_early,
    max(moves.submitted_day) as submitted_day,
    cast(sum(moves.num_settled) as bigint) as num_settled,
    sum(moves.settled_weight) as settled_weight,
    max(moves.settled_due_day) as settled_due_day,

    ---------- timestamps (UTC)
    max(moves.received_at) as received_at

from moves

inner join first_days on moves.registration_id = first_days.registration_id

group by 1, 2
