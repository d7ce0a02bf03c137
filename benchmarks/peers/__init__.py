"""Samplers and learners of energies as others write them: plain compiled loops, and the libraries that have some."""
