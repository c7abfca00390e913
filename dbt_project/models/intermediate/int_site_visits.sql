-- Clicks with their days counted from the presentation's start, and how far the same student
-- and site were known to reach before. One row per registration, site, event_day and received_at.

with

interactions as (

    select * from {{ ref('stg_interactions') }}

),

presentations as (

    select * from {{ ref('stg_presentations') }}

),

sites as (

    select * from {{ ref('stg_sites') }}

),

visits as (

    select
        interactions.registration_id,
        interactions.presentation_id,
        interactions.site_id,
        interactions.num_clicks,
        interactions.first_order,
        interactions.received_at,
        {{ day_number('presentations.starts_on', 'interactions.event_date') }} as event_day,
        greatest(
            {{ day_number('presentations.starts_on', 'interactions.event_date') }},
            {{ known_day('presentations.starts_on', 'interactions.received_at') }}
        ) as known_day,
        case
            when sites.activity_type = 'homepage' then 'homepage'
            when sites.activity_type in ('forumng', 'oucollaborate', 'ouelluminate') then 'forum'
            when sites.activity_type in ('oucontent', 'page', 'dualpane', 'ouwiki') then 'content'
            when sites.activity_type in ('quiz', 'externalquiz', 'questionnaire') then 'quiz'
            when sites.activity_type in ('resource', 'folder') then 'resource'
            when sites.activity_type in ('subpage', 'sharedsubpage') then 'subpage'
            when sites.activity_type = 'url' then 'url'
            else 'other'
        end as site_group

    from interactions

    inner join presentations on interactions.presentation_id = presentations.presentation_id

    left join sites on interactions.site_id = sites.site_id

),

-- A visit extends what is known of its site only when it is newer than all known before it.
with_reach as (

    select
        *,
        max(event_day) over (
            partition by registration_id, site_id
            order by known_day, event_day, received_at
            rows between unbounded preceding and 1 preceding
        ) as reached_day

    from visits

)

select
    *,
    reached_day is null or event_day > reached_day as is_newest,
    min(case when reached_day is null or event_day > reached_day then known_day end) over (
        partition by registration_id, site_id
        order by known_day, event_day, received_at
        rows between 1 following and unbounded following
    ) as extended_on_day

from with_reach
