-- What did the student open on the first active day from the cut on, and which of it for the
-- first time? Only registrations seen before the cut, and again from it on.
-- One row per registration and cut_time.

with

visits as (

    select distinct
        registration_id,
        presentation_id,
        site_id,
        event_day

    from {{ ref('int_site_visits') }}

),

first_visits as (

    select
        *,
        min(event_day) over (partition by registration_id, site_id) as first_visit_day,
        min(event_day) over (partition by registration_id) as first_active_day

    from visits

),

active_days as (

    select
        registration_id,
        presentation_id,
        event_day,
        first_active_day,
        lag(event_day) over (partition by registration_id order by event_day) as previous_day

    from (
        select distinct
            registration_id,
            presentation_id,
            event_day,
            first_active_day
        from first_visits
    ) as distinct_days

),

cuts as (

    select {{ each_number(var('first_cut_day'), var('last_cut_day'), 7) }} as cut_day

),

-- The cut lies after the previous active day, and on or before this one.
answers as (

    select
        active_days.registration_id,
        active_days.presentation_id,
        active_days.event_day,
        cuts.cut_day

    from active_days

    inner join cuts
        on
            active_days.event_day >= cuts.cut_day
            and active_days.previous_day < cuts.cut_day

)

select
    ---------- ids
    answers.registration_id,
    answers.presentation_id,

    ---------- timestamps (UTC)
    {{ day_end('presentations.starts_on', 'answers.cut_day - 1') }} as cut_time,

    ---------- attributes
    answers.cut_day,

    ---------- labels
    {{ list_of('first_visits.site_id', 'first_visits.site_id') }} as relevant_site_ids,
    {{ list_of(
        'first_visits.site_id', 'first_visits.site_id',
        'first_visits.first_visit_day >= answers.cut_day'
    ) }} as new_site_ids

from answers

inner join first_visits
    on
        answers.registration_id = first_visits.registration_id
        and answers.event_day = first_visits.event_day

inner join {{ ref('stg_presentations') }} as presentations
    on answers.presentation_id = presentations.presentation_id

group by 1, 2, 3, 4
