-- What became known together about one day of a registration: its clicks, its sessions, and the
-- sites that the day brings into each sliding window (enter_*) and that fall out with it
-- (leave_*, unless a newer visit to the same site is known by then).
-- One row per registration, event_day and known_day.

with

visits as (

    select * from {{ ref('int_site_visits') }}

),

click_days as (

    select
        registration_id,
        event_day,
        known_day,
        max(received_at) as received_at,
        sum(num_clicks) as clicks,
        sum(case when site_group = 'homepage' then num_clicks else 0 end) as clicks_homepage,
        sum(case when site_group = 'forum' then num_clicks else 0 end) as clicks_forum,
        sum(case when site_group = 'content' then num_clicks else 0 end) as clicks_content,
        sum(case when site_group = 'quiz' then num_clicks else 0 end) as clicks_quiz,
        sum(case when site_group = 'resource' then num_clicks else 0 end) as clicks_resource,
        sum(case when site_group = 'subpage' then num_clicks else 0 end) as clicks_subpage,
        sum(case when site_group = 'url' then num_clicks else 0 end) as clicks_url,
        sum(case when site_group = 'other' then num_clicks else 0 end) as clicks_other,
        count(case when reached_day is null then 1 end) as new_sites,
        count(
            case when is_newest and coalesce(reached_day + 7 <= known_day, true) then 1 end
        ) as enter_7d,
        count(
            case when is_newest and coalesce(extended_on_day >= event_day + 7, true) then 1 end
        ) as leave_7d,
        count(
            case when is_newest and coalesce(reached_day + 14 <= known_day, true) then 1 end
        ) as enter_14d,
        count(
            case when is_newest and coalesce(extended_on_day >= event_day + 14, true) then 1 end
        ) as leave_14d,
        count(
            case when is_newest and coalesce(reached_day + 28 <= known_day, true) then 1 end
        ) as enter_28d,
        count(
            case when is_newest and coalesce(extended_on_day >= event_day + 28, true) then 1 end
        ) as leave_28d

    from visits

    group by 1, 2, 3

),

-- A session counts from its first event to arrive: a later one that lengthens it moves nothing.
session_days as (

    select
        sessions.registration_id,
        {{ day_number('presentations.starts_on', 'sessions.session_date') }} as event_day,
        greatest(
            {{ day_number('presentations.starts_on', 'sessions.session_date') }},
            {{ known_day('presentations.starts_on', 'sessions.first_received_at') }}
        ) as known_day,
        max(sessions.first_received_at) as received_at,
        count(*) as sessions

    from {{ ref('stg_sessions') }} as sessions

    inner join {{ ref('stg_presentations') }} as presentations
        on sessions.presentation_id = presentations.presentation_id

    group by 1, 2, 3

)

select
    ---------- ids
    coalesce(click_days.registration_id, session_days.registration_id) as registration_id,
    coalesce(click_days.event_day, session_days.event_day) as event_day,
    coalesce(click_days.known_day, session_days.known_day) as known_day,

    ---------- measures
    coalesce(session_days.sessions, 0) as sessions,
    -- A day counts as active once: from when its first click became known.
    case
        when click_days.known_day = min(click_days.known_day) over (
            partition by
                coalesce(click_days.registration_id, session_days.registration_id),
                coalesce(click_days.event_day, session_days.event_day)
        ) then 1
        else 0
    end as active_days,
    coalesce(click_days.clicks, 0) as clicks,
    coalesce(click_days.clicks_homepage, 0) as clicks_homepage,
    coalesce(click_days.clicks_forum, 0) as clicks_forum,
    coalesce(click_days.clicks_content, 0) as clicks_content,
    coalesce(click_days.clicks_quiz, 0) as clicks_quiz,
    coalesce(click_days.clicks_resource, 0) as clicks_resource,
    coalesce(click_days.clicks_subpage, 0) as clicks_subpage,
    coalesce(click_days.clicks_url, 0) as clicks_url,
    coalesce(click_days.clicks_other, 0) as clicks_other,
    coalesce(click_days.new_sites, 0) as new_sites,
    coalesce(click_days.enter_7d, 0) as enter_7d,
    coalesce(click_days.leave_7d, 0) as leave_7d,
    coalesce(click_days.enter_14d, 0) as enter_14d,
    coalesce(click_days.leave_14d, 0) as leave_14d,
    coalesce(click_days.enter_28d, 0) as enter_28d,
    coalesce(click_days.leave_28d, 0) as leave_28d,
    case when click_days.clicks is not null then click_days.event_day end as click_day,

    ---------- timestamps (UTC)
    greatest(
        coalesce(click_days.received_at, session_days.received_at),
        coalesce(session_days.received_at, click_days.received_at)
    ) as received_at

from click_days

full outer join session_days
    on
        click_days.registration_id = session_days.registration_id
        and click_days.event_day = session_days.event_day
        and click_days.known_day = session_days.known_day
