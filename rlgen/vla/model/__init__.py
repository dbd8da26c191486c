"""The flow VLA as a network: SigLIP, Gemma with an action expert, flow matching."""
