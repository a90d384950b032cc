"""Worlds with a known truth: proteins in ice, seen through a lens, counted electron by electron.

matter      how strongly protein and ice scatter        proteins, maps   what the particles are
poses       where they lie and how they are turned      projection       potentials summed along the beam
scene       all of it through the lens                  detector         the camera
world       everything that can be set                  exposure         one picture and its truth
files       a set of pictures on disk
"""

from deice.worlds.detector import Detector
from deice.worlds.exposure import Exposure, signal_to_noise
from deice.worlds.files import describe, exposures, simulate
from deice.worlds.scene import Scene
from deice.worlds.world import World, world_of

__all__ = [
    "Detector",
    "Exposure",
    "Scene",
    "World",
    "describe",
    "exposures",
    "signal_to_noise",
    "simulate",
    "world_of",
]
