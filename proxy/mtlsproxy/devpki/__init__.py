"""The development CA: an offline root, separate intermediates for servers and clients, CSRs, CRLs."""
