"""LIBERO's world on an accelerator: MuJoCo Warp for the physics, JAX for all else.

Pure functions, without MuJoCo or Warp while they run: `arm` the arm's kinematics and dynamics, `controller` the
torque of a substep, `kinematics` the poses of all bodies and sites, `observation` and `goals` what follows from these.

Every function takes the arrays of ONE world, and is mapped over N of them by its caller, with `jax.vmap`. Its first
argument are constants of a scene, made once from a `Scene` on the CPU by `observation.make_constants`: a frozen
dataclass that is a pytree of arrays. All worlds share it (`in_axes=None`), or each has its own (goals of several tasks,
fixtures that stand elsewhere), stacked along the first axis:

    constants = make_constants(scene)
    state = jax.vmap(set_goal, in_axes=(None, 0, 0, 0))(constants.controller, state, qpos, actions)  # a control step
    state, ctrl = jax.vmap(control, in_axes=(None, 0, 0, 0))(constants.controller, state, qpos, qvel)  # a substep
    poses = jax.vmap(forward_kinematics, in_axes=(None, 0))(constants.tree, qpos)
    seen = jax.vmap(observe, in_axes=(None, 0, 0, 0))(constants, poses, qpos, qvel)
    touching = atoms_touching(constants.goal, pairs, worlds, N)  # of the contacts of all worlds: not mapped
    reached = jax.vmap(goal_reached, in_axes=(None, 0, 0, 0))(constants.goal, poses_before, qpos, touching)

As in the compiled control step on the CPU, a goal is checked with the poses and contacts of the last physics pass,
which are those before the last integration, and with the joints after it. Observations are of the state after it.
"""
