"""The speed bench: networks at equal MACs, ours and the rivals', in one interleaved run."""
