"""Who is compared."""

from bench.trainer.workload import Contender

OURS = Contender("ours", "ours", packed=True)
OURS_PADDED = Contender("ours, padded", "ours")
BY_HAND = Contender("loop by hand", "by hand")
TRAINER = Contender("Trainer + PEFT", "trainer")
TRL_PADDED = Contender("TRL, padded", "trl")
TRL_PACKED = Contender("TRL, packed", "trl", packed=True)
