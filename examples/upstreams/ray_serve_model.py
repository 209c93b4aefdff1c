"""A scikit-learn classifier on Ray Serve that speaks the Open Inference Protocol.

pip install "ray[serve]" scikit-learn
serve run ray_serve_model:application          # http://127.0.0.1:8000
assay serve --upstream http://127.0.0.1:8000 --policy policy.toml
"""

from typing import Any  # no postponed annotations here: Ray hands them to FastAPI from another module

import numpy as np
from fastapi import FastAPI, HTTPException
from ray import serve
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

api = FastAPI()
NAME, FEATURES, CLASSES = "iris", 4, 3


@serve.deployment(num_replicas=1)
@serve.ingress(api)
class Iris:
    """One model under its name."""

    def __init__(self) -> None:
        x, y = load_iris(return_X_y=True)
        self.model = LogisticRegression(max_iter=1000).fit(x, y)

    @api.get("/v2/health/ready")
    def ready(self) -> dict[str, bool]:
        """Say that requests are welcome."""
        return {"ready": True}

    @api.get(f"/v2/models/{NAME}")
    def metadata(self) -> dict[str, Any]:
        """Describe inputs and outputs."""
        return {
            "name": NAME,
            "versions": ["1"],
            "platform": "scikit-learn",
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, FEATURES]}],
            "outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1, CLASSES]}],
        }

    @api.post(f"/v2/models/{NAME}/infer")
    def infer(self, body: dict[str, Any]) -> dict[str, Any]:
        """Answer with probabilities."""
        try:
            (tensor,) = body["inputs"]
            x = np.asarray(tensor["data"], dtype=np.float64).reshape(-1, FEATURES)
        except (KeyError, TypeError, ValueError) as error:
            raise HTTPException(400, "send one FP32 input x of shape [n, 4]") from error
        scores = self.model.predict_proba(x)
        output = {"name": "scores", "datatype": "FP32", "shape": list(scores.shape)}
        return {"model_name": NAME, "outputs": [{**output, "data": scores.ravel().tolist()}]}


application = Iris.bind()
