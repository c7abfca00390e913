-- Lists and series are spelled differently per engine; models name these macros only.

-- The whole numbers first..last (both included), one row each, in a select list.
{% macro each_number(first, last, step=1) -%}
    {{ return(adapter.dispatch('each_number', 'scale_warehouse')(first, last, step)) }}
{%- endmacro %}

{% macro default__each_number(first, last, step) -%}
    cast(unnest(generate_series({{ first }}, {{ last }}, {{ step }})) as integer)
{%- endmacro %}

{% macro list_of(value, order_by, where=none) -%}
    {{ return(adapter.dispatch('list_of', 'scale_warehouse')(value, order_by, where)) }}
{%- endmacro %}

{% macro default__list_of(value, order_by, where) -%}
    coalesce(
        array_agg({{ value }} order by {{ order_by }})
        {%- if where %} filter (where {{ where }}){% endif %}, []
    )
{%- endmacro %}
