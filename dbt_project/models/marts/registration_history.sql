-- What a registration has opened, as of its last described day: parallel lists with one entry per
-- distinct site and day, oldest first, only the newest (var max_history_length).
-- One row per registration.

with

latest_days as (

    select
        registration_id,
        presentation_id,
        max(presentation_day) as last_day,
        max(feature_time) as feature_time,
        max(state_received_at) as state_received_at

    from {{ ref('int_registration_days') }}

    where is_described

    group by 1, 2

),

visits as (

    select
        visits.registration_id,
        visits.site_id,
        visits.event_day,
        min(visits.first_order) as first_order,
        max(visits.received_at) as received_at

    from {{ ref('int_site_visits') }} as visits

    inner join latest_days
        on
            visits.registration_id = latest_days.registration_id
            and visits.known_day <= latest_days.last_day

    group by 1, 2, 3

),

ranked as (

    select
        *,
        row_number() over (
            partition by registration_id
            order by event_day desc, first_order desc, site_id desc
        ) as recency

    from visits

),

histories as (

    select
        registration_id,
        max(received_at) as received_at,
        {{ list_of('site_id', 'recency desc') }} as site_ids,
        {{ list_of('cast(event_day as bigint)', 'recency desc') }} as days

    from ranked

    where recency <= {{ var('max_history_length') }}

    group by 1

)

select
    ---------- ids
    latest_days.registration_id,
    latest_days.presentation_id,

    ---------- timestamps (UTC)
    latest_days.feature_time,
    greatest(
        latest_days.state_received_at,
        coalesce(histories.received_at, latest_days.state_received_at)
    ) as known_at,

    ---------- features
    coalesce(histories.site_ids, []) as site_ids,
    coalesce(histories.days, []) as days

from latest_days

left join histories on latest_days.registration_id = histories.registration_id
