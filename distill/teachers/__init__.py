"""Teachers: models with more information than the device has (transcripts, hand-made features, larger encoders).

A teacher is a subclass of `distill.teachers.interface.Teacher` in a file of its own, and one line: in the table of
`distill.teachers.registry`, or in the entry points ``edgeemo.teachers`` of another package.
"""
