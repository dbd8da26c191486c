"""How far the fixtures of a recorded episode stood from where they stand in our scene."""

from xml.etree import ElementTree

import numpy as np

from rlgen.libero.scene import Scene


def fixture_offset(scene: Scene, model_file: str) -> float | None:
    """The largest distance, metres, between a fixture in an episode's own MJCF and in the scene; None if unknown.

    The benchmark draws the places of cabinets, stoves and racks anew at every reset and stores them nowhere but in
    this MJCF, which people's files have with every demonstration.
    """
    try:
        root = ElementTree.fromstring(model_file)
        places = {body.get("name"): _position(body) for body in root.iterfind("./worldbody/body")}
    except (ElementTree.ParseError, ValueError):
        return None
    model = scene.model
    robot = model.body_rootid[scene.robot.hand_body]
    still = (model.body_weldid == 0) & (model.body_parentid == 0)
    offsets = [
        float(np.linalg.norm(places[model.body(index).name] - model.body_pos[index]))
        for index in np.flatnonzero(still)
        if index not in (0, robot) and model.body(index).name in places
    ]
    return max(offsets, default=None)


def _position(body: ElementTree.Element) -> np.ndarray:
    position = np.array([float(number) for number in body.get("pos", "0 0 0").split()])
    if position.shape != (3,):
        raise ValueError(f"pos {body.get('pos')!r}")
    return position
