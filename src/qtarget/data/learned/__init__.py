"""Conversations as a chat template writes them, and what of them is learned. Begin with `labels`.

labels           conversations as tokens, with labels on what is learned
learned_turns    which characters are learned: the assistant's turns, the last of them, or all
conversation     a row's conversation, and its text as the chat template writes it
message_search   whether that text shows every message
rendering_check  whether the template takes the conversation at all
"""
