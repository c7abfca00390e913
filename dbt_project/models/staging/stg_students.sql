-- One row per student profile that exists now. The final result stays behind: it is the label.

select
    ---------- ids
    presentation_id || '-' || cast(student_id as {{ dbt.type_string() }}) as registration_id,

    ---------- attributes
    gender,
    region,
    highest_education,
    imd_band,
    age_band,
    num_of_prev_attempts,
    studied_credits,
    disability,

    ---------- timestamps (UTC)
    cast(received_at as {{ type_timestamp_utc() }}) as received_at

from {{ source('lake', 'students') }}
