-- One row per site.

select
    ---------- ids
    site_id,
    presentation_id,

    ---------- attributes
    activity_type,
    week_from,
    week_to

from {{ source('lake', 'raw__sites') }}
