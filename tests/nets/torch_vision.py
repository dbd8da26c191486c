"""Carries the weights of the vision networks over."""

from nets.torch_weights import dense, put


def norm(state, name: str):
    return {"scale": state[f"{name}.weight"], "bias": state[f"{name}.bias"]}


def conv(state, name: str):
    """Torch keeps two-dimensional convolutions (out, in, height, width)."""
    return {"kernel": state[f"{name}.weight"].transpose(2, 3, 1, 0), "bias": state[f"{name}.bias"]}


def linear_layers(depth: int) -> dict[str, tuple[str, ...]]:
    """Where the transformer's linear layers are kept here, by torch's names."""
    paths = {}
    for number in range(depth):
        layer = f"vit.net.{number}"
        paths |= {
            f"{layer}.mha.qkv_proj": (f"attention_{number}", "project"),
            f"{layer}.mha.out_proj": (f"attention_{number}", "leave"),
            f"{layer}.linear1": (f"mlp_{number}_widen",),
            f"{layer}.linear2": (f"mlp_{number}_narrow",),
        }
    return paths


def image_encoder(state, numbers, cameras: int):
    """Parameters of the encoder of images from a whole network's state dictionary."""
    depth = numbers["depth"]
    backbone = {
        "stem": {
            "first": conv(state, "backbone.vit.patch_embed.embed.0"),
            "second": conv(state, "backbone.vit.patch_embed.embed.3"),
        },
        "position": state["backbone.vit.pos_embed"],
        "norm": norm(state, "backbone.vit.norm"),
    }
    for name, path in linear_layers(depth).items():
        put(backbone, path, dense(state, f"backbone.{name}"))
    for number in range(depth):
        backbone[f"norm_{number}_attention"] = norm(state, f"backbone.vit.net.{number}.layer_norm1")
        backbone[f"norm_{number}_mlp"] = norm(state, f"backbone.vit.net.{number}.layer_norm2")
    heads = {f"camera_{camera}": head(state, head_name(camera, cameras)) for camera in range(cameras)}
    return {"backbone": backbone, **heads}


def head_name(camera: int, cameras: int) -> str:
    return "compress" if cameras == 1 else f"compress{camera + 1}"


def head(state, name: str):
    """Each camera's embedding."""
    return {
        "project": dense(state, f"{name}.input_proj.0"),
        "norm": norm(state, f"{name}.input_proj.1"),
        "weight": state[f"{name}.weight"][0],
    }


def encoder_to_torch(tree, depth: int, cameras: int) -> dict:
    """Torch's names of the encoder's parameters, with arrays whose norms are those of torch's layout."""
    backbone, names = tree["backbone"], {}

    def name_layer(layer, name):
        for ours, theirs in (("kernel", "weight"), ("scale", "weight"), ("bias", "bias")):
            if ours in layer:
                names[f"{name}.{theirs}"] = layer[ours]

    name_layer(backbone["stem"]["first"], "backbone.vit.patch_embed.embed.0")
    name_layer(backbone["stem"]["second"], "backbone.vit.patch_embed.embed.3")
    name_layer(backbone["norm"], "backbone.vit.norm")
    names["backbone.vit.pos_embed"] = backbone["position"]
    for name, path in linear_layers(depth).items():
        layer = backbone
        for part in path:
            layer = layer[part]
        name_layer(layer, f"backbone.{name}")
    for number in range(depth):
        name_layer(backbone[f"norm_{number}_attention"], f"backbone.vit.net.{number}.layer_norm1")
        name_layer(backbone[f"norm_{number}_mlp"], f"backbone.vit.net.{number}.layer_norm2")
    for camera in range(cameras):
        name, ours = head_name(camera, cameras), tree[f"camera_{camera}"]
        name_layer(ours["project"], f"{name}.input_proj.0")
        name_layer(ours["norm"], f"{name}.input_proj.1")
        names[f"{name}.weight"] = ours["weight"]
    return names
