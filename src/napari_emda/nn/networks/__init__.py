"""Networks, one file each; `nn.network` defines the protocol."""
