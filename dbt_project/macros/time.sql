-- Days are counted from the presentation's start; day d ends at 00:00 UTC of day d + 1.

{% macro day_number(starts_on, date) -%}
    cast({{ dbt.datediff(starts_on, date, 'day') }} as integer)
{%- endmacro %}

{% macro day_end(starts_on, day) -%}
    cast({{ dbt.dateadd('day', '(' ~ day ~ ') + 1', starts_on) }} as {{ type_timestamp_utc() }})
{%- endmacro %}

-- The first day at whose end a row received at that instant is known.
{% macro known_day(starts_on, received_at) -%}
    (
        {{ day_number(starts_on, received_at) }}
        - case when {{ received_at }} = {{ dbt.date_trunc('day', received_at) }} then 1 else 0 end
    )
{%- endmacro %}

{% macro type_timestamp_utc() -%}
    {{ return(adapter.dispatch('type_timestamp_utc', 'scale_warehouse')()) }}
{%- endmacro %}

{% macro default__type_timestamp_utc() -%}
    timestamp with time zone
{%- endmacro %}
