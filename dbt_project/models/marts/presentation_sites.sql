-- The catalogue of a presentation with the sites' latest popularity, as parallel lists in order
-- of site_id; a missing week is -1. One row per presentation.

with

sites as (

    select * from {{ ref('stg_sites') }}

),

presentations as (

    select * from {{ ref('stg_presentations') }}

),

clock as (

    select * from {{ ref('int_clock') }}

),

popularity as (

    select
        *,
        row_number() over (partition by site_id order by feature_time desc) as recency

    from {{ ref('site_popularity') }}

),

described as (

    select
        presentations.presentation_id,
        presentations.starts_on,
        least(
            clock.known_until,
            {{ day_end('presentations.starts_on', 'presentations.length_days') }}
        ) as feature_time

    from presentations

    cross join clock

)

select
    ---------- ids
    described.presentation_id,

    ---------- timestamps (UTC)
    described.feature_time,
    -- Without a click the catalogue alone is described, and it is as of now.
    coalesce(max(popularity.known_at), described.feature_time) as known_at,

    ---------- features
    {{ day_number('described.starts_on', 'described.feature_time') }} as upcoming_day,
    {{ list_of('sites.site_id', 'sites.site_id') }} as site_ids,
    {{ list_of('sites.activity_type', 'sites.site_id') }} as activity_types,
    {{ list_of('coalesce(sites.week_from, -1)', 'sites.site_id') }} as week_from,
    {{ list_of('coalesce(sites.week_to, -1)', 'sites.site_id') }} as week_to,
    {{ list_of('coalesce(popularity.students_1d, 0)', 'sites.site_id') }} as students_1d,
    {{ list_of('coalesce(popularity.students_3d, 0)', 'sites.site_id') }} as students_3d,
    {{ list_of('coalesce(popularity.students_7d, 0)', 'sites.site_id') }} as students_7d,
    {{ list_of('coalesce(popularity.students_14d, 0)', 'sites.site_id') }} as students_14d,
    {{ list_of('coalesce(popularity.students_28d, 0)', 'sites.site_id') }} as students_28d,
    {{ list_of('coalesce(popularity.students_total, 0)', 'sites.site_id') }} as students_total,
    {{ list_of('coalesce(popularity.new_students_7d, 0)', 'sites.site_id') }} as new_students_7d,
    {{ list_of('coalesce(cast(popularity.first_opened_day as bigint), -999)', 'sites.site_id') }}
        as first_opened_day

from described

inner join sites on described.presentation_id = sites.presentation_id

left join popularity
    on
        sites.site_id = popularity.site_id
        and popularity.recency = 1

group by described.presentation_id, described.feature_time, described.starts_on
