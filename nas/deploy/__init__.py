"""From a trained network to files that run elsewhere, and the checks that they are what they claim to be."""
