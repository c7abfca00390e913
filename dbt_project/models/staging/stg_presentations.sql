-- One row per presentation of a module.

select
    ---------- ids
    presentation_id,
    module_id,

    ---------- attributes
    term,
    cast(length_days as integer) as length_days,

    ---------- dates
    starts_on

from {{ source('lake', 'raw__presentations') }}
