"""Diagnosis of a fit: which limits bind at which price, what stands above the noise, how impact decays and drifts."""
