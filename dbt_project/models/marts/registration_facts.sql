-- A registration as it stands now: when, for what, by whom; without the final result.
-- One row per registration.

with

registrations as (

    select * from {{ ref('stg_registrations') }}

),

presentations as (

    select * from {{ ref('stg_presentations') }}

),

students as (

    select * from {{ ref('stg_students') }}

)

select
    ---------- ids
    registrations.registration_id,
    registrations.presentation_id,
    presentations.module_id,
    presentations.term,
    registrations.student_id,

    ---------- dates, and the same as days from the presentation's start
    presentations.starts_on,
    presentations.length_days,
    registrations.registered_on,
    registrations.unregistered_on,
    {{ day_number('presentations.starts_on', 'registrations.registered_on') }} as registered_day,
    {{ day_number('presentations.starts_on', 'registrations.unregistered_on') }}
        as unregistered_day,

    ---------- attributes
    students.gender,
    students.region,
    students.highest_education,
    students.imd_band,
    students.age_band,
    students.num_of_prev_attempts,
    students.studied_credits,
    students.disability

from registrations

inner join presentations on registrations.presentation_id = presentations.presentation_id

left join students on registrations.registration_id = students.registration_id
