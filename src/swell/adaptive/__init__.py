"""Adaptive inflation: priors, candidates, search and choice. The verb is `swell.adapt`."""
