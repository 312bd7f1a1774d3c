"""`qtarget search`: a race of targets on a user's own rows, scored on their development questions.

search_space                    the arms as a list, a grid or ranges, and how long they are raced
race                            which arms a rung drops: the statistics, and what they hold
drawn_arms                      arms from ranges, by Optuna
arm_configs                     an arm as a configuration of `qtarget train`
arm_checks                      arms that it would refuse, before any is trained
dev_questions, held_out_rows    what arms are scored on, in two halves; row_losses: the loss of each row
teacher_caches                  what teachers say, once for all arms
search_contents                 digests of rows, models and caches, which may change under one name
search_plan                     everything that is asked, checked before any run, and kept
search_runs, run_pool           a run and its result; runs beside one another, and after kill -9
search_outcome                  winner, confirmation, and the sentence; view, picture: what is shown
run_search                      the command
"""
