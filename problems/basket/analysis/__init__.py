"""What a desk asks about a basket beside its schedule: prices, sensitivities, frontier, what-ifs, robustness, capacity."""
