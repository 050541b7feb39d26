"""`sluice-repository admin`: what an operator sees of uploads and drives, and does about them."""
