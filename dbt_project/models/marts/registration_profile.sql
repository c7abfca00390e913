-- Who is registered, as known from feature_time on. Only what was known on registration or
-- changed since; never the final result. One row per registration and known profile.

with

profiles as (

    select
        *,
        row_number() over (
            partition by registration_id
            order by received_at, valid_from, case when valid_to is null then 1 else 0 end
        ) as arrival

    from {{ ref('stg_students_history') }}

    where op <> 'd'

),

newest_so_far as (

    select
        *,
        max(valid_from) over (
            partition by registration_id
            order by arrival
            rows between unbounded preceding and current row
        ) as newest_valid_from

    from profiles

),

registrations as (

    select
        registration_id,
        presentation_id,
        registered_day,
        received_at,
        row_number() over (partition by registration_id order by received_at) as arrival

    from {{ ref('int_registration_states') }}

    where is_present

),

known as (

    select
        profiles.registration_id,
        greatest(profiles.received_at, registrations.received_at) as known_at,
        profiles.arrival,
        presentations.module_id,
        profiles.gender,
        profiles.region,
        profiles.highest_education,
        profiles.imd_band,
        profiles.age_band,
        profiles.num_of_prev_attempts,
        profiles.studied_credits,
        profiles.disability,
        registrations.registered_day

    from newest_so_far as profiles

    inner join registrations
        on
            profiles.registration_id = registrations.registration_id
            and registrations.arrival = 1

    inner join {{ ref('stg_presentations') }} as presentations
        on registrations.presentation_id = presentations.presentation_id

    where profiles.valid_from = profiles.newest_valid_from

),

-- Of several profiles known from the same instant the last one counts.
last_known as (

    select
        *,
        row_number() over (
            partition by registration_id, known_at order by arrival desc
        ) as recency

    from known

),

-- A change of the final result leaves everything else as it was: no new row.
compared as (

    select
        *,
        row_number() over by_time = 1
        {%- for column in [
            'gender', 'region', 'highest_education', 'imd_band', 'age_band',
            'num_of_prev_attempts', 'studied_credits', 'disability',
        ] %}
        or {{ column }} is distinct from lag({{ column }}) over by_time
        {%- endfor %} as is_new

    from last_known

    where recency = 1

    window by_time as (partition by registration_id order by known_at)

)

select
    ---------- ids
    registration_id,

    ---------- timestamps (UTC)
    known_at as feature_time,
    known_at,

    ---------- features
    module_id,
    gender,
    region,
    highest_education,
    imd_band,
    age_band,
    num_of_prev_attempts,
    studied_credits,
    disability,
    registered_day

from compared

where is_new
