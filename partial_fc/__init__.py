"""The sharded margin-softmax classifier."""
