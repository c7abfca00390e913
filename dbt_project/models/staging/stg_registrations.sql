-- One row per registration that exists now.

select
    ---------- ids
    presentation_id || '-' || cast(student_id as {{ dbt.type_string() }}) as registration_id,
    presentation_id,
    student_id,

    ---------- dates and timestamps (UTC)
    registered_on,
    unregistered_on,
    cast(received_at as {{ type_timestamp_utc() }}) as received_at

from {{ source('lake', 'registrations') }}
