import re
from inspect import signature

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dppo import CHAINS, OURS, ChainCase, cases, config, exact, load, near, single, stub

from rlgen.diffusion.samplers import Noise, denoise, floored_sigma, predict_x0, sample_noise, transition_mean
from rlgen.diffusion.schedules import cosine_schedule, ddim_chain

STEPS = cases("02_p_mean_var", "mu")
WALKS = cases("03_sampler", "x_init")


def still_sigma(case: ChainCase, chain):
    """Deterministic mode: DDIM adds nothing, DDPM keeps its noise but for the last step."""
    return floored_sigma(chain, 1e-3).at[-1].set(0) if case.kind == "ddpm" else None


def three_ways(make, case: ChainCase, *inputs):
    """What a function gives of a chain: in double precision of the reference's and ours, in single of ours."""
    return exact(make(case.saved()), *inputs), exact(make(case.chain()), *inputs), single(make(case.chain()), *inputs)


def check(ways, golden, keys, prefix: str = "") -> None:
    """Compares points and means with the reference's; the differences are what its README says of rounding."""
    saved, own, rounded = ways
    for key in keys:
        near(saved[key], golden[prefix + key], CHAINS.same, f"{prefix}{key}, the reference's chain")
        near(own[key], golden[prefix + key], CHAINS.own, f"{prefix}{key}, our chain")
        near(rounded[key], own[key], OURS * CHAINS.same, f"{prefix}{key}, of single precision")


@pytest.mark.parametrize("name", STEPS)
def test_single_steps_match_golden(name):
    arrays, case = load("02_p_mean_var"), ChainCase.of(name)
    golden, weights = arrays.below(name), dict(arrays.below("stub"))
    np.testing.assert_array_equal(case.chain().timestep, golden["t"])
    check_sizes(arrays, golden["x"])
    floors = [key.split("/")[0].removeprefix("train_std") for key in golden if key.startswith("train_std")]
    assert floors
    inputs = (weights, arrays["state"], golden["x"], golden["noise"])

    def steps_of(chain, sigmas):
        def steps(weights, state, x, noise):
            predict, noise = stub(weights, state), jnp.clip(noise, -3, 3)

            def step(index, x, noise):
                output = predict(x, jnp.asarray(chain.timestep)[index])
                mean = transition_mean(chain, index, x, output)
                following = {f"{key}x_next": mean + sigma(chain)[index] * noise for key, sigma in sigmas.items()}
                return {"x0_unclamped": predict_x0(chain, index, x, output), "mu": mean, **following}

            return jax.vmap(step)(jnp.arange(chain.steps), x, noise)

        return steps

    train = {f"train_std{floor}/": lambda chain, floor=floor: floored_sigma(chain, float(floor)) for floor in floors}
    ways = three_ways(lambda chain: steps_of(chain, train), case, *inputs)
    check(ways, golden, ["mu", *(f"{key}x_next" for key in train)])
    for index in range(case.steps):
        # Up to a thousand at the noisiest step, before the clamp.
        near(ways[0]["x0_unclamped"][index], golden["x0_unclamped"][index], CHAINS.same, "x0", relative=True)
        near(ways[2]["x0_unclamped"][index], ways[1]["x0_unclamped"][index], OURS * CHAINS.same, "x0", relative=True)
    check_constants(golden, case)
    if any(key.startswith("det/") for key in golden):
        still = case.still()

        def sigma(chain):
            found = still_sigma(still, chain)
            return jnp.zeros(chain.steps) if found is None else found

        ways = three_ways(lambda chain: steps_of(chain, {"": sigma}), still, *inputs)
        check(ways, golden, ["mu", "x_next"], prefix="det/")
        check_constants(golden.below("det"), still)


def check_sizes(arrays, points) -> None:
    """Chunks and states have the sizes that the reference says, so that none was taken from its axes by mistake."""
    sizes = config(arrays, "meta")
    assert points.shape[-3:] == (sizes["B"], sizes["H"], sizes["D"])
    assert arrays["state"].shape == (sizes["B"], sizes["To"], sizes["Do"])


