"""Programs that produce the published figures: grids, peers, growth, soak tests, tables. Not in the wheel."""
