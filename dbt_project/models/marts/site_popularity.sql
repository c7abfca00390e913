-- How many students had opened a site lately, by the end of each day, as far as it was known
-- then. One row per site and day, from its first known click to the presentation's end.

with

visits as (

    select * from {{ ref('int_site_visits') }}

),

presentations as (

    select * from {{ ref('stg_presentations') }}

),

clock as (

    select * from {{ ref('int_clock') }}

),

moves as (

    select 0 as num_days
    union all
    select 1 as num_days
    union all
    select 3 as num_days
    union all
    select 7 as num_days
    union all
    select 14 as num_days
    union all
    select 28 as num_days

),

-- As in int_activity_changes: added when known, taken when out of the window. A student enters a
-- window unless still in it from before, and leaves it unless a newer visit is known by then.
marked as (

    select
        visits.site_id,
        visits.presentation_id,
        visits.num_clicks,
        visits.received_at,
        visits.event_day,
        visits.reached_day is null as is_first,
        moves.num_days,
        greatest(visits.known_day, visits.event_day + moves.num_days) as change_day,
        case
            when not visits.is_newest then 0
            when moves.num_days = 0 then 1
            when coalesce(visits.extended_on_day >= visits.event_day + moves.num_days, true) then -1
            else 0
        end as students,
        visits.known_day - visits.reached_day as days_since_reached

    from visits

    cross join moves

),

changes as (

    select
        site_id,
        presentation_id,
        change_day,
        sum(
            case
                when num_days = 0 and coalesce(days_since_reached >= 1, true) then students
                when num_days = 1 then students
                else 0
            end
        ) as students_1d,
        sum(
            case
                when num_days = 0 and coalesce(days_since_reached >= 3, true) then students
                when num_days = 3 then students
                else 0
            end
        ) as students_3d,
        sum(
            case
                when num_days = 0 and coalesce(days_since_reached >= 7, true) then students
                when num_days = 7 then students
                else 0
            end
        ) as students_7d,
        sum(
            case
                when num_days = 0 and coalesce(days_since_reached >= 14, true) then students
                when num_days = 14 then students
                else 0
            end
        ) as students_14d,
        sum(
            case
                when num_days = 0 and coalesce(days_since_reached >= 28, true) then students
                when num_days = 28 then students
                else 0
            end
        ) as students_28d,
        sum(case when num_days = 0 and is_first then 1 else 0 end) as students_total,
        sum(
            case
                when num_days = 0 and is_first then 1
                when num_days = 7 and is_first then -1
                else 0
            end
        ) as new_students_7d,
        sum(case num_days when 0 then num_clicks when 7 then -num_clicks else 0 end) as clicks_7d,
        min(case when num_days = 0 then event_day end) as first_opened_day,
        max(case when num_days = 0 then received_at end) as received_at

    from marked

    group by 1, 2, 3

),

ranges as (

    select
        changes.site_id,
        changes.presentation_id,
        presentations.starts_on,
        min(changes.change_day) as first_day,
        least(
            max(presentations.length_days),
            max({{ day_number('presentations.starts_on', 'clock.known_until_date') }} - 1)
        ) as last_day

    from changes

    inner join presentations on changes.presentation_id = presentations.presentation_id

    cross join clock

    group by 1, 2, 3

),

days as (

    select
        site_id,
        presentation_id,
        starts_on,
        {{ each_number('first_day', 'last_day') }} as presentation_day

    from ranges

)

select
    ---------- ids
    days.site_id,
    days.presentation_id,

    ---------- timestamps (UTC)
    {{ day_end('days.starts_on', 'days.presentation_day') }} as feature_time,
    max(changes.received_at) over so_far as known_at,

    ---------- features
    days.presentation_day,
    cast(sum(changes.students_1d) over so_far as bigint) as students_1d,
    cast(sum(changes.students_3d) over so_far as bigint) as students_3d,
    cast(sum(changes.students_7d) over so_far as bigint) as students_7d,
    cast(sum(changes.students_14d) over so_far as bigint) as students_14d,
    cast(sum(changes.students_28d) over so_far as bigint) as students_28d,
    cast(sum(changes.students_total) over so_far as bigint) as students_total,
    cast(sum(changes.new_students_7d) over so_far as bigint) as new_students_7d,
    cast(sum(changes.clicks_7d) over so_far as bigint) as clicks_7d,
    min(changes.first_opened_day) over so_far as first_opened_day

from days

left join changes
    on
        days.site_id = changes.site_id
        and days.presentation_day = changes.change_day

window so_far as (
    partition by days.site_id
    order by days.presentation_day
    rows between unbounded preceding and current row
)
