-- What the plan of assessments says at the end of each day: what was due by then, what comes
-- next. One row per presentation and day.

with

presentations as (

    select * from {{ ref('stg_presentations') }}

),

assessments as (

    select
        assessments.presentation_id,
        assessments.weight,
        {{ day_number('presentations.starts_on', 'assessments.due_on') }} as due_day

    from {{ ref('stg_assessments') }} as assessments

    inner join presentations on assessments.presentation_id = presentations.presentation_id

    where assessments.due_on is not null

),

days as (

    select
        presentation_id,
        {{ each_number(var('first_described_day'), 'length_days') }} as presentation_day

    from presentations

),

summed as (

    select
        days.presentation_id,
        days.presentation_day,
        count(case when assessments.due_day <= days.presentation_day then 1 end) as num_due,
        sum(
            case when assessments.due_day <= days.presentation_day then assessments.weight else 0 end
        ) as due_weight,
        max(
            case when assessments.due_day <= days.presentation_day then assessments.due_day end
        ) as last_due_day,
        min(
            case when assessments.due_day > days.presentation_day then assessments.due_day end
        ) as next_due_day

    from days

    left join assessments on days.presentation_id = assessments.presentation_id

    group by 1, 2

),

weights as (

    select
        presentation_id,
        due_day,
        sum(weight) as weight

    from assessments

    group by 1, 2

)

select
    ---------- ids
    summed.presentation_id,
    summed.presentation_day,

    ---------- attributes
    summed.num_due,
    summed.due_weight,
    summed.last_due_day,
    summed.next_due_day,
    weights.weight as next_due_weight

from summed

left join weights
    on
        summed.presentation_id = weights.presentation_id
        and summed.next_due_day = weights.due_day
