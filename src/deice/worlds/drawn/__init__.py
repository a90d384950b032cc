"""Pictures drawn afresh while a network trains, on the device that it trains on: no two steps see the same.

bodies     what lies in the ice          content   which of it, how much, how it lies
pasting    into the fields               optics    through the lens, that of a microscope or not
ground     what lies behind: uneven ice  noise     of electrons and cameras
pictures   all of it: windows, noisy and true   settings   numbers of each picture
"""

from deice.worlds.drawn.pictures import Pictures

WORLDS = {"pictures": Pictures}

__all__ = ["WORLDS", "Pictures"]
