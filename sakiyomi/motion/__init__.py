"""Bodies that move: skeletons, the numbers a pose is described by, and characters moved by a model.

Axes: x forward at facing 0, y up, z right at facing 0; metres, radians, seconds. Facing phi means forward is
(cos phi, 0, sin phi) and right is (-sin phi, 0, cos phi): a positive turn is to the right.
"""
