"""What a desk solves, from data to decision: market, impact, basket, hedge, replay and the workflow that joins them."""
