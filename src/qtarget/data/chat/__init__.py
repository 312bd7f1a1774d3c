"""What a chat template makes of a conversation.

conversation    a row's conversation
chat_template   its text
chat_style      what the template does with unusual turns
message_search  whether that text shows every message
"""
