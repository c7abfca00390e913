-- No row has the first instant after the second.
{% test never_after(model, earlier, later) %}

select *

from {{ model }}

where {{ earlier }} > {{ later }}

{% endtest %}
