-- What was known about a registration, and from when to when it was known. A change that
-- arrives after a newer one teaches nothing new. One row per registration and known state.

with

changes as (

    select
        *,
        row_number() over (
            partition by registration_id
            order by
                received_at,
                valid_from,
                case when valid_to is null then 1 else 0 end,
                case op when 'c' then 0 when 'u' then 1 else 2 end
        ) as arrival

    from {{ ref('stg_registrations_history') }}

),

newest_so_far as (

    select
        *,
        max(valid_from) over (
            partition by registration_id
            order by arrival
            rows between unbounded preceding and current row
        ) as newest_valid_from

    from changes

),

kept as (

    select
        *,
        lead(received_at) over (partition by registration_id order by arrival) as known_to

    from newest_so_far

    where valid_from = newest_valid_from

)

select
    ---------- ids
    kept.registration_id,
    kept.presentation_id,
    kept.student_id,

    ---------- attributes
    kept.op <> 'd' as is_present,
    kept.registered_on,
    kept.unregistered_on,
    {{ day_number('presentations.starts_on', 'kept.registered_on') }} as registered_day,
    {{ day_number('presentations.starts_on', 'kept.unregistered_on') }} as unregistered_day,
    {{ known_day('presentations.starts_on', 'kept.received_at') }} as first_known_day,
    {{ known_day('presentations.starts_on', 'kept.known_to') }} as next_known_day,

    ---------- timestamps (UTC)
    kept.received_at

from kept

inner join {{ ref('stg_presentations') }} as presentations
    on kept.presentation_id = presentations.presentation_id

-- Of the changes received together only the last was ever known at the end of a day.
where kept.known_to is null or kept.known_to > kept.received_at
