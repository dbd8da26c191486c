import dataclasses
import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from sampling import less
from vla import openpi
from vla.openpi import relative

from rlgen.core.errors import UserError
from rlgen.vla.checkpoints.openpi import params_folder, read_params, write_params
from rlgen.vla.checkpoints.weights import expected_params, load_params, read_paligemma, start_params
from rlgen.vla.model import parameters, pi0, presets
from rlgen.vla.model.lora import merge_lora
from rlgen.vla.model.parameters import flat_names, nested

PART = "pi05_lora"


def velocity(config, part, params):
    given = openpi.arrays("inputs", part)
    x = pi0.noisy_actions(given["actions"], given["noise"], given["time"])
    return jax.jit(partial(pi0.velocity, config))(params, openpi.inputs(part), x, given["time"])


def same(a, b):
    a, b = flat_names(a), flat_names(b)
    assert set(a) == set(b)
    for name, leaf in a.items():
        np.testing.assert_array_equal(leaf, b[name], err_msg=name)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Writes a checkpoint of ours; copy it before damaging it."""
    folder = tmp_path_factory.mktemp("ours") / "1000"
    write_params(folder, openpi.params(PART))
    return folder


def test_a_checkpoint_of_ours_restores_to_the_same(written):
    config = openpi.config(PART)
    same(load_params(config, written), openpi.params(PART))
    same(load_params(config, written / "params"), openpi.params(PART))
    leaves = jax.tree.leaves(load_params(config, written, dtype=jnp.bfloat16))
    assert all(leaf.dtype == jnp.bfloat16 for leaf in leaves)


def test_openpi_finds_its_root_key_and_plain_names(written):
    tree = ocp.PyTreeCheckpointer().metadata(written / "params").item_metadata.tree
    assert list(tree) == ["params"]
    assert set(flat_names(tree["params"])) == set(openpi.arrays("params", PART))


def test_one_with_value_keys_is_the_same(tmp_path):
    valued = {f"params/{name}/value": leaf for name, leaf in openpi.arrays("params", PART).items()}
    ocp.PyTreeCheckpointer().save(tmp_path / "100" / "params", nested(valued))
    same(load_params(openpi.config(PART), tmp_path / "100"), openpi.params(PART))


def test_a_checkpoint_is_never_written_over(written):
    with pytest.raises(UserError, match="there already"):
        write_params(written, {"a": np.zeros(2)})
    same(load_params(openpi.config(PART), written), openpi.params(PART))


def test_another_model_is_refused_with_what_differs(written):
    config = openpi.config(PART)
    wide = dataclasses.replace(config, action=dataclasses.replace(config.action, mlp=2 * config.action.mlp))
    with pytest.raises(UserError, match=r"other shapes: .*mlp_1/gating_einsum is \[3, 2, 32, 64\], expected") as error:
        load_params(wide, written)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"9 missing: .*final_norm_1/scale.*10 not expected: .*final_norm_1/Dense_0"):
        load_params(dataclasses.replace(config, family="pi0"), written)


def test_shapes_are_refused_before_arrays_are_read(written, monkeypatch):
    monkeypatch.setattr(ocp.PyTreeCheckpointer, "restore", None)
    with pytest.raises(UserError, match="missing"):
        load_params(openpi.config("pi0"), written)


def test_a_truncated_checkpoint_names_a_leaf(tmp_path):
    # One large leaf, so that the largest file is its.
    params = {"a": {"small": np.arange(4.0)}, "b": {"large": np.random.default_rng(0).normal(size=(400, 400))}}
    write_params(tmp_path, params)
    for file in params_folder(tmp_path).rglob("d/*"):
        if file.stat().st_size > 10_000:
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(UserError, match="b/large cannot be read") as error:
        read_params(tmp_path, params)
    assert "\n" not in str(error.value)


def test_what_is_no_checkpoint_is_refused(tmp_path, written):
    with pytest.raises(UserError, match="no checkpoint"):
        load_params(openpi.config(PART), tmp_path)
    ocp.PyTreeCheckpointer().save(tmp_path / "other", {"weights": {"w": np.zeros(3)}})
    with pytest.raises(UserError, match="weights/w is no array below 'params'"):
        load_params(openpi.config(PART), tmp_path / "other")
    damaged = tmp_path / "broken"
    damaged.mkdir()
    (damaged / "_METADATA").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        load_params(openpi.config(PART), damaged)


@pytest.mark.parametrize("part", less(["pi0_lora", "pi05_lora"], ["pi0_lora"]))
def test_merging_adapters_changes_no_output(part):
    config = openpi.config(part)
    # Another strength than the rank's, so that it shows where it counts.
    strong = dataclasses.replace(config.language.lora, alpha=3.0 * config.language.lora.rank)
    config = dataclasses.replace(config, language=dataclasses.replace(config.language, lora=strong))
    merged = merge_lora(config, openpi.params(part))
    plain = presets.without_lora(config)
    assert {k: v.shape for k, v in flat_names(merged).items()} == {
        k: v.shape for k, v in flat_names(expected_params(plain)).items()
    }
    assert relative(velocity(plain, part, merged), np.asarray(velocity(config, part, openpi.params(part)))) < 1e-5


def test_fine_tuning_with_adapters_starts_from_the_base(tmp_path):
    base, config = openpi.params("pi0"), presets.with_lora(openpi.config("pi0"))
    write_params(tmp_path, base)
    params = start_params(config, tmp_path, jax.random.key(1))
    assert set(flat_names(params)) == set(flat_names(expected_params(config)))
    assert relative(velocity(config, "pi0", params), openpi.arrays("outputs", "pi0")["loss/v_t"]) < 1e-5
    factors = [np.asarray(leaf) for name, leaf in flat_names(params).items() if name.endswith("lora_a")]
    assert all(np.std(factor) == pytest.approx(0.01, rel=0.3) for factor in factors)


def test_adapters_that_are_there_are_read(written):
    same(start_params(openpi.config(PART), written, jax.random.key(0)), openpi.params(PART))


def paligemma_file(path, change=lambda flat: flat):
    flat = openpi.arrays("params", "pi0")
    theirs = {n: v for n, v in flat.items() if n.startswith("PaliGemma/") and not parameters.is_action_expert(n)}
    np.savez(path, **change({f"params/{n.removeprefix('PaliGemma/')}": v for n, v in theirs.items()}))
    return path


def test_paligemma_fills_its_part_and_the_rest_is_fresh(tmp_path):
    config = openpi.config("pi0")
    path = paligemma_file(tmp_path / "pali.npz")
    params, given = start_params(config, path, jax.random.key(3)), openpi.arrays("params", "pi0")
    for name, leaf in flat_names(params).items():
        fresh = parameters.is_action_expert(name) or not name.startswith("PaliGemma/")
        assert np.array_equal(leaf, given[name]) != fresh, name
        assert leaf.shape == given[name].shape and np.isfinite(leaf).all()


def test_a_foreign_or_damaged_paligemma_is_refused(tmp_path):
    expected, name = expected_params(openpi.config("pi0")), "params/llm/final_norm/scale"
    with pytest.raises(UserError, match="missing: PaliGemma/llm/final_norm/scale"):
        read_paligemma(paligemma_file(tmp_path / "a.npz", lambda f: {k: f[k] for k in f if k != name}), expected)
    with pytest.raises(UserError, match=r"final_norm/scale is \[5\], expected \[64\]"):
        read_paligemma(paligemma_file(tmp_path / "b.npz", lambda f: f | {name: np.zeros(5)}), expected)
    with pytest.raises(UserError, match="not a readable npz"):
        read_paligemma(tmp_path / "none.npz", expected)
    path = paligemma_file(tmp_path / "c.npz")
    data = path.read_bytes()
    middle = data.index(b"input_embedding.npy") + 4000
    path.write_bytes(data[:middle] + bytes(64) + data[middle + 64 :])
    with pytest.raises(UserError, match="params/llm/embedder/input_embedding cannot be read"):
        read_paligemma(path, expected)


@pytest.mark.parametrize("family", ["pi0", "pi05"])
@pytest.mark.parametrize("language, action", [(True, True), (True, False), (False, True)])
def test_what_is_frozen_beside_adapters_is_what_openpi_freezes(family, language, action):
    variants = json.loads((openpi.folder() / f"manifest_{family}.json").read_text())["lora_variants"]
    name = " + ".join(n + "_lora" * on for n, on in zip(("gemma_2b", "gemma_300m"), (language, action), strict=True))
    config = presets.with_lora(presets.preset(family), language=language, action=action)
    names = flat_names(expected_params(config))
    frozen = sorted(n for n in names if not parameters.is_trained(config, n, "lora"))
    assert frozen == sorted(variants[name]["frozen_by_get_freeze_filter"])


def test_training_the_expert_leaves_what_was_pretrained():
    config = presets.preset("pi05_lora")
    trained = [n for n in flat_names(expected_params(config)) if parameters.is_trained(config, n, "expert")]
    assert "time_mlp_in/kernel" in trained and "PaliGemma/llm/layers/mlp_1/linear" in trained
    assert not [n for n in trained if n.startswith(("PaliGemma/img", "PaliGemma/llm/embedder"))]
    assert not parameters.is_trained(config, "PaliGemma/img/head/kernel", "all", freeze_vision=True)
