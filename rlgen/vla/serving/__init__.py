"""A trained model at work: policy, actor, server and client."""
