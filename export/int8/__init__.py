"""INT8: calibration, scale migration, sensitivity, Q/DQ forms, training under simulated INT8."""
