-- What a registration did on a day, and when that reached us. A run's sources hold the event dates
-- of its range only, and it rewrites those and no other, also where a date has become empty; it
-- reads them directly, so that its partitions depend on theirs, date by date. One row per registration, event_date and received_at.

{{ config(
    materialized='incremental',
    incremental_strategy='append',
    pre_hook="{{ delete_dates_of_run('event_date') }}",
    on_schema_change='fail',
    tags=['daily'],
    meta={'partition_by': 'event_date'},
) }}

with

activity as (

    select
        presentation_id,
        student_id,
        event_date,
        received_at,
        num_clicks,
        site_id,
        0 as num_sessions

    from {{ source('lake', 'interaction_counts') }}

    union all

    select
        presentation_id,
        student_id,
        session_date as event_date,
        first_received_at as received_at,
        0 as num_clicks,
        null as site_id,
        1 as num_sessions

    from {{ source('lake', 'sessions') }}

)

select
    ---------- ids
    presentation_id || '-' || cast(student_id as {{ dbt.type_string() }}) as registration_id,
    presentation_id,
    student_id,

    ---------- dates and timestamps (UTC)
    event_date,
    cast(received_at as {{ type_timestamp_utc() }}) as received_at,

    ---------- measures
    cast(sum(num_clicks) as bigint) as num_clicks,
    -- An interaction is already one site's: its grain makes every site count once.
    count(site_id) as num_sites,
    cast(sum(num_sessions) as bigint) as num_sessions

from activity

group by 1, 2, 3, 4, 5
