-- One row per assessment.

select
    ---------- ids
    assessment_id,
    presentation_id,

    ---------- attributes
    assessment_type,
    weight,

    ---------- dates
    due_on

from {{ source('lake', 'raw__assessments') }}
