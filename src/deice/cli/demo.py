"""deice demo."""
def demo():
    """Demo."""
