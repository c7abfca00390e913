-- One row per registration, site, event_date and received_at.

select
    ---------- ids
    presentation_id || '-' || cast(student_id as {{ dbt.type_string() }}) as registration_id,
    presentation_id,
    student_id,
    site_id,

    ---------- measures
    num_clicks,
    first_order,

    ---------- dates and timestamps (UTC)
    event_date,
    cast(received_at as {{ type_timestamp_utc() }}) as received_at

from {{ source('lake', 'interaction_counts') }}
