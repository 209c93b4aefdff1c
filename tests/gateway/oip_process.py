"""A small but real inference server: an ONNX file behind HTTP, in a process of its own.

Run as ``python oip_process.py model.onnx NAME PORT``. It knows nothing of Assay: what the
tests learn from it holds for servers that others wrote. Prints the port when it listens.
``POST /test/down`` makes it answer 500 from then on; ``GET /test/count`` says how many
inferences it ran.
"""

from __future__ import annotations

import json
import math
import socket
import sys

import numpy as np
import onnxruntime
import uvicorn

TYPES = {"FP32": "<f4", "FP64": "<f8", "INT64": "<i8"}
NAMES = {"tensor(float)": "FP32", "tensor(double)": "FP64", "tensor(int64)": "INT64"}


class Server:
    def __init__(self, path, name):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.name, self.count, self.down = name, 0, False

    def metadata(self):
        def tensors(nodes):
            return [
                {
                    "name": node.name,
                    "datatype": NAMES[node.type],
                    "shape": [size if isinstance(size, int) else -1 for size in node.shape],
                }
                for node in nodes
            ]

        return {
            "name": self.name,
            "versions": ["1"],
            "platform": "onnxruntime_onnx",
            "inputs": tensors(self.session.get_inputs()),
            "outputs": tensors(self.session.get_outputs()),
        }

    def infer(self, body, length):
        head = json.loads(body[:length])
        at = len(body) if length is None else length
        feeds = {}
        for one in head["inputs"]:
            kind = np.dtype(TYPES[one["datatype"]])
            size = one.get("parameters", {}).get("binary_data_size")
            if size is None:
                array = np.array(one["data"], dtype=kind)
            else:
                array, at = np.frombuffer(body[at : at + size], dtype=kind), at + size
            feeds[one["name"]] = array.reshape(one["shape"])
        self.count += 1
        names = [one["name"] for one in head.get("outputs", [])] or None
        asked = {one["name"]: one.get("parameters", {}) for one in head.get("outputs", [])}
        everything = head.get("parameters", {}).get("binary_data_output", False)
        entries, blobs = [], []
        found = self.session.run(names, feeds)
        for name, array in zip(names or [o.name for o in self.session.get_outputs()], found, strict=True):
            datatype = {"f4": "FP32", "f8": "FP64", "i8": "INT64"}[array.dtype.str[1:]]
            entry = {"name": name, "datatype": datatype, "shape": list(array.shape)}
            if asked.get(name, {}).get("binary_data", everything):
                blobs.append(array.tobytes())
                entry["parameters"] = {"binary_data_size": len(blobs[-1])}
            else:
                entry["data"] = array.ravel().tolist()
            entries.append(entry)
        reply = {"model_name": self.name, "model_version": "1", "outputs": entries}
        if "id" in head:
            reply["id"] = head["id"]
        raw = json.dumps(reply).encode()
        return raw + b"".join(blobs), (len(raw) if blobs else None)

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            while True:
                event = (await receive())["type"]
                await send({"type": f"{event}.complete"})
                if event == "lifespan.shutdown":
                    return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        status, reply, length = self.answer(scope, body)
        headers = [(b"content-length", str(len(reply)).encode())]
        if length is not None:
            headers.append((b"inference-header-content-length", str(length).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": reply})

    def answer(self, scope, body):
        path = scope["path"]
        base = f"/v2/models/{self.name}"
        paths = {base, f"{base}/versions/1"}
        if path == "/test/count":
            return 200, str(self.count).encode(), None
        if path.startswith("/test/"):
            self.down = path == "/test/down"
            return 200, b"", None
        if self.down:
            return 500, b"{}", None
        if path.startswith("/v2/health/") or (
            path.removesuffix("/ready") in paths and path.endswith("/ready")
        ):
            return 200, b"{}", None
        if path in paths:
            return 200, json.dumps(self.metadata()).encode(), None
        if path.removesuffix("/infer") in paths and scope["method"] == "POST":
            length = dict(scope["headers"]).get(b"inference-header-content-length")
            try:
                reply, size = self.infer(body, None if length is None else int(length))
            except (
                KeyError,
                ValueError,
                onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument,
            ) as error:
                return 400, json.dumps({"error": f"bad input: {error}"}).encode(), None
            return 200, reply, size
        return 404, b'{"error": "not found"}', None


def main(path, name, port):
    # Naming the protocol lets asyncio switch off Nagle's algorithm, which would cost 40 ms an answer.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(port)))
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    config = uvicorn.Config(Server(path, name), log_level="error", access_log=False)
    uvicorn.Server(config).run(sockets=[listener])


def write_classifier(path, shape=(8,), classes=4, seed=0, fitted=None):
    """Write an ONNX classifier, softmax of an affine map, with inputs ``x`` and outputs ``scores``."""
    from onnx import TensorProto, helper, numpy_helper, save

    rng = np.random.default_rng(seed)
    size = math.prod(shape)
    drawn = rng.normal(size=(size, classes)), rng.normal(size=classes)
    weight, bias = (
        numpy_helper.from_array(np.asarray(values, dtype=np.float32), name)
        for values, name in zip(fitted or drawn, "wb", strict=True)
    )
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *shape])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", classes])],
        [weight, bias],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))


if __name__ == "__main__":
    main(*sys.argv[1:])
