-- The simulated clock: the latest instant at which anything reached the lake. One row.

with

arrivals as (

    select max(received_at) as received_at from {{ ref('stg_interactions') }}
    union all
    select max(received_at) as received_at from {{ ref('stg_submissions') }}
    union all
    select max(received_at) as received_at from {{ ref('stg_registrations_history') }}
    union all
    select max(received_at) as received_at from {{ ref('stg_students_history') }}

)

select
    max(received_at) as known_until,
    cast(max(received_at) as date) as known_until_date

from arrivals
