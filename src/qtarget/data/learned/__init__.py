"""What of a conversation is learned. Begin with `labels`.

labels         conversations as tokens, with labels on what is learned
learned_turns  which characters are learned: the assistant's turns, the last of them, or all
teacher_texts  the teacher's prompts as tokens, beside those of the rows
"""
