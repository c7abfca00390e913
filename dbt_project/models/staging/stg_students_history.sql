-- One row per change of a student profile. The final result stays behind: it is the label.

select
    ---------- ids
    presentation_id || '-' || cast(student_id as {{ dbt.type_string() }}) as registration_id,
    presentation_id,

    ---------- attributes
    op,
    gender,
    region,
    highest_education,
    imd_band,
    age_band,
    num_of_prev_attempts,
    studied_credits,
    disability,

    ---------- timestamps (UTC)
    cast(valid_from as {{ type_timestamp_utc() }}) as valid_from,
    cast(valid_to as {{ type_timestamp_utc() }}) as valid_to,
    cast(received_at as {{ type_timestamp_utc() }}) as received_at

from {{ source('lake', 'students_history') }}
