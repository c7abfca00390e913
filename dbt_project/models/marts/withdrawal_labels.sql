-- Will the registration be cancelled within 7 and 28 days? Asked at the end of every 7th day,
-- of the registrations known by then and not cancelled by then; unanswered (null) until the
-- clock has passed the horizon. One row per registration and label_time.

with

states as (

    select
        *,
        min(first_known_day) over (partition by registration_id) as registration_known_day,
        max(case when next_known_day is null then 1 else 0 end)
            over (partition by registration_id, received_at) as is_latest

    from {{ ref('int_registration_states') }}

),

presentations as (

    select * from {{ ref('stg_presentations') }}

),

clock as (

    select * from {{ ref('int_clock') }}

),

asked as (

    select
        states.registration_id,
        states.presentation_id,
        presentations.term,
        states.unregistered_day,
        states.registration_known_day,
        presentations.length_days,
        presentations.starts_on,
        {{ each_number(var('first_label_day'), var('last_label_day'), 7) }} as presentation_day

    from states

    inner join presentations on states.presentation_id = presentations.presentation_id

    where states.is_latest = 1 and states.is_present

),

timed as (

    select
        asked.*,
        clock.known_until,
        {{ day_end('asked.starts_on', 'asked.presentation_day') }} as label_time,
        {{ day_end('asked.starts_on', 'asked.presentation_day + 7') }} as answered_7d_at,
        {{ day_end('asked.starts_on', 'asked.presentation_day + 28') }} as answered_28d_at,
        coalesce(asked.unregistered_day, 10000) - asked.presentation_day as days_to_cancellation

    from asked

    cross join clock

)

select
    ---------- ids
    registration_id,
    presentation_id,

    ---------- timestamps (UTC)
    label_time,

    ---------- attributes
    term,
    presentation_day,

    ---------- labels
    case when answered_7d_at <= known_until then days_to_cancellation <= 7 end
        as cancelled_within_7d,
    case when answered_28d_at <= known_until then days_to_cancellation <= 28 end
        as cancelled_within_28d

from timed

where
    label_time <= known_until
    and registration_known_day <= presentation_day
    and presentation_day <= length_days
    and days_to_cancellation > 0
