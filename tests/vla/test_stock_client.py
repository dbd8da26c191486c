"""The stock `openpi-client`, with its own NumPy below 2, drives our server; skipped where it cannot be installed."""

import os
import shutil
import subprocess

import numpy as np
import pytest

from rlgen.bench.serve import make_requests
from rlgen.vla.serving.server import PolicyServer, serving

# The last one is imported by the client, which does not ask for it.
PACKAGES = ("openpi-client", "numpy<2", "typing_extensions")
PROGRAM = """
import sys
import numpy as np
from openpi_client import action_chunk_broker, image_tools, websocket_client_policy

assert np.__version__ < "2"
host, port, given, out, horizon = sys.argv[1:]
stored = dict(np.load(given))
image = image_tools.convert_to_uint8(image_tools.resize_with_pad(stored.pop("image"), 32, 32))
noise = stored.pop("noise")
sample = {"observation/image": image, "observation/wrist_image": stored["wrist"],
          "observation/state": stored["state"], "prompt": str(stored["prompt"])}
policy = websocket_client_policy.WebsocketClientPolicy(host, int(port))
first = policy.infer({**sample, "noise": noise})
broker = action_chunk_broker.ActionChunkBroker(policy, int(horizon))
steps = [broker.infer({**sample, "noise": noise})["actions"] for _ in range(int(horizon))]
try:
    websocket_client_policy.WebsocketClientPolicy(host, int(port)).infer({"prompt": "no images"})
    error = ""
except RuntimeError as raised:
    error = str(raised)
np.savez(out, actions=first["actions"], steps=np.stack(steps), error=error,
         metadata=policy.get_server_metadata()["action_horizon"], keys=sorted(first))
"""


@pytest.fixture(scope="module")
def stock_python(tmp_path_factory):
    """Returns the interpreter of a fresh environment with the client."""
    folder = tmp_path_factory.mktemp("stock")
    uv, python = shutil.which("uv"), folder / "env" / "bin" / "python"
    if uv is None:
        pytest.skip("openpi-client needs an environment of its own, and there is no uv to make it")
    for command in (
        [uv, "venv", "-q", "--python", "3.11", str(folder / "env")],
        [uv, "pip", "install", "-q", "--python", str(python), *PACKAGES],
    ):
        # Elsewhere than in this project, whose constraints are not for the client.
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=folder)
        if done.returncode:
            pytest.skip(
                f"openpi-client cannot be installed here: {(done.stderr.strip() or 'no reason').splitlines()[0]}"
            )
    return python


@pytest.mark.slow
def test_the_stock_client_gets_the_actions_of_the_policy(policy, stock_python, tmp_path):
    [request], [expected] = make_requests(policy, 1)
    given, out, program = tmp_path / "given.npz", tmp_path / "out.npz", tmp_path / "drive.py"
    arrays = {"image": request["observation/image"], "wrist": request["observation/wrist_image"]}
    np.savez(given, **arrays, state=request["observation/state"], noise=request["noise"], prompt=request["prompt"])
    program.write_text(PROGRAM)
    horizon = policy.config.horizon
    with serving(PolicyServer(policy, {"action_horizon": horizon})) as address:
        host, port = address.split(":")
        command = [str(stock_python), str(program), host, port, str(given), str(out), str(horizon)]
        clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=clean)
    assert done.returncode == 0, done.stderr
    answer = np.load(out)
    np.testing.assert_allclose(answer["actions"], expected, atol=1e-4)
    # The client hands out a chunk action by action.
    np.testing.assert_allclose(answer["steps"], expected, atol=1e-4)
    assert answer["metadata"] == horizon and "the observation has no 'observation/image'" in str(answer["error"])
    assert set(answer["keys"]) == {"actions", "policy_timing", "server_timing"}
