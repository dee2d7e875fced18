"""One step of a release per call; `state_machine.asl.json` says in which order."""
