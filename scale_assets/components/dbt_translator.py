"""dbt models in Dagster's words: group, owners and automation as the component declares them."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings

from scale_assets.components.automation import (
    DAILY,
    when_dates_passed_their_checks,
    when_inputs_passed_their_checks,
)

DEFAULT_GROUP = "warehouse"


class WarehouseTranslator(DagsterDbtTranslator):
    """Keys, tests and descriptions as dagster-dbt makes them; the rest from YAML."""

    def __init__(
        self, *, groups: Mapping[str, str], owners: Sequence[str], is_daily: bool = False
    ) -> None:
        super().__init__(settings=DagsterDbtTranslatorSettings(enable_source_tests_as_checks=False))
        self._groups = groups
        self._owners = owners
        self._is_daily = is_daily

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        if dbt_resource_props["resource_type"] == "source":
            return None
        folders = dbt_resource_props["fqn"][1:-1]
        return next((self._groups[name] for name in folders if name in self._groups), DEFAULT_GROUP)

    def get_owners(
        self,
        dbt_resource_props: Mapping[str, Any],  # noqa: ARG002
    ) -> Sequence[str] | None:
        return self._owners or None

    def get_automation_condition(
        self,
        dbt_resource_props: Mapping[str, Any],  # noqa: ARG002
    ) -> dg.AutomationCondition | None:
        if self._is_daily:
            return when_dates_passed_their_checks()
        return when_inputs_passed_their_checks()

    def get_tags(self, dbt_resource_props: Mapping[str, Any]) -> Mapping[str, str]:
        tags = super().get_tags(dbt_resource_props)
        return {**tags, **DAILY} if self._is_daily else tags
