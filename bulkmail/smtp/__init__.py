"""SMTP without a socket: replies, the conversation, and what a reply means. Pure."""
