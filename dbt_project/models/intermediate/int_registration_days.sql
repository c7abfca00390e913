-- The days of a registration, from the first to the last that it is described on. Described are
-- the days on whose end it was known and not known to be cancelled; days between two described
-- spells stay in, marked, so that running totals cross them.
-- One row per registration and day.

with

states as (

    select * from {{ ref('int_registration_states') }}

),

presentations as (

    select * from {{ ref('stg_presentations') }}

),

clock as (

    select * from {{ ref('int_clock') }}

),

spells as (

    select
        states.registration_id,
        states.presentation_id,
        states.received_at,
        presentations.starts_on,
        greatest(states.first_known_day, {{ var('first_described_day') }}) as first_day,
        least(
            presentations.length_days,
            {{ day_number('presentations.starts_on', 'clock.known_until_date') }} - 1,
            coalesce(states.next_known_day - 1, presentations.length_days),
            coalesce(states.unregistered_day - 1, presentations.length_days)
        ) as last_day

    from states

    inner join presentations on states.presentation_id = presentations.presentation_id

    cross join clock

    where states.is_present

),

described as (

    select * from spells where first_day <= last_day

),

ranges as (

    select
        registration_id,
        presentation_id,
        starts_on,
        min(first_day) as first_day,
        max(last_day) as last_day

    from described

    group by 1, 2, 3

),

days as (

    select
        registration_id,
        presentation_id,
        starts_on,
        {{ each_number('first_day', 'last_day') }} as presentation_day

    from ranges

)

select
    ---------- ids
    days.registration_id,
    days.presentation_id,

    ---------- attributes
    days.presentation_day,
    described.registration_id is not null as is_described,

    ---------- timestamps (UTC)
    {{ day_end('days.starts_on', 'days.presentation_day') }} as feature_time,
    described.received_at as state_received_at

from days

left join described
    on
        days.registration_id = described.registration_id
        and days.presentation_day between described.first_day and described.last_day
