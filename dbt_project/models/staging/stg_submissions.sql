-- One row per submission event.

select
    ---------- ids
    event_id,
    presentation_id || '-' || cast(student_id as {{ dbt.type_string() }}) as registration_id,
    presentation_id,
    assessment_id,

    ---------- attributes
    score,
    is_banked,

    ---------- dates and timestamps (UTC)
    cast(event_time as date) as submitted_on,
    cast(received_at as {{ type_timestamp_utc() }}) as received_at

from {{ source('lake', 'raw__submissions') }}
