"""Which versions a result depends on."""


def package_versions() -> dict[str, str]:
    """Versions of what the results depend on."""
    import platform
    from importlib import metadata

    names = (
        "rlgen",
        "jax",
        "flax",
        "optax",
        "mujoco",
        "numba",
        "numpy",
        "hf-libero",
        "robosuite",
        "tensorflow-datasets",
    )
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}
