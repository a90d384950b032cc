"""Pictures and volumes drawn afresh while a network trains, on the device that it trains on: no two steps see the same.

bodies     what lies in the ice          content   which of it, how much, how it lies
pasting    into the fields               optics    through the lens, that of a microscope or not
ground     what lies behind: uneven ice  noise     of electrons and cameras
pictures   all of it: windows, noisy and true   settings   numbers of each picture
cells      what lies in a drawn cell     tilting   seen at many tilts and back, exactly
tomograms  all of it: windows of volumes, noisy and true
"""

from deice.worlds.drawn.pictures import Pictures
from deice.worlds.drawn.tomograms import Tomograms

WORLDS = {"pictures": Pictures, "tomograms": Tomograms}

__all__ = ["WORLDS", "Pictures", "Tomograms"]
