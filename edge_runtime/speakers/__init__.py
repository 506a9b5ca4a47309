"""What is learnt of a voice while it is listened to, and where that is kept."""
