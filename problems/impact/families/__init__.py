"""Beyond the plain joint fit: fitted rates, robust loss, separable kernels, venues, sparse tails."""
