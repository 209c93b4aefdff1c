"""The inference protocol over gRPC: the same gateway behind another door; needs ``grpcio``."""
