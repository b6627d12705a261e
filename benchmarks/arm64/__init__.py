"""Instructions of one inference on 64-bit Arm, counted under QEMU on any Linux machine."""
