"""torch as this project uses it: the device, deterministic arithmetic, several processes."""
