"""One FeatureService per model: training and serving read features by this name."""

from feast import FeatureService
from presentation_sites import presentation_sites
from registration_activity import registration_activity
from registration_assessments import registration_assessments
from registration_history import registration_history
from registration_profile import registration_profile

withdrawal_v1 = FeatureService(
    name="withdrawal_v1",
    features=[registration_activity, registration_assessments, registration_profile],
    description="Will this registration be cancelled?",
)

next_site_v1 = FeatureService(
    name="next_site_v1",
    # presentation_id is an entity of the request here, not one of its answers
    features=[registration_history[["site_ids", "days"]], presentation_sites],
    description="Which sites will this student open next?",
)
