-- One row per change of a registration.

select
    ---------- ids
    presentation_id || '-' || cast(student_id as {{ dbt.type_string() }}) as registration_id,
    presentation_id,
    student_id,

    ---------- attributes
    op,

    ---------- dates and timestamps (UTC)
    registered_on,
    unregistered_on,
    cast(valid_from as {{ type_timestamp_utc() }}) as valid_from,
    cast(valid_to as {{ type_timestamp_utc() }}) as valid_to,
    cast(received_at as {{ type_timestamp_utc() }}) as received_at

from {{ source('lake', 'registrations_history') }}
