-- What a registration had done by the end of each day, as far as it was known then.
-- One row per registration and described day.

with

days as (

    select * from {{ ref('int_registration_days') }}

),

changes as (

    select * from {{ ref('int_activity_changes') }}

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
        coalesce(sum(changes.clicks_1d) over so_far, 0) as clicks_1d,
        coalesce(sum(changes.clicks_7d) over so_far, 0) as clicks_7d,
        coalesce(sum(changes.clicks_14d) over so_far, 0) as clicks_14d,
        coalesce(sum(changes.clicks_28d) over so_far, 0) as clicks_28d,
        coalesce(sum(changes.clicks_total) over so_far, 0) as clicks_total,
        coalesce(sum(changes.active_days_7d) over so_far, 0) as active_days_7d,
        coalesce(sum(changes.active_days_14d) over so_far, 0) as active_days_14d,
        coalesce(sum(changes.active_days_28d) over so_far, 0) as active_days_28d,
        coalesce(sum(changes.active_days_total) over so_far, 0) as active_days_total,
        coalesce(sum(changes.sites_7d) over so_far, 0) as sites_7d,
        coalesce(sum(changes.sites_14d) over so_far, 0) as sites_14d,
        coalesce(sum(changes.sites_28d) over so_far, 0) as sites_28d,
        coalesce(sum(changes.sites_total) over so_far, 0) as sites_total,
        coalesce(sum(changes.sessions_7d) over so_far, 0) as sessions_7d,
        coalesce(sum(changes.clicks_28d_homepage) over so_far, 0) as clicks_28d_homepage,
        coalesce(sum(changes.clicks_28d_forum) over so_far, 0) as clicks_28d_forum,
        coalesce(sum(changes.clicks_28d_content) over so_far, 0) as clicks_28d_content,
        coalesce(sum(changes.clicks_28d_quiz) over so_far, 0) as clicks_28d_quiz,
        coalesce(sum(changes.clicks_28d_resource) over so_far, 0) as clicks_28d_resource,
        coalesce(sum(changes.clicks_28d_subpage) over so_far, 0) as clicks_28d_subpage,
        coalesce(sum(changes.clicks_28d_url) over so_far, 0) as clicks_28d_url,
        coalesce(sum(changes.clicks_28d_other) over so_far, 0) as clicks_28d_other,
        max(changes.last_click_day) over so_far as last_click_day,
        min(changes.first_click_day) over so_far as first_click_day

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

),

described as (

    select * from running where is_described

),

-- What the other registrations of the presentation did is an input too, so it counts in known_at.
presentations as (

    select
        presentation_id,
        presentation_day,
        max(known_at) as known_at,
        -- Decimals add up to the same sum in any order, so that a rerun gives equal bits.
        sum(cast(ln(1 + clicks_7d) as decimal(18, 9))) / count(*) as mean_log_clicks_7d,
        sum(cast(ln(1 + clicks_28d) as decimal(18, 9))) / count(*) as mean_log_clicks_28d,
        avg(active_days_7d) as mean_active_days_7d

    from described

    group by 1, 2

)

select
    ---------- ids
    described.registration_id,

    ---------- timestamps (UTC)
    described.feature_time,
    presentations.known_at,

    ---------- features
    described.presentation_day,
    cast(described.clicks_1d as bigint) as clicks_1d,
    cast(described.clicks_7d as bigint) as clicks_7d,
    cast(described.clicks_14d - described.clicks_7d as bigint) as clicks_prev_7d,
    cast(described.clicks_14d as bigint) as clicks_14d,
    cast(described.clicks_28d as bigint) as clicks_28d,
    cast(described.clicks_total as bigint) as clicks_total,
    cast(described.active_days_7d as bigint) as active_days_7d,
    cast(described.active_days_14d as bigint) as active_days_14d,
    cast(described.active_days_28d as bigint) as active_days_28d,
    cast(described.active_days_total as bigint) as active_days_total,
    cast(described.sites_7d as bigint) as sites_7d,
    cast(described.sites_14d as bigint) as sites_14d,
    cast(described.sites_28d as bigint) as sites_28d,
    cast(described.sites_total as bigint) as sites_total,
    cast(described.sessions_7d as bigint) as sessions_7d,
    cast(described.clicks_28d_homepage as bigint) as clicks_28d_homepage,
    cast(described.clicks_28d_forum as bigint) as clicks_28d_forum,
    cast(described.clicks_28d_content as bigint) as clicks_28d_content,
    cast(described.clicks_28d_quiz as bigint) as clicks_28d_quiz,
    cast(described.clicks_28d_resource as bigint) as clicks_28d_resource,
    cast(described.clicks_28d_subpage as bigint) as clicks_28d_subpage,
    cast(described.clicks_28d_url as bigint) as clicks_28d_url,
    cast(described.clicks_28d_other as bigint) as clicks_28d_other,
    described.presentation_day - described.last_click_day as days_since_last_click,
    described.presentation_day - described.first_click_day as days_since_first_click,
    cast(
        ln(1 + described.clicks_7d) - ln(1 + described.clicks_14d - described.clicks_7d)
        as double
    ) as clicks_trend_7d,
    cast(
        ln(1 + described.clicks_7d) - presentations.mean_log_clicks_7d as double
    ) as clicks_7d_vs_presentation,
    cast(
        ln(1 + described.clicks_28d) - presentations.mean_log_clicks_28d as double
    ) as clicks_28d_vs_presentation,
    cast(
        described.active_days_7d - presentations.mean_active_days_7d as double
    ) as active_days_7d_vs_presentation

from described

inner join presentations
    on
        described.presentation_id = presentations.presentation_id
        and described.presentation_day = presentations.presentation_day