def check_constants(golden, case: ChainCase) -> None:
    """The variance and eta of each step, which the reference repeats for every sample."""
    log_variance = 2 * np.log(np.maximum(case.chain().sigma, 1e-10))
    for theirs, ours in ((golden["logvar"], log_variance), (golden["eta"], np.full(case.steps, case.eta))):
        np.testing.assert_allclose(theirs, np.broadcast_to(ours[:, None], theirs.shape), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", WALKS)
def test_walks_match_golden(name):
    arrays, case = load("03_sampler"), ChainCase.of(name)
    golden = arrays.below(name)
    check_sizes(arrays, golden["x_init"])
    assert signature(denoise).parameters["clip_noise"].default == config(arrays, "meta")["randn_clip_value"]
    inputs = (dict(arrays.below("base")), dict(arrays.below("ft")), arrays["state"], golden["x_init"], golden["noise"])
    found = [re.fullmatch(r"(\w+)_std([\d.]+)(\w*?)(?:_final_clip([\d.]+))?/(\w+)", key) for key in golden]
    train = [match.groups() for match in found if match]
    assert {(variant, part) for _, _, variant, _, part in train} >= {("", "chain"), ("_base_policy", "chain")}
    assert all(kind == "train" for kind, *_ in train)

    def walks_of(chain):
        def walk(predict, noise, sigma, part, clip_final=None):
            walked = denoise(predict, chain, noise, sigma, clip_final=clip_final)
            points = jnp.moveaxis(walked.points, 0, 1)[:, case.steps - case.tuned :]
            return points if part == "chain" else walked.chunk

        def walks(base, tuned, state, x_init, step_noise):
            base, tuned, noise, out = stub(base, state), stub(tuned, state), Noise(x_init, step_noise), {}
            for _, floor, variant, clip, part in train:
                predict = base if variant else mixed(base, tuned, chain, case.tuned)
                clip_final, key = None if clip is None else float(clip), f"train_std{floor}{variant}"
                key += "" if clip is None else f"_final_clip{clip}"
                out[f"{key}/{part}"] = walk(predict, noise, floored_sigma(chain, float(floor)), part, clip_final)
            return out

        return walks

    ways = three_ways(walks_of, case, *inputs)
    check(ways, golden, list(ways[0]))
    still, rest = case.still(), [key for key in golden if key.startswith(("eval_", "diffusion_eval_"))]
    assert "eval_deterministic/chain" in rest

    def still_walks_of(chain):
        def walks(base, tuned, state, x_init, step_noise):
            base, tuned, noise, out = stub(base, state), stub(tuned, state), Noise(x_init, step_noise), {}
            for key in rest:
                count = re.fullmatch(r"diffusion_eval_ft(\d+)/trajectories", key)
                predict = mixed(base, tuned, chain, case.tuned if count is None else int(count[1]))
                walked = denoise(predict, chain, noise, still_sigma(still, chain))
                out[key] = walked.chunk if count else jnp.moveaxis(walked.points, 0, 1)[:, case.steps - case.tuned :]
            return out

        return walks

    check(three_ways(still_walks_of, still, *inputs), golden, rest)


def mixed(base, tuned, chain, count: int):
    """The fine-tuned network for the last `count` steps, the frozen one before."""
    if count == 0:
        return base
    first = chain.timestep[chain.steps - count]
    return lambda x, timestep: jnp.where(timestep <= first, tuned(x, timestep), base(x, timestep))


def test_a_chain_in_two_parts_is_the_chain():
    chain = ddim_chain(cosine_schedule(50), 5)
    noise = sample_noise(jax.random.key(0), 5, (2, 4, 3))
    sigma = floored_sigma(chain, 0.1)

    def predict(x, timestep):
        return jnp.sin(x + timestep)

    whole = denoise(predict, chain, noise, sigma)
    early = denoise(predict, chain.part(0, 2), Noise(noise.initial, noise.steps[:2]), sigma[:2])
    late = denoise(predict, chain.part(2), Noise(early.chunk, noise.steps[2:]), sigma[2:])
    np.testing.assert_array_equal(late.chunk, whole.chunk)


def test_one_step_goes_from_noise_to_the_guess():
    chain = ddim_chain(cosine_schedule(100), 1, eta=1.0)
    noise = Noise(initial=jnp.full((2, 4, 3), 0.5), steps=jnp.full((1, 2, 4, 3), 9.0))
    walked = denoise(lambda x, timestep: jnp.zeros_like(x), chain, noise, floored_sigma(chain, 0.1))
    guess = 0.5 / np.sqrt(chain.alpha_bar[0])
    # The step noise is clamped to three deviations.
    np.testing.assert_allclose(walked.chunk, guess + 0.3, rtol=1e-6)
