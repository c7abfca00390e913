-- Removes what a run is about to write anew, in the model's transaction: all dates of its range,
-- those without rows in the sources too. The view lake.run_dates is made with the sources' views.
{% macro delete_dates_of_run(column) -%}
    {% if is_incremental() %}
        delete from {{ this }}
        where {{ column }} between
            (select first_date from lake.run_dates) and (select last_date from lake.run_dates)
    {% endif %}
{%- endmacro %}
