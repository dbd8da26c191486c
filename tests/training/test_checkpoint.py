import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlgen.core.errors import UserError
from rlgen.training.checkpoints import Checkpoints


def make_state(seed: int = 0):
    params = {
        "a": jnp.asarray(np.random.default_rng(seed).normal(size=(40, 30)), jnp.float32),
        "b": jnp.zeros(3),
    }
    memory = optax.adamw(1e-3).init(params)
    return {"params": params, "memory": memory, "key": np.array([1, 2], np.uint32), "step": jnp.int32(7)}


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
    assert type(found["memory"][0]) is type(state["memory"][0])
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


def test_a_full_disk_is_told_in_one_line_and_keeps_what_was_there(tmp_path, monkeypatch):
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
