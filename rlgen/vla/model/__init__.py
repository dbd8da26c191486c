"""The network: SigLIP, Gemma with an action expert, flow matching."""
