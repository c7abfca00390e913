"""Pure torch, Lightning and scikit-learn: from a dataset folder to candidates ready to release."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime reads it as it is imported
