"""What features describe."""

from feast import Entity, ValueType

registration = Entity(
    name="registration",
    join_keys=["registration_id"],
    value_type=ValueType.STRING,
    description="A student's registration for a course presentation.",
)

presentation = Entity(
    name="presentation",
    join_keys=["presentation_id"],
    value_type=ValueType.STRING,
    description="One run of a course.",
)
