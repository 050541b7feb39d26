"""What tests of several folders share: real servers in processes of their own, and an oracle."""
