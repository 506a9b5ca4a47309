"""What is learnt from the statistics of an encoder that is frozen: in closed form, or by steps."""
