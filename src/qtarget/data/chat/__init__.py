"""Conversations as a chat template writes them.

conversation    a row's conversation, and its text as the chat template writes it
message_search  whether that text shows every message
"""
