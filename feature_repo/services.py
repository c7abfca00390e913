"""One FeatureService per model: training and serving read features by this name."""

from feast import FeatureService
from feature_views import views

withdrawal_v1 = FeatureService(
    name="withdrawal_v1",
    features=[
        views["registration_activity"],
        views["registration_assessments"],
        views["registration_profile"],
    ],
    description="Will this registration be cancelled?",
)

next_site_v1 = FeatureService(
    name="next_site_v1",
    # presentation_id is an entity of the request here, not one of its answers
    features=[views["registration_history"][["site_ids", "days"]], views["presentation_sites"]],
    description="Which sites will this student open next?",
)
