"""Worlds with a known truth: proteins in ice, seen through a lens, counted electron by electron.

matter      how strongly protein, lipid, gold and ice scatter   proteins, maps   what the particles are
poses       where they lie and how they are turned              detector         the camera
records     what stands beside the pictures on disk             files            a set of pictures, in memory or on disk

pictures:   projection, potentials summed along the beam → scene, all of it through the lens
            world, everything that can be set            → exposure, one picture and its truth
tomograms:  membranes, filaments, room → cell, what lies where → voxels, as volumes
            lens, pictures of thick matter → tilt_series
            tomogram_world, everything that can be set → tomogram, one of them → tomogram_files
"""

from deice.worlds.detector import Detector
from deice.worlds.exposure import Exposure, signal_to_noise
from deice.worlds.files import default_world, describe, exposures, simulate
from deice.worlds.scene import Scene
from deice.worlds.tomogram import Tomogram
from deice.worlds.tomogram_world import TomogramWorld
from deice.worlds.world import World, world_of

__all__ = [
    "Detector",
    "Exposure",
    "Scene",
    "Tomogram",
    "TomogramWorld",
    "World",
    "default_world",
    "describe",
    "exposures",
    "signal_to_noise",
    "simulate",
    "world_of",
]
