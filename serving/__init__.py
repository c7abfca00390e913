"""Online serving: loads release folders, reads online features; no Dagster, no torch."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime reads it as it is imported
