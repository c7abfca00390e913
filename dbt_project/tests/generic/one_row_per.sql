-- The grain: no two rows share these columns.
{% test one_row_per(model, columns) %}

select
    {{ columns | join(', ') }},
    count(*) as num_rows

from {{ model }}

group by {{ columns | join(', ') }}

having count(*) > 1

{% endtest %}
