"""Both ends of the gateway's way, to try it without a hospital: a modality and a small archive."""
