"""A release folder: `release.json` beside `model.onnx`, loaded and checked before it serves."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime

from serving.errors import ServingError


class ViewUse(msgspec.Struct, frozen=True):
    """What a model reads of one feature view, and how old it may be."""

    features: list[str]
    max_age_seconds: int | None = None


class InputSource(msgspec.Struct, frozen=True):
    """Where one model input comes from: a feature of a view."""

    name: str
    view: str
    feature: str


class Manifest(msgspec.Struct, frozen=True):
    """The part of release.json that serving acts on; unknown keys are provenance."""

    format: int
    model: str
    version: str
    kind: str
    candidate: str
    feature_service: str
    views: dict[str, ViewUse]
    fallback: list[str]
    outputs: list[str] = []
    numeric: list[InputSource] = []
    categorical: list[InputSource] = []
    inputs: list[InputSource] = []


class Release:
    """One loaded model. Scoring is thread-safe."""

    def __init__(self, folder: Path) -> None:
        self.manifest = read_manifest(folder)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # requests run side by side, not one over all cores
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self.input_names = [each.name for each in self._session.get_inputs()]
        self.input_types = {each.name: each.type for each in self._session.get_inputs()}
        self.output_names = [each.name for each in self._session.get_outputs()]

    def score(self, inputs: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        """Run the graph once; shapes and names are the release's signature."""
        used = {name: inputs[name] for name in self.input_names}
        values = self._session.run(self.output_names, used)
        return dict(zip(self.output_names, values, strict=True))


def read_manifest(folder: Path) -> Manifest:
    """Decode release.json.

    Raises:
        ServingError: The file is missing, is not a release, or has a format that we do not know.
    """
    path = folder / "release.json"
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise ServingError(f"{path} is missing; materialize the release asset first") from None
    except msgspec.DecodeError as error:
        raise ServingError(f"{path} is not a release: {error}") from None
    if manifest.format != 1:
        raise ServingError(f"{path}: format is {manifest.format}, this server reads 1")
    return manifest


class Releases:
    """The models that serve now: `<root>/<model>/current` of each, reloaded when it is swapped."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._loaded: dict[str, tuple[Path, Release]] = {}
        for link in sorted(root.glob("*/current")):
            self.get(link.parent.name)
        if not self._loaded:
            raise ServingError(f"no release under {root}; run `make demo` or materialize one")

    def names(self) -> list[str]:
        return sorted(self._loaded)

    def get(self, model: str) -> Release | None:
        """The current release of ``model``, or None where none was ever made.

        The swap is atomic (a symbolic link), so one readlink tells whether to load anew.
        """
        link = self.root / model / "current"
        known = self._loaded.get(model)
        if not link.is_symlink():
            return known[1] if known else None
        target = link.resolve()
        if known is None or known[0] != target:
            known = (target, Release(target))
            self._loaded[model] = known
        return known[1]
