"""The study on real language models: `qtarget study-real`.

real_protocol, *.yaml   what is asked, of which models, by which arms, and in which order
real_rows               rows and questions of a setting, its four parts without a question in common
study_units             the units of work in their order, and the rate that tuning chose
unit_files              the result of each unit on disk, and the protocol it was made under
real_study              a study: its protocol, and where things are
arm_models, arm_answers models trained where they are not there yet; what they answer
unit_work               what each kind of unit does
rationale_tokens        p_y, entropy and trust at the tokens of real rows
real_comparison         the arms of a setting, by `qtarget compare`
real_page               tables of docs/real-models.md
run_real                all that is missing, in order
"""
