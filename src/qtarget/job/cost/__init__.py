"""`qtarget estimate`: what a run will take, before it is run.

live_bytes       how many bytes live while a model runs that has shapes and no numbers
student_memory   the student's step, rehearsed so: weights, gradients, activations
run_memory       the parts of a run's memory at its peak
batch_shape      rows and tokens of a run's batches
pilot            a few steps, timed
run_time         hours: training, its evaluations, its checkpoints
disk_use         bytes on disk: checkpoints, result, teacher cache
cache_width      how many tokens of a distribution a cache keeps
teacher_speed    how fast a teacher says what a cache keeps of it
cache_cost       a teacher cache: rows, tokens, bytes, and from how many runs on it pays
task_time        hours of `qtarget eval` on named tasks
run_cost         all of it
printed          headings, tables and units of what is printed
view             what is printed
"""
