"""Our kernels as citizens of each library's own `MCMC`.

`from inference.kernels.native._numpyro import EnergyKernel` (a `numpyro.infer.mcmc.MCMCKernel`), or `…native._pyro` (a
`pyro.infer.mcmc.mcmc_kernel.MCMCKernel`): importing one loads that library alone.
"""
