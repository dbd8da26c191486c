import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from rlgen.core.errors import UserError
from rlgen.training.checkpoints import Checkpoints, digest
from rlgen.training.sharding import abstract_state, make_mesh, state_shardings


def make_state(seed: int = 0):
    params = {
        "a": jnp.asarray(np.random.default_rng(seed).normal(size=(40, 30)), jnp.float32),
        "b": jnp.zeros(3),
    }
    opt_state = optax.adamw(1e-3).init(params)
    return {"params": params, "opt_state": opt_state, "key": np.array([1, 2], np.uint32), "step": jnp.int32(7)}


def test_a_state_comes_back_to_the_bit(tmp_path):
    state = make_state()
    with Checkpoints(tmp_path / "c") as checkpoints:
        assert checkpoints.latest() is None
        for step in (1, 2, 3):
            checkpoints.save(step, state, {"note": step})
    with Checkpoints(tmp_path / "c") as checkpoints:
        found, metadata = checkpoints.restore(make_state(seed=1))
        assert checkpoints.latest() == 3 and metadata == {"note": 3}
    np.testing.assert_array_equal(found["params"]["a"], state["params"]["a"])
    assert type(found["opt_state"][0]) is type(state["opt_state"][0])
    assert found["key"].dtype == np.uint32 and int(found["step"]) == 7
    assert not (tmp_path / "c" / "1").exists()


def test_another_models_checkpoint_is_named(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, make_state(), {})
        other = make_state()
        other["params"]["a"] = jnp.zeros((4, 4))
        with pytest.raises(UserError, match=r"'a'.*float32\[40, 30\], expected float32\[4, 4\]"):
            checkpoints.restore(other)
        with pytest.raises(UserError, match="expected one"):
            checkpoints.restore({"params": make_state()["params"]})


def test_no_checkpoint_is_an_error(tmp_path):
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(UserError, match="no checkpoint"):
        checkpoints.restore(make_state())


def test_every_damaged_file_is_found(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, make_state(), {})
    whole = {path: path.read_bytes() for path in (tmp_path / "1").rglob("*") if path.is_file()}
    arrays = [path for path in whole if path.parent.name == "d" and path.stat().st_size > 1000]
    assert arrays
    for path in arrays:
        damaged = bytearray(whole[path])
        damaged[len(damaged) // 2] ^= 0xFF
        path.write_bytes(bytes(damaged))
        with Checkpoints(tmp_path) as checkpoints, pytest.raises(UserError, match="damaged"):
            checkpoints.restore(make_state())
        path.write_bytes(whole[path])


def test_a_full_disk_is_one_line_and_earlier_checkpoints_stay(tmp_path, monkeypatch):
    tree = {"a": np.arange(3.0)}

    def full(*_, **__):
        raise ValueError("RESOURCE_EXHAUSTED: Error writing a/0.0\nmore\nlines")

    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, tree, {"step": 1})
        with monkeypatch.context() as patch:
            patch.setattr(checkpoints._manager, "save", full)
            with pytest.raises(UserError, match=r"2 cannot be written: no space left on the disk; free space"):
                checkpoints.save(2, tree, {})
        restored, metadata = checkpoints.restore(tree)
    np.testing.assert_array_equal(restored["a"], tree["a"])
    assert metadata == {"step": 1}


def on_mesh(state):
    """Returns a state on a mesh, and what it is restored into."""
    shardings = state_shardings(make_mesh(devices=jax.devices()[:1]), jax.tree.map(jnp.asarray, state))
    return jax.device_put(state, shardings), abstract_state(jax.eval_shape(lambda: state), shardings)


def test_a_state_of_a_mesh_comes_back_with_its_shardings(tmp_path):
    state = make_state() | {"frozen": jnp.full((3, 3), 0.1, jnp.bfloat16)}
    sharded, target = on_mesh(state)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, sharded, {"note": 1})
        found, metadata = checkpoints.restore(target)
        plain, _ = checkpoints.restore(state)
    assert metadata == {"note": 1}
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(plain))
    for leaf, wanted in zip(jax.tree.leaves(found), jax.tree.leaves(target), strict=True):
        assert leaf.sharding == wanted.sharding
    for tree in (found, plain):
        jax.tree.map(np.testing.assert_array_equal, tree, state)


def test_a_damaged_or_foreign_state_of_a_mesh_is_named(tmp_path):
    sharded, target = on_mesh(make_state())
    other = make_state()
    other["params"]["a"] = jnp.zeros((4, 4))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, sharded, {})
        with pytest.raises(UserError, match="damaged or of another model") as error:
            checkpoints.restore(on_mesh(other)[1])
        assert "\n" not in str(error.value)
    arrays = [path for path in (tmp_path / "1").rglob("*") if path.parent.name == "d" and path.stat().st_size > 1000]
    for path in arrays:
        whole = path.read_bytes()
        damaged = bytearray(whole)
        damaged[len(damaged) // 2] ^= 0xFF
        path.write_bytes(bytes(damaged))
        with Checkpoints(tmp_path) as checkpoints, pytest.raises(UserError, match="damaged"):
            checkpoints.restore(target)
        path.write_bytes(whole)


@pytest.mark.parametrize("kind", ["plain", "sharded"])
def test_checkpoints_of_version_0_1_0_are_read_into_either_target(tmp_path, kind):
    """That version had two formats: NumPy arrays with a digest, and sharded ones with their metadata alone."""
    state = make_state()
    sharded, target = on_mesh(state)
    arrays = jax.tree.map(np.asarray, state) if kind == "plain" else sharded
    document = {"metadata": {"note": 1}, "digest": digest(arrays)} if kind == "plain" else {"note": 1}
    with ocp.CheckpointManager(tmp_path) as manager:
        manager.save(1, args=ocp.args.Composite(state=ocp.args.StandardSave(arrays), meta=ocp.args.JsonSave(document)))
    with Checkpoints(tmp_path) as checkpoints:
        for wanted in (state, target):
            found, metadata = checkpoints.restore(wanted)
            assert json.dumps(metadata) == '{"note": 1}'
            jax.tree.map(np.testing.assert_array_equal, found, state)
