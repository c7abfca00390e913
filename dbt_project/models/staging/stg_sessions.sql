-- One row per session.

select
    ---------- ids
    session_id,
    presentation_id || '-' || cast(student_id as {{ dbt.type_string() }}) as registration_id,
    presentation_id,
    student_id,

    ---------- dates and timestamps (UTC)
    session_date,
    cast(first_received_at as {{ type_timestamp_utc() }}) as first_received_at

from {{ source('lake', 'sessions') }}
