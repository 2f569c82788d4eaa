"""Networks: one file each; `nn.network` says what a network is."""
