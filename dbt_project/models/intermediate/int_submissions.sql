-- The first known submission of each assessment, with its days counted from the presentation's
-- start. One row per registration and assessment.

with

submissions as (

    select * from {{ ref('stg_submissions') }}

),

presentations as (

    select * from {{ ref('stg_presentations') }}

),

assessments as (

    select * from {{ ref('stg_assessments') }}

),

with_days as (

    select
        submissions.registration_id,
        submissions.presentation_id,
        submissions.assessment_id,
        submissions.score,
        submissions.is_banked,
        submissions.received_at,
        assessments.weight,
        {{ day_number('presentations.starts_on', 'assessments.due_on') }} as due_day,
        {{ day_number('presentations.starts_on', 'submissions.submitted_on') }} as submitted_day,
        greatest(
            {{ day_number('presentations.starts_on', 'submissions.submitted_on') }},
            {{ known_day('presentations.starts_on', 'submissions.received_at') }}
        ) as known_day,
        row_number() over (
            partition by submissions.registration_id, submissions.assessment_id
            order by submissions.received_at, submissions.submitted_on, submissions.event_id
        ) as attempt

    from submissions

    inner join presentations on submissions.presentation_id = presentations.presentation_id

    left join assessments on submissions.assessment_id = assessments.assessment_id

)

select
    ---------- ids
    registration_id,
    presentation_id,
    assessment_id,

    ---------- attributes
    score,
    is_banked,
    weight,
    due_day,
    submitted_day,
    known_day,

    ---------- timestamps (UTC)
    received_at

from with_days

where attempt = 1
