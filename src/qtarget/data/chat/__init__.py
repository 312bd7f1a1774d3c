"""What a chat template makes of a conversation.

conversation    a row's conversation, and its text as the chat template writes it
chat_style      what the template does with unusual turns
message_search  whether that text shows every message
"""
