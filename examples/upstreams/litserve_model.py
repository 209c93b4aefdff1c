"""A scikit-learn classifier on LitServe that speaks the Open Inference Protocol.

pip install litserve scikit-learn
python litserve_model.py                       # http://127.0.0.1:8000
assay serve --upstream http://127.0.0.1:8000 --policy policy.toml
"""

from __future__ import annotations

from typing import Any

import litserve
import numpy as np
from fastapi import HTTPException
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

NAME, FEATURES, CLASSES = "iris", 4, 3


class Iris(litserve.LitAPI):
    """One model under its name."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - the signature of the base class
        """Fit or load the model in the worker."""
        x, y = load_iris(return_X_y=True)
        self.model = LogisticRegression(max_iter=1000).fit(x, y)

    def decode_request(self, request) -> np.ndarray:  # noqa: ANN001 - LitServe reads the annotation, as a type
        """Take the rows out of the body."""
        try:
            (tensor,) = request["inputs"]
            return np.asarray(tensor["data"], dtype=np.float64).reshape(-1, FEATURES)
        except (KeyError, TypeError, ValueError) as error:
            raise HTTPException(400, "send one FP32 input x of shape [n, 4]") from error

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return probabilities."""
        return self.model.predict_proba(x)

    def encode_response(self, output: np.ndarray) -> dict[str, Any]:
        """Wrap them as the protocol wants it."""
        tensor = {"name": "scores", "datatype": "FP32", "shape": list(output.shape)}
        return {"model_name": NAME, "outputs": [{**tensor, "data": output.ravel().tolist()}]}


def main() -> None:
    """Serve on port 8000."""
    server = litserve.LitServer(Iris(api_path=f"/v2/models/{NAME}/infer"), accelerator="cpu")

    @server.app.get(f"/v2/models/{NAME}")
    def metadata() -> dict[str, Any]:
        return {
            "name": NAME,
            "versions": ["1"],
            "platform": "scikit-learn",
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, FEATURES]}],
            "outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1, CLASSES]}],
        }

    @server.app.get("/v2/health/ready")
    def ready() -> dict[str, bool]:
        return {"ready": True}

    server.run(host="127.0.0.1", port=8000, generate_client_file=False)


if __name__ == "__main__":
    main()
