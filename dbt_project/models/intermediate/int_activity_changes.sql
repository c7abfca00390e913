-- By how much each activity sum moves on a day. Everything is added (num_days 0) on the day it
-- becomes known, and taken from a window of w days when its own day is w days old, or at once if
-- it becomes known later still: so running totals are exact for late clicks too.
-- One row per registration and change_day.

with

days as (

    select * from {{ ref('int_activity_days') }}

),

moves as (

    select 0 as num_days
    union all
    select 1 as num_days
    union all
    select 7 as num_days
    union all
    select 14 as num_days
    union all
    select 28 as num_days

),

first_days as (

    select
        registration_id,
        min(presentation_day) as first_day

    from {{ ref('int_registration_days') }}

    group by 1

)

select
    ---------- ids
    days.registration_id,
    greatest(days.known_day, days.event_day + moves.num_days, first_days.first_day)
        as change_day,

    ---------- measures
    cast(sum(case moves.num_days when 0 then days.clicks when 1 then -days.clicks else 0 end) as bigint) as clicks_1d,
    cast(sum(case moves.num_days when 0 then days.clicks when 7 then -days.clicks else 0 end) as bigint) as clicks_7d,
    cast(sum(case moves.num_days when 0 then days.clicks when 14 then -days.clicks else 0 end) as bigint) as clicks_14d,
    cast(sum(case moves.num_days when 0 then days.clicks when 28 then -days.clicks else 0 end) as bigint) as clicks_28d,
    cast(sum(case moves.num_days when 0 then days.clicks else 0 end) as bigint) as clicks_total,
    cast(sum(case moves.num_days when 0 then days.active_days when 7 then -days.active_days else 0 end) as bigint) as active_days_7d,
    cast(sum(case moves.num_days when 0 then days.active_days when 14 then -days.active_days else 0 end) as bigint) as active_days_14d,
    cast(sum(case moves.num_days when 0 then days.active_days when 28 then -days.active_days else 0 end) as bigint) as active_days_28d,
    cast(sum(case moves.num_days when 0 then days.active_days else 0 end) as bigint)
        as active_days_total,
    cast(sum(case moves.num_days when 0 then days.enter_7d when 7 then -days.leave_7d else 0 end) as bigint) as sites_7d,
    cast(sum(case moves.num_days when 0 then days.enter_14d when 14 then -days.leave_14d else 0 end) as bigint) as sites_14d,
    cast(sum(case moves.num_days when 0 then days.enter_28d when 28 then -days.leave_28d else 0 end) as bigint) as sites_28d,
    cast(sum(case moves.num_days when 0 then days.new_sites else 0 end) as bigint) as sites_total,
    cast(sum(case moves.num_days when 0 then days.sessions when 7 then -days.sessions else 0 end) as bigint) as sessions_7d,
    cast(sum(case moves.num_days when 0 then days.clicks_homepage when 28 then -days.clicks_homepage else 0 end) as bigint) as clicks_28d_homepage,
    cast(sum(case moves.num_days when 0 then days.clicks_forum when 28 then -days.clicks_forum else 0 end) as bigint) as clicks_28d_forum,
    cast(sum(case moves.num_days when 0 then days.clicks_content when 28 then -days.clicks_content else 0 end) as bigint) as clicks_28d_content,
    cast(sum(case moves.num_days when 0 then days.clicks_quiz when 28 then -days.clicks_quiz else 0 end) as bigint) as clicks_28d_quiz,
    cast(sum(case moves.num_days when 0 then days.clicks_resource when 28 then -days.clicks_resource else 0 end) as bigint) as clicks_28d_resource,
    cast(sum(case moves.num_days when 0 then days.clicks_subpage when 28 then -days.clicks_subpage else 0 end) as bigint) as clicks_28d_subpage,
    cast(sum(case moves.num_days when 0 then days.clicks_url when 28 then -days.clicks_url else 0 end) as bigint) as clicks_28d_url,
    cast(sum(case moves.num_days when 0 then days.clicks_other when 28 then -days.clicks_other else 0 end) as bigint) as clicks_28d_other,
    max(case moves.num_days when 0 then days.click_day end) as last_click_day,
    min(case moves.num_days when 0 then days.click_day end) as first_click_day,

    ---------- timestamps (UTC)
    max(case moves.num_days when 0 then days.received_at end) as received_at

from days

cross join moves

inner join first_days on days.registration_id = first_days.registration_id

group by 1, 2
